"""Starts a program in a container: the process of the spec, the runtime, and the session."""

from __future__ import annotations

from contextlib import ExitStack

from msgspec import convert

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.sessions.exec_session import ExecSession
from ocigrpc.engine.sessions.exec_workspace import ExecWorkspace
from ocigrpc.engine.sessions.messages import ExecStart, TerminalSize
from ocigrpc.host.mappings.owners import Owners
from ocigrpc.host.processes.child import Child, reaper_argv
from ocigrpc.host.processes.console import Console
from ocigrpc.host.processes.keyring import leave_session_keyring
from ocigrpc.host.processes.outputs import HeldOutputs
from ocigrpc.host.processes.stdio import Stdio
from ocigrpc.log import get_logger
from ocigrpc.metrics import RUNTIME_RUNS
from ocigrpc.oci.bundle import Spec, container_process, container_spec, table
from ocigrpc.oci.exec import exec_argv, process_of, umask_of
from ocigrpc.oci.executable import require_executable
from ocigrpc.oci.spec.linux_types import SpecIdMapping
from ocigrpc.oci.spec.root_files import RunningRoot
from ocigrpc.oci.spec.user_namespace import ranges_of
from ocigrpc.waiting import Deadline

log = get_logger()

# How long a first process may take from its start to its program, and how often that is asked.
_EXECUTES_S, _POLL_S = 1.0, 0.002


def exec_process(container: Container, start: ExecStart) -> Spec:
    """The ``process`` of the runtime spec for what is to be run.

    Raises ``InvalidArgument``, or ``CannotRun`` when the container has no such program.
    """
    size = start.terminal_size or TerminalSize(0, 0)
    with RunningRoot(container.init) as root:
        process = process_of(
            container_process(container.paths.spec_file),
            start.process,
            root,
            _owners(container) if start.process.user else Owners(),
            terminal=start.terminal,
            rows=size.rows,
            columns=size.columns,
        )
        require_executable(process, root.read_head)
    return process


def _owners(container: Container) -> Owners:
    """The users and groups that programs of exec can have, by the container's spec."""
    # Not those of the first process: it may have entered a namespace that runc does not.
    linux = table(container_spec(container.paths.spec_file), "linux")
    uids, gids = (
        ranges_of(convert(linux.get(key) or [], list[SpecIdMapping]))
        for key in ("uidMappings", "gidMappings")
    )
    return Owners(uids, gids) if uids and gids else Owners()


def await_first_program(container: Container, deadline: Deadline) -> None:
    """Wait until a first process in a user namespace executes its program, which it is about to.

    Before that crun can't enter the namespace, up to 1.8.6; containers/crun#1264.
    """
    init, limit = container.init, Deadline(_EXECUTES_S)
    if init is None or not init.has_other_users():
        return
    while init.program() == container.record.init_program and limit.remaining_s():
        if init.wait(deadline, timeout_s=_POLL_S):
            return


def start_exec(
    container: Container,
    start: ExecStart,
    process: Spec,
    workspace: ExecWorkspace,
    deadline: Deadline,
    stack: ExitStack,
) -> ExecSession:
    """Run the runtime on the process that is in the workspace; ``stack`` ends it."""
    held = stack.enter_context(HeldOutputs()) if start.keep_running else None
    directory = workspace.files.directory
    console = stack.enter_context(Console(directory, held)) if start.terminal else None
    stdio = stack.enter_context(Stdio(stdin=start.stdin, detached=start.detach, console=console))
    if start.terminal_size is not None:
        stdio.resize(start.terminal_size.rows, start.terminal_size.columns)
    reaper_fds = _reaper_fds(held, stdio)
    argv = _argv(container, start, workspace, console, reaper_fds, deadline)
    # runc gives the program the container's own keyring, crun does not.
    leave_session_keyring()
    passed = [fd for fd in reaper_fds if fd >= 0]
    child = stack.enter_context(
        Child(argv, stdio=stdio.theirs, pass_fds=passed, umask=umask_of(process))
    )
    RUNTIME_RUNS.add(container.runtime.name, "exec")
    score = process.get("oomScoreAdj")
    if isinstance(score, int):
        # crun does not set it, and its program inherits that of the child. First of all, since
        # crun forks soon.
        child.set_oom_score_adj(score)
    if held is not None:
        held.hold(stdio.pipes())
        container.cgroups.keep_beside_monitor(child.pid)
    stdio.close_theirs()
    log.debug("exec.started", container_id=container.container_id, argv=argv)
    session = ExecSession(start, workspace, stdio, child, Deadline(start.timeout_s))
    if "--cgroup" not in argv:
        session.initial_group = container.cgroups.container
    session.known_pids = container.program_pids
    stack.callback(session.close)
    return session


def _reaper_fds(held: HeldOutputs | None, stdio: Stdio) -> tuple[int, int]:
    """The descriptors for a reaper's command line; see ``reaper_argv``."""
    return (
        held.theirs if held is not None else -1,
        stdio.started.fileno() if stdio.started is not None else -1,
    )


def _argv(
    container: Container,
    start: ExecStart,
    workspace: ExecWorkspace,
    console: Console | None,
    reaper_fds: tuple[int, int],
    deadline: Deadline,
) -> list[str]:
    """The runtime's command line, or that of a reaper for a program that it detaches from."""
    runtime, container_id = container.runtime, container.container_id
    files, name = workspace.files, workspace.name
    detach = console is not None or start.keep_running
    path = console.path if console is not None else ""
    argv = exec_argv(runtime, container_id, files, name, deadline, detach=detach, console=path)
    return reaper_argv(*reaper_fds, files.pid, argv) if detach else argv
