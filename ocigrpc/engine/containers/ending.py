"""How a container ends: what is known of it, and the exit status that it makes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ocigrpc.conmon.exit_file import ExitFile
from ocigrpc.engine.model.signals import exit_signal
from ocigrpc.engine.model.values import ExitStatus, Provenance
from ocigrpc.waiting import Deadline, Latch

_SIGKILL_CODE = 128 + 9

_MESSAGES = {
    Provenance.PENDING: "the container has ended; its monitor has not reported how yet",
    Provenance.FILE_MISSING: "the monitor ended without writing an exit file",
    Provenance.FILE_EMPTY: "the exit file is empty",
    Provenance.FILE_INVALID: "the exit file holds no exit code",
    Provenance.MONITOR_LOST: "the monitor was gone before the container ended",
    Provenance.REBOOT: "the node was rebooted while the container lived",
    Provenance.MONITOR_HUNG: "the monitor hung, and was killed before it reported how",
}


# The values of the labels of the metric that counts ends; see ``exit_class``.
EXIT_CLASSES = (
    *((each, Provenance.EXIT_FILE.value) for each in ("0", "other", "signal", "oom")),
    *(("unknown", each.value) for each in _MESSAGES if each is not Provenance.PENDING),
)


@dataclass(slots=True)
class Ending:
    """What is seen of one container's end before its exit status is final.

    ``init_ended`` is set when its first process has ended, ``init_ended_ns`` is when that was
    seen, 0 until then.
    ``monitor_deadline`` is until when its monitor may write the exit file, from that moment;
    ``monitor_hung`` that it did not, and was killed. ``killed_by_us`` is whether we have sent
    SIGKILL: then a death by it is no work of the OOM killer. ``killed_all`` is whether a stop has
    seen its cgroup empty, and only waits for the exit status.
    """

    init_ended: Latch = field(default_factory=Latch)
    init_ended_ns: int = 0
    monitor_deadline: Deadline | None = None
    monitor_hung: bool = False
    killed_by_us: bool = False
    killed_all: bool = False

    def begin(self, monitor_timeout_s: float) -> None:
        """Note that the first process has ended just now."""
        self.init_ended_ns = self.init_ended_ns or time.time_ns()
        self.expect_exit_file(monitor_timeout_s)

    def expect_exit_file(self, monitor_timeout_s: float) -> None:
        """Give the monitor this long from now to report how the first process ended."""
        self.monitor_deadline = Deadline(monitor_timeout_s)
        self.init_ended.set()

    def unknown(self, why: Provenance) -> ExitStatus:
        """The exit status that nobody knows, or not yet."""
        return unknown_exit(why, self.init_ended_ns or time.time_ns())

    def without_exit_file(self) -> ExitStatus:
        """The exit status of a container whose monitor has ended and left none."""
        if self.monitor_hung:
            return self.unknown(Provenance.MONITOR_HUNG)
        # The monitor saw the end if the end came first; then it had its chance to write.
        seen = self.init_ended_ns > 0
        return self.unknown(Provenance.FILE_MISSING if seen else Provenance.MONITOR_LOST)


def exit_of(exit_file: ExitFile, oom: bool) -> ExitStatus:
    """What an exit file means; ``oom`` is whether the kernel killed for lack of memory."""
    exit_code = exit_file.exit_code
    if exit_code is None:
        why = Provenance.FILE_INVALID if exit_file.text else Provenance.FILE_EMPTY
        return unknown_exit(why, exit_file.written_ns)
    return ExitStatus(
        provenance=Provenance.EXIT_FILE,
        finished_ns=exit_file.written_ns,
        exit_code=exit_code,
        signal=exit_signal(exit_code),
        # Another process may have been the victim, and the first one ended otherwise.
        oom_killed=oom and exit_code == _SIGKILL_CODE,
    )


def exit_class(status: ExitStatus) -> tuple[str, str]:
    """One of ``EXIT_CLASSES``: how a container ended, and where that is known from."""
    if status.exit_code is None:
        how = "unknown"
    elif status.oom_killed:
        how = "oom"
    elif status.signal is not None:
        how = "signal"
    else:
        how = "other" if status.exit_code else "0"
    return how, status.provenance.value


def unknown_exit(why: Provenance, finished_ns: int) -> ExitStatus:
    """An exit status without an exit code, and the reason for that."""
    return ExitStatus(provenance=why, finished_ns=finished_ns, message=_MESSAGES[why])
