"""An OCI runtime as a command line: https://github.com/opencontainers/runtime-spec runtime.md."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

import msgspec
from msgspec import Struct, field

from ocigrpc.errors import HostFailed, RuntimeFailed, Timeout, cut
from ocigrpc.failing import host_failing
from ocigrpc.host.processes.child import ENVIRONMENT, OUTPUT_LIMIT_BYTES, Completed, run
from ocigrpc.host.processes.programs import find_program
from ocigrpc.metrics import RUNTIME_RUNS
from ocigrpc.oci.decoding import decoded
from ocigrpc.oci.options import Option, Options, require_option
from ocigrpc.oci.runtime_errors import classified
from ocigrpc.traces import span_of
from ocigrpc.waiting import Deadline

# Error of runc, with cgroup v1, when the kernel did not freeze all processes within a fifth of a
# second because the CPUs are busy; runc has thawed them again.
_UNFROZEN = "unable to freeze"

_FREEZE_RETRY_S = 0.05

_UPDATE_FILE = "resources-"

# Default state directories of runtimes, by the name of their binary.
_ROOTS = {"runc": "/run/runc", "crun": "/run/crun", "youki": "/run/youki"}

# Whose pause and resume write the freezer's file of the cgroup and nothing else, and whose state
# is read from there. youki's are not among them: it keeps "paused" in a file of its own.
_FREEZERS = ("runc", "crun")

# A copy of its own program, which runc or crun executes when it starts; see ``is_own_mount``.
_CLONE = re.compile(r"((?:runc|crun)\.)[A-Za-z0-9]{6}")

# Most bytes read of the output of ``state``: it has all annotations, and JSON escapes can make
# them six times as long.
_STATE_LIMIT_BYTES = 8 << 20

_LOG_LOST = (
    "its errors are taken from its standard error, and those of a program of Exec with detach and "
    "without a terminal are not known"
)
_DETACHED_LOST = "Exec has no terminals, and Exec and ExecSync have no keep_running or detach"

# The options that we pass to a runtime, by verb; the empty verb has those before any verb.
OPTIONS: Mapping[str, Sequence[Option]] = {
    "": (
        Option("--log", _LOG_LOST, os.devnull),
        Option("--log-format", _LOG_LOST, "json"),
        Option("--systemd-cgroup", "it makes no container with the systemd manager"),
    ),
    "create": (Option("--no-pivot", "CreateContainer refuses no_pivot"),),
    "exec": (
        Option(
            "--cgroup",
            "a program of Exec is moved into its own cgroup only after its start: processes that "
            "it has left behind by then live on until the container ends",
            "/x",
        ),
        Option("--process", "Exec and ExecSync are refused", "/x"),
        Option("--pid-file", "Exec and ExecSync are refused", "/x"),
        Option("--detach", _DETACHED_LOST),
        Option("--console-socket", _DETACHED_LOST, "/x"),
    ),
    "update": (Option("--resources", "UpdateContainerResources is refused", "/x"),),
    "delete": (Option("--force", "what a failed create has made may stay"),),
}


class RuntimeState(Struct, frozen=True):
    """The fields of ``state``'s output that are used here; ``status`` as the runtime has it."""

    id: str
    status: str
    pid: int = 0
    bundle: str = ""


# Made at import: msgspec crashes when two threads use a type for the first time.
_STATE = msgspec.json.Decoder(RuntimeState)


