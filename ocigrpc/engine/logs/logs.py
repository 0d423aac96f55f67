"""The logs of containers: read, reopened, rotated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from ocigrpc.closing import ClosingStack
from ocigrpc.conmon.log_chain import LogChain
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.logs.reader import LogBatch, LogQuery, LogReader
from ocigrpc.engine.logs.reopen import reopen_log
from ocigrpc.engine.logs.rotate import Rotation
from ocigrpc.engine.model.values import State
from ocigrpc.errors import PreconditionFailed, WrongState
from ocigrpc.failing import host_failing
from ocigrpc.host.files.watch import FileWatch
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

log = get_logger()

# Files that are kept open until a follower comes to them. Of the service's own rotation only a
# few, since it removes files to make room; others compress and remove files at any time.
_HOLD_OURS = 4
_HOLD_THEIRS = 64


class Logs(ClosingStack):
    """The verbs of logs; they take no container's lock, so that no other verb delays them."""

    def __init__(self, context: Context) -> None:
        """Raises ``HostFailed``."""
        with ExitStack() as stack:
            self._file_watch = FileWatch()
            stack.callback(self._file_watch.close)
            self.rotation = Rotation(context.settings.logs.max_files)
            stack.callback(self.rotation.close)
            self._stack = stack.pop_all()

    def read(self, container: Container, query: LogQuery, deadline: Deadline) -> Iterator[LogBatch]:
        """The lines of its log; raises the proto's errors of ``ContainerLogs``."""
        record = container.record
        if record.state is State.CREATING:
            raise WrongState.of(record.container_id, record.state, "made")
        if record.exit_status is not None:
            # Maybe its end was a moment ago. What it has left for a next rotation is no log.
            self.rotation.watch(container)
        file_watch = self._file_watch if query.follow else None
        hold = _HOLD_OURS if record.log_is_ours else _HOLD_THEIRS
        with host_failing("read", record.log_path):
            chain = LogChain(record.log_path, record.log_is_ours, file_watch, hold)
        with chain:
            if not chain.files and (not query.follow or record.exit_status is not None):
                raise PreconditionFailed(
                    f"the log {record.log_path} is missing",
                    reason="LOG_MISSING",
                    path=record.log_path,
                )
            reader = LogReader(query, chain)
            if chain.waiter is None:
                yield from reader.snapshot(deadline)
            else:
                yield from reader.follow(container, chain.waiter, deadline)

    def reopen(self, container: Container, deadline: Deadline) -> None:
        """Have a new log begun; raises the proto's errors of ``ReopenContainerLog``."""
        reopen_log(container, self._file_watch, deadline)
        log.info("log.reopened", container_id=container.container_id)
