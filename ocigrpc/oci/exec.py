"""Running a further program in a container, by the OCI runtime's own ``exec``.

conmon has an exec mode, which is not used: it would give each program a log file, an exit
file and an attach socket that cuts output into 8 KiB packets, and in return only survive
the service, whose clients have gone then. Its time-out kills one process group, where a
``setsid`` escapes; a cgroup of its own holds all.

runc and crun that wait for a program pass on what it writes, and runc takes a terminal's own
settings from it, at some moment after it has begun. So a program with a terminal, or one that
may leave others behind, is detached, and waited for by ``ocigrpc.host.processes.reaper``.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from ocigrpc.errors import InvalidArgument, RuntimeFailed, WrongState, cut
from ocigrpc.host.files.create import make_directory, write_new_file
from ocigrpc.host.processes.child import UMASK
from ocigrpc.oci.bundle import Spec, table
from ocigrpc.oci.options import require_option
from ocigrpc.oci.runtime import Runtime
from ocigrpc.oci.runtime_errors import explained
from ocigrpc.oci.runtime_log import logged_error
from ocigrpc.oci.spec.capabilities import capabilities_of_exec
from ocigrpc.oci.spec.root_files import RootFiles
from ocigrpc.oci.spec.users import User, check_accounts, user_of
from ocigrpc.violations import ARGUMENTS_LIMIT_BYTES, Violations, arguments_fit
from ocigrpc.waiting import Deadline

_PAUSED = ("cannot exec in a paused container", "is paused")
"""What runc and crun say of one that is paused when they come to look."""


class ExecProcess(Struct, frozen=True):
    """What to run; empty fields are as with the container's first process.

    ``field`` is where the request has it, for the paths of wrong fields.
    """

    command: tuple[str, ...]
    env: dict[str, str] = {}
    working_dir: str = ""
    user: str = ""
    field: str = "process"


class ExecFiles(Struct, frozen=True):
    """The files of one exec, in a directory of its own."""

    directory: Path

    @property
    def process(self) -> Path:
        """What to run, for the runtime."""
        return self.directory / "process.json"

    @property
    def pid(self) -> Path:
        """Process id of the program; the runtime writes it once the program runs."""
        return self.directory / "pid"

    @property
    def log(self) -> Path:
        """The runtime's own errors, as JSON lines."""
        return self.directory / "log"

    def pid_written(self) -> int:
        """The process id; 0 before it is written."""
        try:
            return int(self.pid.read_bytes() or b"0")
        except FileNotFoundError:
            return 0


def exec_argv(
    runtime: Runtime, container_id: str, files: ExecFiles, subgroup: str, deadline: Deadline
) -> list[str]:
    """The command line that runs the program of ``files`` in the container, and waits for it.

    ``subgroup`` is the program's cgroup below the container's; it must exist. A runtime that
    knows of none, as runc before 1.1 and crun before 1.0, gets it into the container's: see
    :func:`knows_subgroups`. The process says whether it has a terminal. Raises
    ``PreconditionFailed`` (OPTION_UNKNOWN) for a runtime that lacks what is needed.
    """
    return _argv(runtime, container_id, files, subgroup, deadline)


def detached_argv(
    runtime: Runtime,
    container_id: str,
    files: ExecFiles,
    subgroup: str,
    console: str,
    deadline: Deadline,
) -> list[str]:
    """The same, but ended once the program runs, which is left to who waits for its end.

    The runtime passes nothing on: standard streams are the program's own, and its terminal,
    if it has one, is brought to the socket ``console``.
    """
    words = ("--detach", "--console-socket", console) if console else ("--detach",)
    return _argv(runtime, container_id, files, subgroup, deadline, *words)


def knows_subgroups(runtime: Runtime, deadline: Deadline) -> bool:
    """Whether the runtime puts a program into the cgroup that it is told."""
    return "--cgroup" not in runtime.unknown_options("exec", deadline)


