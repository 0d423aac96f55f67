"""Running another program in a container, by the OCI runtime's own ``exec``.

conmon's exec mode is not used. It gives each program a log file, an exit file and an attach
socket that cuts output into 8 KiB packets, and its only advantage is to survive the service,
whose clients are gone then. Its timeout kills one process group, from which ``setsid``
escapes; a cgroup per program holds everything.

runc and crun relay the program's output while they wait for it, and runc changes the settings
of a terminal at some moment after the program has started. So a program that has a terminal,
or may leave others running, is detached; ``ocigrpc.host.processes.reaper`` waits for it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from ocigrpc.errors import InvalidArgument, RuntimeFailed, WrongState, cut
from ocigrpc.host.files.directory import make_directory, write_new_file
from ocigrpc.host.mappings.owners import Owners
from ocigrpc.host.processes.child import UMASK
from ocigrpc.oci.bundle import Spec, table
from ocigrpc.oci.options import require_option
from ocigrpc.oci.runtime import Runtime
from ocigrpc.oci.runtime_errors import classified, logged_error
from ocigrpc.oci.spec.capabilities import capabilities_of_exec
from ocigrpc.oci.spec.root_files import RootFiles
from ocigrpc.oci.spec.user_namespace import number_without_mapping
from ocigrpc.oci.spec.users import User, check_accounts, user_of
from ocigrpc.violations import ARGUMENTS_LIMIT_BYTES, Violations, arguments_fit
from ocigrpc.waiting import Deadline

_ALL = Owners()

# Errors of runc and crun for a container that they find paused.
_PAUSED = ("cannot exec in a paused container", "is paused")


class ExecProcess(Struct, frozen=True):
    """What to run; empty fields are taken from the container's first process.

    ``field`` is the field of the request that holds it, for the paths of wrong fields.
    """

    command: tuple[str, ...]
    env: dict[str, str] = {}
    working_dir: str = ""
    user: str = ""
    field: str = "process"


class ExecFiles:
    """The files of one exec, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process = directory / "process.json"
        """The process to run, for the runtime."""
        self.pid = directory / "pid"
        """Process id of the program; the runtime writes it when the program runs."""
        self.log = directory / "log"
        """The runtime's own errors, as JSON lines."""
        self._made = -1

    def make(self, process: dict[str, object]) -> None:
        """Make the directory, hold it open, and write the process to it.

        Raises ``HostFailed`` with the path, or ``OSError`` when it can't be opened.
        """
        make_directory(self.directory)
        self._made = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        write_new_file(self.process, msgspec.json.encode(process))

    def close(self) -> None:
        """Hold the directory that was made no longer."""
        if self._made >= 0:
            os.close(self._made)
            self._made = -1

    def remove(self) -> bool:
        """Remove the directory that was made, with these files; False where it has more in it.

        Whatever is mounted there by now is left alone: the directory itself is still open.
        """
        if self._made < 0:
            return False
        with suppress(OSError):
            for path in (self.process, self.pid, self.log):
                with suppress(FileNotFoundError):
                    os.unlink(path.name, dir_fd=self._made)
            os.rmdir(self.directory)
            return True
        return False

    def pid_written(self) -> int:
        """The program's process id; 0 before it is written."""
        try:
            return int(self.pid.read_bytes() or b"0")
        except FileNotFoundError:
            return 0


def exec_argv(
    runtime: Runtime,
    container_id: str,
    files: ExecFiles,
    subgroup: str,
    deadline: Deadline,
    *,
    detach: bool = False,
    console: str = "",
) -> list[str]:
    """The command line that runs the program of ``files`` in the container, and waits for it.

    ``subgroup`` is the program's cgroup below the container's; it must exist. A runtime without
    that option, as runc before 1.1 and crun before 1.0, puts the program into the container's
    cgroup; then the command line has no "--cgroup". Raises ``PreconditionFailed``
    (OPTION_UNKNOWN) for a runtime that lacks another option.

    With ``detach`` the runtime ends when the program runs, and the caller waits for the program.
    It relays nothing: the program gets the runtime's standard streams, and its terminal, if it
    has one, is sent to the socket ``console``.
    """
    options = ["--detach"] if detach else []
    options += ["--console-socket", console] if console else []
    unknown = runtime.unknown_options("exec", deadline)
    for name in ("--process", "--pid-file", *options):
        if name.startswith("--"):
            require_option(runtime.name, name, unknown)
    return [
        *runtime.argv(*runtime.log_argv(files.log, deadline), "exec"),
        *(() if "--cgroup" in unknown else ("--cgroup", f"/{subgroup}")),
        *("--process", str(files.process)),
        *("--pid-file", str(files.pid)),
        *options,
        container_id,
    ]


