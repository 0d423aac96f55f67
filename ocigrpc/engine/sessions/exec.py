"""Programs that are run in a container beside its first process.

Each has a cgroup of its own below the container's: whatever it starts, ``setsid`` or not,
is found there and ends with it.
"""

from __future__ import annotations

import functools
import secrets
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from threading import Lock, Thread

from ocigrpc.closing import Closing
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.ownership import require_entry
from ocigrpc.engine.containers.registry import ContainerRegistry
from ocigrpc.engine.containers.status import guarded_state, require_state
from ocigrpc.engine.containers.teardown import attempt, remove_work
from ocigrpc.engine.model.values import State
from ocigrpc.engine.sessions.drain import Drain
from ocigrpc.engine.sessions.exec_session import ExecSession, Sink
from ocigrpc.engine.sessions.messages import (
    Answer,
    ExecExit,
    ExecResult,
    ExecStart,
    Inputs,
    Output,
    TerminalSize,
    answers,
    joined,
    leaving,
    weight_bytes,
)
from ocigrpc.engine.sessions.queue import PollableQueue
from ocigrpc.errors import Cancelled, LimitReached, OcigrpcError, Timeout
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.processes.child import Child, reaper_argv
from ocigrpc.host.processes.console import Console
from ocigrpc.host.processes.keyring import leave_session_keyring
from ocigrpc.host.processes.stdio import STDERR, STDOUT, Stdio
from ocigrpc.log import get_logger
from ocigrpc.oci.bundle import container_spec
from ocigrpc.oci.exec import (
    ExecFiles,
    detached_argv,
    exec_argv,
    knows_subgroups,
    process_of,
    umask_of,
    write_process,
)
from ocigrpc.oci.executable import require_executable
from ocigrpc.oci.spec.root_files import RunningRoot
from ocigrpc.waiting import Deadline, Flag

log = get_logger()

OUTPUT_LIMIT_BYTES = 16 << 20
"""Most that a client may have kept of each stream of a program whose end it waits for."""

OUTPUT_SURE_BYTES = 64 << 10
"""What is kept of each stream in any case."""

OUTPUT_BUDGET_BYTES = 64 << 20
"""Most that is kept beyond that of all such programs together, while they run."""

BACKLOG_LIMIT_BYTES = 1 << 18
"""Output that waits for a slow client; with more, the program has to wait."""


_PREFIX = "exec-"
_KEPT = "exec-kept-"
# Of the names of their files and cgroups: whether they go on is seen without a record.

LEFT_LIMIT = 256
"""Most programs that run on without their clients: each takes a thread."""

DAEMONS_LIMIT = 512
"""Most that have left others behind who hold their output: each takes two descriptors."""


