"""Programs that are run in a container beside its first process.

Each has a cgroup of its own below the container's: whatever it starts, ``setsid`` or not,
is found there and ends with it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.ownership import require_entry
from ocigrpc.engine.containers.registry import ContainerRegistry
from ocigrpc.engine.containers.status import guarded_state, require_state
from ocigrpc.engine.model.values import State
from ocigrpc.engine.sessions.drain import Drain
from ocigrpc.engine.sessions.exec_output import (
    OUTPUT_BUDGET_BYTES,
    CapturedOutput,
    OutputBudget,
    QueuedOutput,
    Sink,
)
from ocigrpc.engine.sessions.exec_session import ExecSession
from ocigrpc.engine.sessions.exec_start import await_first_program, exec_process, start_exec
from ocigrpc.engine.sessions.exec_workspace import new_workspace, sweep
from ocigrpc.engine.sessions.messages import (
    ExecExit,
    ExecResult,
    ExecStart,
    ExecStarted,
    Inputs,
    Reply,
)
from ocigrpc.engine.sessions.queue import PollableQueue
from ocigrpc.engine.sessions.stream import produced
from ocigrpc.errors import Cancelled, LimitReached, OcigrpcError, Timeout
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

log = get_logger()

# Output that waits for a slow client; with more, the program has to wait.
BACKLOG_LIMIT_BYTES = 1 << 18

# Most programs that run on after their clients have gone: each takes a thread.
UNATTENDED_LIMIT = 256

# Most programs whose descendants hold their output open: each takes two descriptors.
DAEMONS_LIMIT = 512


class Execs:
    """Runs programs in the containers of a registry."""

    def __init__(self, registry: ContainerRegistry) -> None:
        self._registry = registry
        self._budget = OutputBudget(OUTPUT_BUDGET_BYTES)
        self._unattended: set[Thread] = set()
        self._drain = Drain()
        # Names of the workspaces of programs that are to be kept, while they run.
        self._active: set[str] = set()

    def run(self, start: ExecStart, deadline: Deadline) -> ExecResult:
        """Run a program to its end; its output up to ``output_limit_bytes`` a stream.

        Raises the proto's errors of ``ExecSync``. Then the program and all that it has
        started have ended, unless it was to be kept running.
        """
        self._refuse_too_many(start)
        with CapturedOutput(start.output_limit_bytes, self._budget) as captured:
            with self._begun(start, deadline) as (session, stack):
                session.ends_with_program = start.keep_running
                exit_status = self._relay(session, None, captured, deadline, stack)
            return captured.result(exit_status)

    def stream(self, start: ExecStart, inputs: Inputs, deadline: Deadline) -> Generator[Reply]:
        """Run a program; its output as it comes, and last how it ended, or that it has started.

        Raises the proto's errors of ``Exec``. Then the program and all that it has started
        have ended, unless it was to be kept running.
        """
        self._refuse_too_many(start)

        def produce(queue: PollableQueue[Reply]) -> None:
            with self._begun(start, deadline) as (session, stack):
                if start.detach:
                    queue.put(self._left(session, deadline, stack))
                else:
                    queue.put(self._relay(session, inputs, QueuedOutput(queue), deadline, stack))

        yield from produced(BACKLOG_LIMIT_BYTES, produce, deadline)

    def _refuse_too_many(self, start: ExecStart) -> None:
        """Raise ``LimitReached`` for a program that is to be kept when too many are."""
        if not start.keep_running:
            return
        full = len(self._unattended) >= UNATTENDED_LIMIT
        if full or self._drain.programs + len(self._active) >= DAEMONS_LIMIT:
            limit = UNATTENDED_LIMIT if full else DAEMONS_LIMIT
            raise LimitReached(
                f"{limit} programs run on without their clients already",
                reason="TOO_MANY_LEFT",
                limit=limit,
            )

    @contextmanager
    def _begun(
        self, start: ExecStart, deadline: Deadline
    ) -> Iterator[tuple[ExecSession, ExitStack]]:
        """The program, started; the stack ends it, and removes all that was made for it."""
        container = self._registry.get(start.container_id)
        # Refused when it does not run, before any lock is waited for.
        with guarded_state(container, deadline, State.RUNNING), ExitStack() as stack:
            yield self._begin(container, start, deadline, stack), stack

    def _begin(
        self, container: Container, start: ExecStart, deadline: Deadline, stack: ExitStack
    ) -> ExecSession:
        process = exec_process(container, start)
        workspace = new_workspace(container, kept=start.keep_running)
        if start.keep_running:
            self._active.add(workspace.name)
            stack.callback(self._active.discard, workspace.name)
        with container.lock("exec", deadline):
            # A removal waits for the lock, and so finds all that is made here.
            require_state(container, deadline, State.RUNNING)
            require_entry(container.record)
            if start.keep_running:
                sweep(container, self._active)
            stack.callback(workspace.close)
            workspace.files.make(process)
            workspace.group.create()
        await_first_program(container, deadline)
        return start_exec(container, start, process, workspace, deadline, stack)

    def _relay(
        self,
        session: ExecSession,
        inputs: Inputs | None,
        sink: Sink,
        deadline: Deadline,
        stack: ExitStack,
    ) -> ExecExit:
        """Relay until the program ends, which runs on without its client if it is to be kept."""
        try:
            exit_status = session.relay(inputs, sink, deadline)
        except (Cancelled, Timeout):
            if session.start.keep_running and session.limit.remaining_s():
                self._run_on(session, stack.pop_all())
            raise
        self._drain.take(session.kept_outputs)
        return exit_status

    def _left(self, session: ExecSession, deadline: Deadline, stack: ExitStack) -> ExecStarted:
        """Let a program run on without its client as soon as it has started."""
        pid = session.await_start(deadline)
        self._run_on(session, stack.pop_all())
        return ExecStarted(pid)

    def _run_on(self, session: ExecSession, stack: ExitStack) -> None:
        """Let a program run on without its client; its output is dropped."""
        session.drop_input()
        container_id = session.workspace.container_id

        def drop_output() -> None:
            with stack:
                try:
                    exit_status = session.relay(None, CapturedOutput(0, self._budget), Deadline())
                    self._drain.take(session.kept_outputs)
                except (OcigrpcError, OSError) as error:
                    log.info("exec.unattended_ended", container_id=container_id, error=str(error))
                else:
                    log.info(
                        "exec.unattended_ended",
                        container_id=container_id,
                        exit_code=exit_status.exit_code,
                    )
            self._unattended.discard(thread)

        thread = Thread(target=drop_output, name="exec-unattended", daemon=True)
        self._unattended.add(thread)
        try:
            thread.start()
        except RuntimeError:
            # There are no more threads. The program ends with the call, which fails.
            self._unattended.discard(thread)
            stack.close()
            raise