def process_of(
    own: Spec,
    wanted: ExecProcess,
    files: RootFiles,
    owners: Owners = _ALL,
    *,
    terminal: bool,
    rows: int = 0,
    columns: int = 0,
) -> dict[str, object]:
    """``process`` of the runtime spec: the container's ``own``, changed as ``wanted``.

    A terminal is made with its size, if one is given, since a program may read it at once.
    ``files`` are those of the container, and ``owners`` the users and groups that it has. Raises
    ``InvalidArgument`` for a user that is not in them, and when arguments and variables, with the
    container's own, are too long together.
    """
    process = {**own, "args": wanted.command, "terminal": terminal}
    process.pop("consoleSize", None)
    if terminal and (rows or columns):
        process["consoleSize"] = {"height": rows, "width": columns}
    environment = msgspec.convert(process.get("env") or [], list[str])
    kept = [entry for entry in environment if entry.partition("=")[0] not in wanted.env]
    if terminal and not any(entry.startswith("TERM=") for entry in kept):
        kept.append("TERM=xterm")
    process["env"] = variables = [*kept, *(f"{name}={text}" for name, text in wanted.env.items())]
    if not arguments_fit([*wanted.command, *variables]):
        problem = f"takes more than {ARGUMENTS_LIMIT_BYTES} bytes with the environment"
        raise InvalidArgument.of(f"{wanted.field}.command", problem, reason="TOO_LONG")
    if wanted.working_dir:
        process["cwd"] = wanted.working_dir
    user = _user(files, wanted, owners)
    if user is not None:
        own_user = table(process, "user")
        process["user"] = {**user.to_spec(), "umask": umask_of(process)}
        if held := table(process, "capabilities"):
            own_uid = msgspec.convert(own_user.get("uid") or 0, int)
            process["capabilities"] = capabilities_of_exec(held, own_uid, user.uid)
    return process


def umask_of(process: Spec) -> int:
    """The umask of a program, for runc, which ignores the process's and passes on its own."""
    umask = table(process, "user").get("umask")
    return umask & 0o777 if isinstance(umask, int) else UMASK


def _user(files: RootFiles, wanted: ExecProcess, owners: Owners) -> User | None:
    """The wanted user, or None for the container's own."""
    violations = Violations()
    found = None
    if wanted.user:
        found = user_of(files, wanted.user, (), violations)
    else:
        check_accounts(files, violations)
    try:
        violations.raise_any()
    except InvalidArgument as error:
        # Its field is named as in a config.
        problem = error.violations[0].description
        raise InvalidArgument.of(f"{wanted.field}.user", problem, reason=error.reason) from error
    # For runtimes it is an error like any other, and each has words of its own.
    lacking = number_without_mapping(found, owners) if found else None
    if lacking is not None:
        problem = f"{lacking} is in none of the mappings of the container's user namespace"
        raise InvalidArgument.of(f"{wanted.field}.user", problem, reason="ID_NOT_MAPPED")
    return found


def exec_failure(
    files: ExecFiles, container_id: str, stderr: str
) -> RuntimeFailed | WrongState | None:
    """Why the runtime could not run the program; None if the exit code is the program's.

    For a file that the kernel won't execute, runc first writes the pid as if the program
    ran; then it ends with exit code 1 and an error on standard error only, which counts as
    the program's.
    """
    if files.pid_written() and not logged_error(files.log):
        return None
    return not_run(files, container_id, stderr)


def not_run(
    files: ExecFiles, container_id: str, stderr: str, unseen: str = ""
) -> RuntimeFailed | WrongState:
    """Why the runtime could not run the program.

    ``WrongState`` when the container was paused at that moment, though it may run again.
    ``unseen`` is what is known if it has logged nothing, and what it has printed is not.
    """
    output = cut(logged_error(files.log))
    if any(paused in output for paused in _PAUSED):
        return WrongState.of(container_id, "paused", "running")
    output = output or cut(stderr)
    return classified(
        RuntimeFailed(
            "the OCI runtime could not run the program: "
            f"{output or unseen or 'it printed nothing'}",
            reason="EXEC_FAILED",
            verb="exec",
            container_id=container_id,
            output=output,
        )
    )