class Execs:
    """Runs programs in the containers of a registry."""

    def __init__(self, context: Context, registry: ContainerRegistry) -> None:
        self._context = context
        self._registry = registry
        self._left: set[Thread] = set()
        self._drain = Drain()
        self._active: set[str] = set()
        self._budget = _Budget(OUTPUT_BUDGET_BYTES)

    def run(self, start: ExecStart, deadline: Deadline) -> ExecResult:
        """Run a program to its end; its output up to ``output_limit_bytes`` a stream.

        Raises what ``ExecSync`` in the proto says; then nothing of the program is left,
        unless it was to be kept running.
        """
        self._refuse_too_many(start)
        with _Captured(start.output_limit_bytes, self._budget) as captured:
            with self._running(start, deadline) as container, ExitStack() as stack:
                program = self._begin(container, start, deadline, stack)
                program.ends_alone = start.keep_running
                exit_status = self._talk(program, None, captured, deadline, stack)
            return captured.result(exit_status)

    def stream(self, start: ExecStart, inputs: Inputs, deadline: Deadline) -> Iterator[Answer]:
        """Run a program; its output as it comes, and last how it ended.

        Raises what ``Exec`` in the proto says; then nothing of the program is left, unless
        it was to be kept running.
        """
        self._refuse_too_many(start)

        def produce(queue: PollableQueue[Answer]) -> None:
            with self._running(start, deadline) as container, ExitStack() as stack:
                program = self._begin(container, start, deadline, stack)
                queue.put(self._talk(program, inputs, _Sent(queue), deadline, stack))

        with answers(BACKLOG_LIMIT_BYTES, produce) as queue, leaving(deadline):
            yield from joined(queue)

    def cut_off(self, container: Container) -> Sequence[ExecFiles]:
        """The programs whose service has died, but for those that go on without it."""
        paths = container.paths
        try:
            found = [each for each in paths.bundle.iterdir() if each.name.startswith(_PREFIX)]
        except OSError:
            return []
        return [
            ExecFiles(directory)
            for directory in found
            if not directory.name.startswith(_KEPT)
            or not self._group(container, directory.name).populated()
        ]

    def end(self, container: Container, programs: Sequence[ExecFiles]) -> None:
        """End programs whose service has died, and remove what was made for them."""
        for files in programs:
            # A runtime that has outlived the service has nothing to begin with any more.
            files.process.unlink(missing_ok=True)
            self._end_group(container, self._group(container, files.directory.name))
            remove_work(container, files.directory)
            log.warning("exec.cut_off", container_id=container.container_id)

    def _group(self, container: Container, name: str) -> Cgroup:
        return container.cgroups.container.child(name)

    def _refuse_too_many(self, start: ExecStart) -> None:
        """Raise ``LimitReached`` for a program that is to be kept when too many are."""
        if not start.keep_running:
            return
        full = len(self._left) >= LEFT_LIMIT
        if full or self._drain.programs + len(self._active) >= DAEMONS_LIMIT:
            limit = LEFT_LIMIT if full else DAEMONS_LIMIT
            raise LimitReached(
                f"{limit} programs run on without their clients already",
                reason="TOO_MANY_LEFT",
                limit=limit,
            )

    def _talk(
        self,
        program: ExecSession,
        inputs: Inputs | None,
        sink: Sink,
        deadline: Deadline,
        stack: ExitStack,
    ) -> ExecExit:
        """The talk with a program, which runs on without its client if it is to be kept."""
        try:
            exit_status = program.talk(inputs, sink, deadline)
        except (Cancelled, Timeout):
            if program.start.keep_running and program.limit.remaining_s():
                self._leave(program, stack.pop_all())
            raise
        self._drain.take(program.left)
        return exit_status

    def _leave(self, program: ExecSession, stack: ExitStack) -> None:
        """Let a program run on without its client; its output is dropped."""
        program.forsake()

        def drain() -> None:
            with stack:
                try:
                    exit_status = program.talk(None, _Dropped(), Deadline())
                    self._drain.take(program.left)
                except (OcigrpcError, OSError) as error:
                    log.info("exec.left_ended", error=str(error))
                else:
                    log.info("exec.left_ended", exit_code=exit_status.exit_code)
            self._left.discard(thread)

        thread = Thread(target=drain, name="exec-left", daemon=True)
        self._left.add(thread)
        thread.start()

    def _begin(
        self, container: Container, start: ExecStart, deadline: Deadline, stack: ExitStack
    ) -> ExecSession:
        """Start the program; ``stack`` gets the end of all that is made for it."""
        paths = container.paths
        name = f"{_KEPT if start.keep_running else _PREFIX}{secrets.token_hex(8)}"
        files = ExecFiles(paths.bundle / name)
        size = start.terminal_size or TerminalSize(0, 0)
        root = RunningRoot(container.init)
        process = process_of(
            container_spec(paths.spec_file),
            start.process,
            root,
            terminal=start.terminal,
            rows=size.rows,
            columns=size.columns,
        )
        require_executable(process, root.read_head)
        group = self._group(container, name)
        end = _End(self, container, files, group)
        if start.keep_running:
            self._active.add(name)
            stack.callback(self._active.discard, name)
        with container.lock("exec", deadline):
            # Not removed before the turn ends, so that the removal finds what we make.
            require_state(container, deadline, State.RUNNING)
            require_entry(container.record)
            if start.keep_running:
                self._sweep(container)
            stack.callback(end.clear)
            write_process(files, process)
            group.create()
        umask = umask_of(process)
        child, stdio = self._start(container, start, files, umask, deadline, stack)
        score = process.get("oomScoreAdj")
        if isinstance(score, int):
            # crun does not see to that, and its program inherits it.
            child.set_oom_score_adj(score)
        limit = Deadline(start.timeout_s)
        program = ExecSession(start, files, group, stdio, child, limit, end.end_group, end.spare)
        if not knows_subgroups(container.runtime, deadline):
            program.begins_in = container.cgroups.container
        program.known_pids = container.program_pids
        stack.callback(program.close)
        return program

    def _start(
        self,
        container: Container,
        start: ExecStart,
        files: ExecFiles,
        umask: int,
        deadline: Deadline,
        stack: ExitStack,
    ) -> tuple[Child, Stdio]:
        """Run the runtime, by itself or with a reaper for what it leaves."""
        runtime = container.runtime
        name, container_id = files.directory.name, container.container_id
        console = None
        if start.terminal:
            console = stack.enter_context(Console(files.directory, hold=start.keep_running))
        stdio = stack.enter_context(Stdio(stdin=start.stdin, console=console))
        if start.terminal_size is not None:
            stdio.resize(start.terminal_size.rows, start.terminal_size.columns)
        held = console.held if console is not None else -1
        if console is None and not start.keep_running:
            argv = exec_argv(runtime, container_id, files, name, deadline)
        else:
            path = console.path if console is not None else ""
            left = detached_argv(runtime, container_id, files, name, path, deadline)
            argv = reaper_argv(held, files.pid, left)
        # runc takes the program on to the container's own, crun does not.
        leave_session_keyring()
        passed = (held,) if held >= 0 else ()
        child = Child(argv, stdio=stdio.theirs, pass_fds=passed, umask=umask)
        stack.enter_context(child)
        stdio.let_go()
        log.debug("exec.started", container_id=container_id, argv=argv)
        return child, stdio

    def _sweep(self, container: Container) -> None:
        """Remove what was made for programs that have left others behind, who have ended."""
        bundle = container.paths.bundle
        for directory in bundle.glob(f"{_KEPT}*"):
            group = self._group(container, directory.name)
            if directory.name not in self._active and not group.populated():
                _End(self, container, ExecFiles(directory), group).clear()

    @contextmanager
    def _running(self, start: ExecStart, deadline: Deadline) -> Iterator[Container]:
        """The container, refused at once when it does not run, before any turn is waited for."""
        container = self._registry.get(start.container_id)
        with guarded_state(container, deadline, State.RUNNING):
            yield container

    def _end_group(self, container: Container, group: Cgroup) -> None:
        """Kill all that is in the program's cgroup, and remove it."""
        # By its name alone it would be anybody's, once the container's own is.
        if not container.cgroups.container.exists() or not group.exists():
            return
        if container.cgroups.container.frozen():
            # With cgroup v1 they die when they are thawed; the group goes with the container.
            attempt(lambda: group.signal(signal.SIGKILL), group.remove_if_empty)
            return
        deadline = Deadline(self._context.settings.timeouts.kill_s)
        attempt(lambda: group.end(deadline))