class Runtime(Struct, frozen=True):
    """One OCI runtime of the settings; every verb is one run of its binary, in ``env``.

    Every verb raises ``RuntimeFailed`` with the runtime's output when it fails,
    ``Timeout`` (RUNTIME_TIMEOUT) when it takes longer than ``verb_timeout_s``, ``Timeout``
    or ``Cancelled`` by the caller's deadline.
    """

    name: str
    path: str
    global_argv: tuple[str, ...] = ()
    verb_timeout_s: float = 60.0
    env: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT)
    options: Options = field(default_factory=Options)
    pauses_by_freezer: bool = False
    """Whether freezing the cgroup is all that its pause does, and need not be done by it."""

    def unknown_options(self, verb: str, deadline: Deadline, path: str = "") -> frozenset[str]:
        """Those of ``OPTIONS`` that this binary does not know; raises ``Cancelled``.

        ``path`` is where :meth:`find` has just found it.
        """
        program = [path, *self.global_argv] if path else self.argv()
        argv = [*program, verb] if verb else program
        return self.options.unknown(argv, OPTIONS[verb], deadline, self.env)

    def log_argv(self, path: Path, deadline: Deadline) -> tuple[str, ...]:
        """The options that make it write its errors to a file, as JSON lines."""
        unknown = self.unknown_options("", deadline)
        if unknown & {"--log", "--log-format"}:
            return ()
        return ("--log", str(path), "--log-format", "json")

    def find(self) -> str:
        """Absolute path of the binary. Raises ``RuntimeFailed`` (RUNTIME_NOT_FOUND)."""
        found = find_program(self.path)
        if found is None:
            raise RuntimeFailed(
                f"OCI runtime {self.name!r} is not at {self.path!r}, or can't be executed",
                reason="RUNTIME_NOT_FOUND",
                runtime_handler=self.name,
                path=self.path,
            )
        return found

    def argv(self, *arguments: str) -> list[str]:
        """The command line with ``arguments``, a verb and what follows it."""
        return [find_program(self.path) or self.path, *self.global_argv, *arguments]

    def entry_path(self, container_id: str) -> str:
        """The directory of its state of a container; empty where that is not known.

        runc and crun have one directory per container, named by its id, in their ``--root``.
        """
        root = _ROOTS.get(os.path.basename(self.path), "")
        for option, value in itertools.pairwise((*self.global_argv, "")):
            if option == "--root":
                root = value
            elif option.startswith("--root="):
                root = option.removeprefix("--root=")
        return f"{root.rstrip('/')}/{container_id}" if root.startswith("/") else ""

    def is_own_mount(self, mount_point: str, source: str) -> bool:
        """Whether it mounted ``source`` in a container's directory, and was killed before unmount.

        runc and crun bind their own program there when they start, as a protection against
        the container (CVE-2019-5736).
        """
        found = _CLONE.fullmatch(os.path.basename(mount_point))
        program = os.path.basename(source.removesuffix("//deleted"))
        known = os.path.basename(os.path.realpath(find_program(self.path) or self.path))
        return found is not None and program in (found[1].rstrip("."), known)

    def start(self, container_id: str, deadline: Deadline, cwd: str | None = None) -> None:
        """Run a created container's program, and hooks in ``cwd``; also raises ``CannotRun``."""
        try:
            self._verb(deadline, "start", container_id, cwd=cwd)
        except RuntimeFailed as error:
            raise classified(error) from error

    def pause(self, container_id: str, deadline: Deadline) -> None:
        """Freeze a running container; on a busy host this may take several attempts."""
        bounded = deadline.within(self.verb_timeout_s)
        while True:
            try:
                self._verb(bounded, "pause", container_id)
                return
            except RuntimeFailed as error:
                if _UNFROZEN not in error.metadata.get("output", ""):
                    raise
            # Not ``bounded``: at its end the next attempt raises RUNTIME_TIMEOUT.
            deadline.wait(timeout_s=_FREEZE_RETRY_S)

    def resume(self, container_id: str, deadline: Deadline) -> None:
        """Thaw a paused container."""
        self._verb(deadline, "resume", container_id)

    def update(
        self,
        container_id: str,
        resources: Mapping[str, object],
        directory: str,
        deadline: Deadline,
    ) -> None:
        """Change limits to ``resources``, which is ``linux.resources`` of the runtime spec.

        The runtime reads them from a temporary file in ``directory``, since its standard input
        is /dev/null. Also raises ``HostFailed`` when that can't be written.
        """
        require_option(self.name, "--resources", self.unknown_options("update", deadline))
        with (
            host_failing("write a file in", directory),
            NamedTemporaryFile(dir=directory, prefix=_UPDATE_FILE, buffering=0) as file,
        ):
            file.write(msgspec.json.encode(resources))
            self._verb(deadline, "update", "--resources", file.name, container_id)

    def delete(self, container_id: str, deadline: Deadline, cwd: str | None = None) -> None:
        """Kill a container if it lives, and delete its state; an unknown id is no error.

        Hooks are run in ``cwd``.
        """
        self._verb(deadline, "delete", "--force", container_id, cwd=cwd)

    def state_json(self, container_id: str, deadline: Deadline) -> bytes:
        """The state of a container, as the runtime's JSON."""
        return self._verb(
            deadline, "state", container_id, output_limit_bytes=_STATE_LIMIT_BYTES
        ).stdout

    def state(self, container_id: str, deadline: Deadline) -> RuntimeState:
        """The state of a container, as the runtime reports it."""
        stdout = self.state_json(container_id, deadline)
        try:
            return decoded(_STATE, stdout)
        except ValueError as error:
            output = cut(stdout.decode(errors="replace"))
            raise RuntimeFailed(
                f"{self.name} state printed no state ({error}): {output!r}",
                reason="RUNTIME_OUTPUT_MALFORMED",
                verb="state",
                output=output,
            ) from error

    def _verb(
        self,
        deadline: Deadline,
        verb: str,
        *arguments: str,
        cwd: str | None = None,
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
    ) -> Completed:
        bounded = deadline.within(self.verb_timeout_s)
        argv = self.argv(verb, *arguments)
        RUNTIME_RUNS.add(self.name, verb)
        with span_of(f"{self.name} {verb}"), self._explained(verb):
            ended = run(argv, bounded, env=self.env, cwd=cwd, output_limit_bytes=output_limit_bytes)
            if ended.returncode != 0:
                output = cut(ended.failure_text)
                raise RuntimeFailed(
                    f"{self.name} {verb} failed with status {ended.returncode}: {output}",
                    verb=verb,
                    runtime_handler=self.name,
                    returncode=ended.returncode,
                    output=output,
                )
        return ended

    @contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        """Raise the errors of a run that does not come to its end as those of the runtime."""
        try:
            yield
        except Timeout as error:
            raise Timeout(
                f"{self.name} {verb} did not end in time",
                reason="RUNTIME_TIMEOUT",
                verb=verb,
                runtime_handler=self.name,
            ) from error
        except HostFailed as error:
            raise RuntimeFailed(
                error.message, reason="RUNTIME_NOT_FOUND", verb=verb, **error.metadata
            ) from error


def pauses_by_freezer(path: str) -> bool:
    """Whether the runtime that has this path, by the name of its program, only freezes to pause."""
    return os.path.basename(os.path.realpath(find_program(path) or path)) in _FREEZERS


def remove_update_files(directory: str) -> None:
    """Remove the files of an ``update`` that was interrupted with the service."""
    for file in Path(directory).glob(f"{_UPDATE_FILE}*"):
        file.unlink(missing_ok=True)
