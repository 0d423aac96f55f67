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
from threading import Thread

from ocigrpc.deadline import Deadline
from ocigrpc.engine.box import Box, Flag
from ocigrpc.engine.container import Container
from ocigrpc.engine.node import Node, attempt
from ocigrpc.engine.ownership import require_entry
from ocigrpc.engine.program import Program
from ocigrpc.engine.registry import Registry
from ocigrpc.engine.streams import (
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
from ocigrpc.engine.truth import Truth
from ocigrpc.engine.values import State
from ocigrpc.errors import Cancelled, LimitReached, OcigrpcError, Timeout
from ocigrpc.host.cgroup import Cgroup
from ocigrpc.host.keyring import leave_session_keyring
from ocigrpc.host.process import Child
from ocigrpc.host.stdio import STDERR, STDOUT, Stdio
from ocigrpc.log import get_logger
from ocigrpc.oci.bundle import container_spec
from ocigrpc.oci.exec import ExecFiles, exec_argv, process_of, write_process
from ocigrpc.oci.executable import require_executable
from ocigrpc.oci.root_files import RunningRoot

log = get_logger()

OUTPUT_LIMIT_BYTES = 16 << 20
"""Most that is kept of each stream of a program whose client waits for the end."""

BACKLOG_LIMIT_BYTES = 1 << 20
"""Output that waits for a slow client; with more, the program has to wait."""


_PREFIX = "exec-"
_KEPT = "exec-kept-"
# Of the names of their files and cgroups: whether they go on is seen without a record.

LEFT_LIMIT = 256
"""Most programs that run on without their clients: each takes a thread."""


class Execs:
    """Runs programs in the containers of a registry."""

    def __init__(self, node: Node, registry: Registry, truth: Truth) -> None:
        self._node = node
        self._registry = registry
        self._truth = truth
        self._left: set[Thread] = set()

    def run(self, start: ExecStart, deadline: Deadline) -> ExecResult:
        """Run a program to its end; its output up to ``OUTPUT_LIMIT_BYTES`` a stream.

        Raises what ``ExecSync`` in the proto says; then nothing of the program is left.
        """
        captured = _Captured()
        with self._running(start, deadline) as container, ExitStack() as stack:
            program = self._begin(container, start, deadline, stack)
            exit_status = program.talk(None, captured, deadline)
        return captured.result(exit_status)

    def stream(self, start: ExecStart, inputs: Inputs, deadline: Deadline) -> Iterator[Answer]:
        """Run a program; its output as it comes, and last how it ended.

        Raises what ``Exec`` in the proto says; then nothing of the program is left, unless
        it was to be kept running.
        """
        if start.keep_running and len(self._left) >= LEFT_LIMIT:
            raise LimitReached(
                f"{LEFT_LIMIT} programs run on without their clients already",
                reason="TOO_MANY_LEFT",
                limit=LEFT_LIMIT,
            )

        def produce(box: Box[Answer]) -> None:
            with self._running(start, deadline) as container, ExitStack() as stack:
                program = self._begin(container, start, deadline, stack)
                try:
                    box.put(program.talk(inputs, _Sent(box), deadline))
                except (Cancelled, Timeout):
                    if start.keep_running and program.limit.remaining_s():
                        self._leave(program, stack.pop_all())
                    raise

        with answers(BACKLOG_LIMIT_BYTES, produce) as box, leaving(deadline):
            yield from joined(box)

    def cut_off(self, container: Container) -> Sequence[ExecFiles]:
        """The programs whose service has died, but for those that go on without it."""
        layout = self._node.layout(container.container_id)
        try:
            found = [each for each in layout.bundle.iterdir() if each.name.startswith(_PREFIX)]
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
            self._node.remove_work(files.directory)
            log.warning("exec.cut_off", container_id=container.container_id)

    def _group(self, container: Container, name: str) -> Cgroup:
        return container.enclosure.container.child(name)

    def _leave(self, program: Program, stack: ExitStack) -> None:
        """Let a program run on without its client; its output is dropped."""
        program.forsake()

        def drain() -> None:
            with stack:
                try:
                    exit_status = program.talk(None, _Dropped(), Deadline())
                except OcigrpcError as error:
                    log.info("exec.left_ended", reason=error.reason, message=error.message)
                else:
                    log.info("exec.left_ended", exit_code=exit_status.exit_code)
            self._left.discard(thread)

        thread = Thread(target=drain, name="exec-left", daemon=True)
        self._left.add(thread)
        thread.start()

    def _begin(
        self, container: Container, start: ExecStart, deadline: Deadline, stack: ExitStack
    ) -> Program:
        """Start the program; ``stack`` gets the end of all that is made for it."""
        container_id = container.container_id
        runtime = self._node.runtime(container.record.runtime_handler)
        layout = self._node.layout(container_id)
        name = f"{_KEPT if start.keep_running else _PREFIX}{secrets.token_hex(8)}"
        files = ExecFiles(layout.bundle / name)
        size = start.terminal_size or TerminalSize(0, 0)
        root = RunningRoot(container.init)
        process = process_of(
            container_spec(layout.spec_file),
            start.process,
            root,
            terminal=start.terminal,
            rows=size.rows,
            columns=size.columns,
        )
        require_executable(process, root.read_head)
        group = self._group(container, name)
        with container.turn("exec", deadline):
            # Not removed before the turn ends, so that the removal finds what we make.
            self._truth.require(container, deadline, State.RUNNING)
            require_entry(container.record)
            stack.callback(self._node.remove_work, files.directory)
            write_process(files, process)
            end_group = functools.partial(self._end_group, container, group)
            stack.callback(end_group)
            group.create()
        stdio = stack.enter_context(Stdio(stdin=start.stdin, terminal=start.terminal))
        stdio.resize(size.rows, size.columns)
        argv = exec_argv(runtime, container_id, files, name, terminal=start.terminal)
        # runc takes the program on to the container's own, crun does not.
        leave_session_keyring()
        child = stack.enter_context(Child(argv, stdio=stdio.theirs))
        stdio.let_go()
        log.debug("exec.started", container_id=container_id, argv=argv)
        limit = Deadline(start.timeout_s)
        program = Program(start, files, group, stdio, child, limit, end_group)
        stack.callback(program.close)
        return program

    @contextmanager
    def _running(self, start: ExecStart, deadline: Deadline) -> Iterator[Container]:
        """The container, refused at once when it does not run, before any turn is waited for."""
        container = self._registry.get(start.container_id)
        with self._truth.required(container, deadline, State.RUNNING):
            yield container

    def _end_group(self, container: Container, group: Cgroup) -> None:
        """Kill all that is in the program's cgroup, and remove it."""
        # By its name alone it would be anybody's, once the container's own is.
        if not container.enclosure.container.exists() or not group.exists():
            return
        if container.enclosure.container.frozen():
            # With cgroup v1 they die when they are thawed; the group goes with the container.
            attempt(lambda: group.signal(signal.SIGKILL), group.remove_if_empty)
            return
        deadline = Deadline(self._node.settings.kill_timeout_s)
        attempt(lambda: group.end(deadline))


class _Captured:
    """Keeps the first of each stream."""

    def __init__(self) -> None:
        self.room = Flag()
        self._kept = {STDOUT: bytearray(), STDERR: bytearray()}
        self._truncated = {STDOUT: False, STDERR: False}

    def has_room(self) -> bool:
        """Always: what is too much is dropped."""
        return True

    def write(self, stream: int, data: bytes) -> None:
        """Keep what is not too much."""
        kept = self._kept[stream]
        fits = OUTPUT_LIMIT_BYTES - len(kept)
        kept += data[:fits]
        self._truncated[stream] |= len(data) > fits

    def result(self, exit_status: ExecExit) -> ExecResult:
        """All that was kept."""
        return ExecResult(
            bytes(self._kept[STDOUT]),
            bytes(self._kept[STDERR]),
            self._truncated[STDOUT],
            self._truncated[STDERR],
            exit_status,
        )


class _Sent:
    """Passes on to a client."""

    def __init__(self, box: Box[Answer]) -> None:
        self._box = box
        self.room = box.room

    def has_room(self) -> bool:
        """While the client reads."""
        return self._box.has_room()

    def write(self, stream: int, data: bytes) -> None:
        """Put it in the box."""
        output = Output(data, stream == STDERR)
        self._box.put(output, weight_bytes(output))


class _Dropped:
    """Takes everything, keeps nothing."""

    def __init__(self) -> None:
        self.room = Flag()

    def has_room(self) -> bool:
        """Always."""
        return True

    def write(self, stream: int, data: bytes) -> None:
        """Drop it."""