def _argv(
    runtime: Runtime,
    container_id: str,
    files: ExecFiles,
    subgroup: str,
    deadline: Deadline,
    *words: str,
) -> list[str]:
    unknown = runtime.unknown_options("exec", deadline)
    for word in ("--process", "--pid-file", *(word for word in words if word.startswith("--"))):
        require_option(runtime.name, word, unknown)
    return [
        *runtime.argv(*runtime.log_argv(files.log, deadline), "exec"),
        *(() if "--cgroup" in unknown else ("--cgroup", f"/{subgroup}")),
        *("--process", str(files.process)),
        *("--pid-file", str(files.pid)),
        *words,
        container_id,
    ]


def write_process(files: ExecFiles, process: dict[str, object]) -> None:
    """Make the directory, and put the process there; raises ``HostFailed`` with the path."""
    make_directory(files.directory)
    write_new_file(files.process, msgspec.json.encode(process))


def process_of(
    spec: Spec,
    asked: ExecProcess,
    files: RootFiles,
    *,
    terminal: bool,
    rows: int = 0,
    columns: int = 0,
) -> dict[str, object]:
    """``process`` of the runtime spec: the container's own with what is asked for.

    A terminal is born with its size, if one is given: a program may look at once. ``files``
    are those of the container. Raises ``InvalidArgument`` for a user whom they don't know,
    and for more arguments and variables, the container's own among them, than a program can
    be given.
    """
    process = {**table(spec, "process"), "args": asked.command, "terminal": terminal}
    process.pop("consoleSize", None)
    if terminal and (rows or columns):
        process["consoleSize"] = {"height": rows, "width": columns}
    environment = msgspec.convert(process.get("env") or [], list[str])
    kept = [entry for entry in environment if entry.partition("=")[0] not in asked.env]
    if terminal and not any(entry.startswith("TERM=") for entry in kept):
        kept.append("TERM=xterm")
    process["env"] = variables = [*kept, *(f"{name}={text}" for name, text in asked.env.items())]
    if not arguments_fit([*asked.command, *variables]):
        problem = f"takes more than {ARGUMENTS_LIMIT_BYTES} bytes with the environment"
        raise InvalidArgument.of(f"{asked.field}.command", problem, reason="TOO_LONG")
    if asked.working_dir:
        process["cwd"] = asked.working_dir
    user = _user(files, asked)
    if user is not None:
        own_user = table(process, "user")
        process["user"] = {**user.to_spec(), "umask": umask_of(process)}
        if own := table(process, "capabilities"):
            own_uid = msgspec.convert(own_user.get("uid") or 0, int)
            process["capabilities"] = capabilities_of_exec(own, own_uid, user.uid)
    return process


def umask_of(process: Spec) -> int:
    """The umask of a program; runc passes on its own one, whatever the process says."""
    umask = table(process, "user").get("umask")
    return umask & 0o777 if isinstance(umask, int) else UMASK


def _user(files: RootFiles, asked: ExecProcess) -> User | None:
    """The user that is asked for, or None for the container's own."""
    violations = Violations()
    found = None
    if asked.user:
        found = user_of(files, asked.user, (), violations)
    else:
        check_accounts(files, violations)
    try:
        violations.raise_any()
    except InvalidArgument as error:
        # Named there as in a config.
        problem = error.violations[0].description
        raise InvalidArgument.of(f"{asked.field}.user", problem, reason=error.reason) from error
    return found


def exec_failure(
    files: ExecFiles, container_id: str, stderr: str
) -> RuntimeFailed | WrongState | None:
    """What kept the runtime from running the program; None if the exit code is the program's.

    ``WrongState`` when the container was paused just then, though it may run on by now.
    runc tells only on standard error of a file that the kernel won't execute, when it has
    said that the program runs: that is exit code 1 with the words there.
    """
    words = cut(logged_error(files.log))
    if files.pid_written() and not words:
        return None
    if any(paused in words for paused in _PAUSED):
        return WrongState.of(container_id, "paused", "running")
    words = words or cut(stderr)
    return explained(
        RuntimeFailed(
            f"the OCI runtime could not run the program: {words or 'it said nothing'}",
            reason="EXEC_FAILED",
            verb="exec",
            container_id=container_id,
            output=words,
        )
    )
