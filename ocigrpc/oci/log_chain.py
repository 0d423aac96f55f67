"""The files of a container's log, one after the other, across every rotation."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Self

from ocigrpc.host.file_watch import Waiter
from ocigrpc.oci.log_file import LogFile
from ocigrpc.oci.log_names import ROTATED_LIMIT, LogNames, rotated_path

_ATTEMPTS = 16


class LogChain:
    """Files from the oldest to the newest, and with a ``waiter`` those to come.

    ``current`` is the one to read now; None when the log is not there, as between the two
    steps of a rotation. To be used in a ``with``.
    """

    def __init__(self, log_path: str, rotated: bool, waiter: Waiter | None) -> None:
        """``rotated``: begin with what our own rotation has kept. Raises ``OSError``."""
        self._log_path = log_path
        self._directory, stem = os.path.split(log_path)
        self._waiter = waiter
        self._names = LogNames(stem)
        self.files: deque[LogFile] = deque()
        """What is open; the first is the current one."""
        self.gap = False
        """Whether lines were lost between two files, or in one that was emptied."""
        try:
            self._open(rotated)
        except OSError:
            self.close()
            raise

    @property
    def current(self) -> LogFile | None:
        """The file to read now."""
        return self.files[0] if self.files else None

    @property
    def removed(self) -> bool:
        """Whether somebody has deleted the log."""
        return self._names.removed

    def look(self) -> bool:
        """Whether another file follows; if so, no more will be written to the current one.

        From this call on the waiter wakes when more is written, or a file follows.
        """
        assert self._waiter is not None
        self._learn()
        if len(self.files) > 1 or self._names.waiting:
            return True
        if self.current is not None:
            self._waiter.expect_change(self.current.fileno())
        return False

    def go_on(self) -> None:
        """Leave the current file for the one that follows."""
        if len(self.files) > 1:
            self._close_current()
            return
        following = self._following()
        self._names.go_on()
        if following is None:
            self.gap = True
        elif self.current is not None and following.identity == self.current.identity:
            # It was renamed back to where it was.
            following.close()
        else:
            self.files.append(following)
            if len(self.files) > 1:
                self._close_current()

    def _open(self, rotated: bool) -> None:
        # The newest first: a rotation meanwhile makes us meet a file twice, not miss one.
        seen = set()
        for number in range(ROTATED_LIMIT + 1 if rotated else 1):
            with suppress(FileNotFoundError):
                file = LogFile(rotated_path(self._log_path, number))
                if file.identity in seen:
                    file.close()
                    continue
                seen.add(file.identity)
                self.files.appendleft(file)
        if self._waiter is not None:
            self._learn()
            self._names.skip_to(self._is_newest)

    def _is_newest(self, name: str) -> bool:
        with suppress(OSError):
            status = os.stat(os.path.join(self._directory, name))
            return bool(self.files) and self.files[-1].identity == (status.st_dev, status.st_ino)
        return False

    def _following(self) -> LogFile | None:
        for _ in range(_ATTEMPTS):
            name = self._names.following
            if name is None:
                return None
            with suppress(FileNotFoundError):
                file = LogFile(os.path.join(self._directory, name))
                # A name is used again only after the event that takes it from its file.
                self._learn()
                if self._names.following == name:
                    return file
                file.close()
            self._learn()
        return None

    def _learn(self) -> None:
        assert self._waiter is not None
        events, lost = self._waiter.take()
        if lost:
            self._names.start_over()
        else:
            self._names.learn(events)

    def close(self) -> None:
        """Close all files."""
        while self.files:
            self._close_current()

    def _close_current(self) -> None:
        self.files.popleft().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
