"""Starts a program in a container: the process of the spec, the runtime, and the session."""

from __future__ import annotations

from contextlib import ExitStack

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.sessions.exec_session import ExecSession
from ocigrpc.engine.sessions.exec_workspace import ExecWorkspace
from ocigrpc.engine.sessions.messages import ExecStart, TerminalSize
from ocigrpc.host.processes.child import Child, reaper_argv
from ocigrpc.host.processes.console import Console
from ocigrpc.host.processes.keyring import leave_session_keyring
from ocigrpc.host.processes.stdio import Stdio
from ocigrpc.log import get_logger
from ocigrpc.oci.bundle import Spec, container_process
from ocigrpc.oci.exec import exec_argv, process_of, umask_of
from ocigrpc.oci.executable import require_executable
from ocigrpc.oci.spec.root_files import RunningRoot
from ocigrpc.waiting import Deadline

log = get_logger()


def exec_process(container: Container, start: ExecStart) -> Spec:
    """The ``process`` of the runtime spec for what is to be run.

    Raises ``InvalidArgument``, or ``CannotRun`` when the container has no such program.
    """
    size = start.terminal_size or TerminalSize(0, 0)
    root = RunningRoot(container.init)
    process = process_of(
        container_process(container.paths.spec_file),
        start.process,
        root,
        terminal=start.terminal,
        rows=size.rows,
        columns=size.columns,
    )
    require_executable(process, root.read_head)
    return process


def start_exec(
    container: Container,
    start: ExecStart,
    process: Spec,
    workspace: ExecWorkspace,
    deadline: Deadline,
    stack: ExitStack,
) -> ExecSession:
    """Run the runtime on the process that is in the workspace; ``stack`` ends it."""
    console = None
    if start.terminal:
        console = stack.enter_context(Console(workspace.files.directory, hold=start.keep_running))
    stdio = stack.enter_context(Stdio(stdin=start.stdin, console=console))
    if start.terminal_size is not None:
        stdio.resize(start.terminal_size.rows, start.terminal_size.columns)
    argv = _argv(container, start, workspace, console, deadline)
    # runc gives the program the container's own keyring, crun does not.
    leave_session_keyring()
    held = (console.held,) if console is not None and console.held >= 0 else ()
    child = stack.enter_context(
        Child(argv, stdio=stdio.theirs, pass_fds=held, umask=umask_of(process))
    )
    score = process.get("oomScoreAdj")
    if isinstance(score, int):
        # crun does not set it, and its program inherits that of the child. First of all, since
        # crun forks soon.
        child.set_oom_score_adj(score)
    stdio.close_theirs()
    log.debug("exec.started", container_id=container.container_id, argv=argv)
    session = ExecSession(start, workspace, stdio, child, Deadline(start.timeout_s))
    if "--cgroup" not in argv:
        session.initial_group = container.cgroups.container
    session.known_pids = container.program_pids
    stack.callback(session.close)
    return session


def _argv(
    container: Container,
    start: ExecStart,
    workspace: ExecWorkspace,
    console: Console | None,
    deadline: Deadline,
) -> list[str]:
    """The runtime's command line, or that of a reaper for a program that it detaches from."""
    runtime, container_id = container.runtime, container.container_id
    files, name = workspace.files, workspace.name
    detach = console is not None or start.keep_running
    path, held = (console.path, console.held) if console is not None else ("", -1)
    argv = exec_argv(runtime, container_id, files, name, deadline, detach=detach, console=path)
    return reaper_argv(held, files.pid, argv) if detach else argv
