"""The files of a container's log, one after the other, across every rotation."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress

from ocigrpc.closing import ClosingStack
from ocigrpc.conmon.log_file import LogFile
from ocigrpc.conmon.log_names import (
    ROTATED_LIMIT,
    held_path,
    next_path,
    rotated_path,
    spare_path,
)
from ocigrpc.conmon.log_renames import LogRenames
from ocigrpc.host.files.watch import FileWatch, Waiter

_ATTEMPTS = 16


class LogChain(ClosingStack):
    """Files from the oldest to the newest, and with a ``file_watch`` those to come.

    ``files`` are open, the first of them is :attr:`current`. ``gap`` is whether lines were
    lost between two files, or in one that was emptied. ``waiter`` wakes a follower, see
    :meth:`poll`. To be used in a ``with``.
    """

    def __init__(
        self, log_path: str, rotated: bool, file_watch: FileWatch | None = None, hold: int = 0
    ) -> None:
        """``rotated``: begin with what our own rotation has kept.

        Of the files to come, the last ``hold`` are kept open before they are read: they may
        be compressed or removed meanwhile. Raises ``OSError``, ``HostFailed``.
        """
        self._log_path = log_path
        self._directory, stem = os.path.split(log_path)
        position = file_watch.position if file_watch is not None else int
        self._renames = LogRenames(self._directory, stem, hold, position)
        self.waiter: Waiter | None = None
        self.files: deque[LogFile] = deque()
        self.gap = False
        with ExitStack() as stack:
            stack.callback(self._close_files)
            if file_watch is not None:
                waiter = file_watch.waiter(self._directory, self._renames.apply)
                stack.callback(self._renames.close)
                self.waiter = stack.enter_context(waiter)
            self._open(rotated)
            self._stack = stack.pop_all()

    @property
    def current(self) -> LogFile | None:
        """The file to read now; None when the log is missing, as in the middle of a rotation."""
        return self.files[0] if self.files else None

    @property
    def removed(self) -> bool:
        """Whether somebody has deleted the log."""
        return self._renames.removed

    def poll(self) -> bool:
        """Whether another file follows; if so, no more will be written to the current one.

        From this call on the waiter wakes when more is written, or a file follows.
        """
        assert self.waiter is not None
        self.waiter.take()
        if len(self.files) > 1 or self._renames.has_next:
            return True
        if self.current is not None:
            self.waiter.expect_change(self.current.fileno())
        return False

    def advance(self) -> None:
        """Leave the current file for the next one."""
        if len(self.files) > 1:
            self.files.popleft().close()
            return
        assert self.waiter is not None
        following = self._open_next()
        with self.waiter.lock:
            self._renames.advance()
        if following is None:
            self.gap = True
        elif self.current is not None and following.identity == self.current.identity:
            # It was renamed back to where it was.
            following.close()
        else:
            self.files.append(following)
            if len(self.files) > 1:
                self.files.popleft().close()

    def _open(self, rotated: bool) -> None:
        for _ in range(_ATTEMPTS):
            self._open_all(_newest_first(self._log_path) if rotated else [self._log_path])
            if not rotated or not self._replaced():
                break
            # A rotation meanwhile: what was the log may be missing between the others.
            self._close_files()
        if self.waiter is not None:
            self.waiter.take()
            with self.waiter.lock:
                self._renames.skip_to(self._is_newest)

    def _open_all(self, paths: Iterable[str]) -> None:
        # The newest first: by a rotation meanwhile a file is met twice, and none is missed.
        seen = {_identity(spare_path(self._log_path))}
        for path in paths:
            with suppress(FileNotFoundError):
                file = LogFile(path)
                if file.identity in seen:
                    file.close()
                    continue
                seen.add(file.identity)
                self.files.appendleft(file)

    def _replaced(self) -> bool:
        """Whether the log is not the newest of the open files any more."""
        log = _identity(self._log_path)
        return log is not None and (not self.files or self.files[-1].identity != log)

    def _is_newest(self, name: str) -> bool:
        found = _identity(os.path.join(self._directory, name))
        return bool(self.files) and self.files[-1].identity == found

    def _open_next(self) -> LogFile | None:
        assert self.waiter is not None
        for _ in range(_ATTEMPTS):
            self.waiter.take()
            with self.waiter.lock:
                held, name = self._renames.take_held(), self._renames.next_name
            if held is not None:
                try:
                    return LogFile(f"/proc/self/fd/{held.fd}")
                finally:
                    held.close()
            if name is None:
                return None
            with suppress(FileNotFoundError):
                file = LogFile(os.path.join(self._directory, name))
                # A name is used again only after the event that takes it from its file.
                self.waiter.take()
                if self._renames.next_name == name:
                    return file
                file.close()
        return None

    def _close_files(self) -> None:
        while self.files:
            self.files.popleft().close()


def _newest_first(log_path: str) -> Iterator[str]:
    """What our own rotation may have made of a log, in which newer names go to older files."""
    yield log_path
    yield next_path(log_path)
    yield held_path(log_path)
    for number in range(1, ROTATED_LIMIT + 1):
        yield rotated_path(log_path, number)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
