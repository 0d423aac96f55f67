"""Where the files of one container are, and who writes them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


def _in_bundle(name: str) -> cached_property[Path]:
    # Building a path is expensive, and each is used many times in a container's life.
    return cached_property(lambda paths: paths.bundle / name)


@dataclass(frozen=True)
class ContainerPaths:
    """The paths of one container below the run directory, which a reboot clears.

    The container has one directory of its own. It is the bundle, where the service writes
    ``config.json``, and conmon makes the ``attach`` socket and the ``ctl`` and ``winsz``
    FIFOs; and it is conmon's persist and working directory, for ``exit`` and ``oom``. The
    directories of exit file copies and of attach links are shared by all containers.
    """

    run_dir: Path
    container_id: str

    @cached_property
    def bundle(self) -> Path:
        """The container's own directory."""
        return self.run_dir / "containers" / self.container_id

    spec_file = _in_bundle("config.json")
    """The OCI runtime spec that the runtime is given."""
    shown = _in_bundle("bundle")
    """Where the client's bundle is shown to hooks; see ``ocigrpc.oci.shown_bundle``."""
    init_pid_file = _in_bundle("init.pid")
    """Process id of the container's first process; the runtime writes it."""
    monitor_pid_file = _in_bundle("conmon.pid")
    """Process id of conmon; its short-lived parent writes it."""
    attach_socket = _in_bundle("attach")
    """Socket of the container's input and output; conmon makes it."""
    control_fifo = _in_bundle("ctl")
    """FIFO that makes conmon resize the terminal or reopen the log."""
    runtime_log = _in_bundle("runtime.log")
    """The runtime's errors during create, as JSON lines."""
    exit_file = _in_bundle("exit")
    """The exit code in decimal; conmon writes it here and to :attr:`exit_copy`."""
    oom_file = _in_bundle("oom")
    """Exists if the kernel killed a process of the container because memory ran out."""

    @cached_property
    def exits(self) -> Path:
        """Directory of all containers' exit file copies."""
        return self.run_dir / "exits"

    @cached_property
    def exit_copy(self) -> Path:
        """Copy of the exit code, in a directory that one inotify watch covers."""
        return self.exits / self.container_id

    @cached_property
    def sockets(self) -> Path:
        """Directory of all containers' attach links."""
        return self.run_dir / "sockets"

    @cached_property
    def socket_link(self) -> Path:
        """Link to the bundle, which some versions of conmon make and leave behind."""
        return self.sockets / self.container_id