class _End:
    """The end of all that was made for one program."""

    def __init__(self, execs: Execs, container: Container, files: ExecFiles, group: Cgroup) -> None:
        self._files = files
        self._group = group
        self._spared = False
        self._remove_work = functools.partial(remove_work, container)
        self.end_group = functools.partial(execs._end_group, container, group)

    def spare(self) -> None:
        """Leave those alone who live on."""
        self._spared = True

    def clear(self) -> None:
        """Kill all in the program's cgroup, unless spared, and remove what was made."""
        # Found by these names, those who live on are swept up after later on.
        if not (self._spared and self._group.populated()):
            self.end_group()
            self._remove_work(self._files.directory)


class _Budget:
    """Bytes that all who take of it have together."""

    def __init__(self, left_bytes: int) -> None:
        self._left_bytes = left_bytes
        self._lock = Lock()

    def take(self, wanted_bytes: int) -> int:
        """How many there are, up to what is wanted."""
        with self._lock:
            taken = min(self._left_bytes, wanted_bytes)
            self._left_bytes -= taken
            return taken

    def give_back(self, taken_bytes: int) -> None:
        """Let others have them."""
        with self._lock:
            self._left_bytes += taken_bytes


class _Captured(Closing):
    """Keeps the first of each stream, as much as the ``budget`` has; for a ``with``."""

    def __init__(self, limit_bytes: int, budget: _Budget) -> None:
        self._limit_bytes = limit_bytes
        self.room = Flag()
        self._budget = budget
        self._taken_bytes = 0
        self._kept = {STDOUT: bytearray(), STDERR: bytearray()}
        self._truncated = {STDOUT: False, STDERR: False}

    def has_room(self) -> bool:
        """Always: what is too much is dropped."""
        return True

    def write(self, stream: int, data: bytes) -> None:
        """Keep what is not too much."""
        if self._truncated[stream]:
            return
        kept = self._kept[stream]
        fits = min(len(data), self._limit_bytes - len(kept))
        sure = min(fits, max(0, OUTPUT_SURE_BYTES - len(kept)))
        more = self._budget.take(fits - sure)
        self._taken_bytes += more
        kept += data[: sure + more]
        self._truncated[stream] = len(data) > sure + more

    def result(self, exit_status: ExecExit) -> ExecResult:
        """All that was kept; nothing is, any more."""
        result = ExecResult(
            bytes(self._kept.pop(STDOUT)),
            bytes(self._kept.pop(STDERR)),
            self._truncated[STDOUT],
            self._truncated[STDERR],
            exit_status,
        )
        self._truncated = {STDOUT: True, STDERR: True}
        return result

    def close(self) -> None:
        self._budget.give_back(self._taken_bytes)


class _Sent:
    """Passes on to a client."""

    def __init__(self, queue: PollableQueue[Answer]) -> None:
        self._queue = queue
        self.room = queue.room

    def has_room(self) -> bool:
        """While the client reads."""
        return self._queue.has_room()

    def write(self, stream: int, data: bytes) -> None:
        """Put it in the queue."""
        output = Output(data, stream == STDERR)
        self._queue.put(output, weight_bytes(output))


class _Dropped:
    """Takes everything, keeps nothing."""

    def __init__(self) -> None:
        self.room = Flag()

    def has_room(self) -> bool:
        """Always."""
        return True

    def write(self, stream: int, data: bytes) -> None:
        """Drop it."""
