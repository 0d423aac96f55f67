"""Which file follows which in a container's log, whoever renames them.

A rotation renames the log away, and conmon renames a new file to its place. Only the
directory's events tell, later and without a doubt, what the files in between are called
now: one that was ``0.log`` may be ``0.log.20260102-030405`` or ``0.log.3``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from ocigrpc.host.inotify import CREATE, DELETE, MOVED_FROM, MOVED_TO, Event

ROTATED_LIMIT = 63
"""Most files that our own rotation keeps of a log beside the log itself."""

WAITING_LIMIT = 1024
"""Most files that a reader may be behind."""


def rotated_path(log_path: str, number: int) -> str:
    """The file of the ``number``-th rotation of our own before now; 0 is the log itself."""
    return f"{log_path}.{number}" if number else log_path


def kept_logs(log_path: str) -> Sequence[str]:
    """The log, and what our own rotation has kept of it.

    Upwards, as files are renamed: none can slip by.
    """
    numbers = range(ROTATED_LIMIT + 1)
    paths = (rotated_path(log_path, number) for number in numbers)
    return [path for path in paths if os.path.lexists(path)]


def remove_log(log_path: str, first: int = 0) -> None:
    """Remove what our own rotation made of a log, from a number on; raises ``OSError``."""
    # Upwards, as files are renamed: none can slip by.
    for number in range(first, ROTATED_LIMIT + 1):
        with suppress(FileNotFoundError):
            os.unlink(rotated_path(log_path, number))


class _File:
    """A file that was the log once; ``name`` is None when it can't be reached any more."""

    def __init__(self, name: str | None) -> None:
        self.name = name


class LogNames:
    """The files that come after the one that is being read, by what they are called now."""

    def __init__(self, stem: str) -> None:
        self._stem = stem
        self._files: list[_File] = [_File(stem)]
        self._moving: tuple[int, _File] | None = None
        self.removed = False
        """Whether the log was deleted, and nothing has taken its place."""

    @property
    def waiting(self) -> bool:
        """Whether another file follows."""
        return len(self._files) > 1

    def learn(self, events: Iterable[Event]) -> None:
        """Take in what happened to files in the directory, in its order."""
        for event in events:
            if event.mask & MOVED_FROM:
                self._moved_from(event)
            elif event.mask & MOVED_TO:
                self._moved_to(event)
            elif event.mask & CREATE and event.name == self._stem:
                self._appeared(_File(self._stem))
            elif event.mask & DELETE:
                self._vanished(event.name)
                self.removed |= event.name == self._stem

    def start_over(self) -> None:
        """Events are lost: of what came after the file that is read, only the log is known."""
        self._files[1:] = [_File(None), _File(self._stem)]
        self._moving = None

    def skip_to(self, is_read: Callable[[str], bool]) -> None:
        """Leave out what comes before the last file of which ``is_read`` is true, by its name."""
        for index in range(len(self._files) - 1, 0, -1):
            name = self._files[index].name
            if name is not None and is_read(name):
                del self._files[:index]
                return

    @property
    def following(self) -> str | None:
        """What the file that follows is called now; None when it can't be reached any more."""
        return self._files[1].name

    def go_on(self) -> None:
        """From now on the file that follows is the one that is read."""
        del self._files[0]

    def _moved_from(self, event: Event) -> None:
        self._moving = None
        for file in self._files:
            if file.name == event.name:
                file.name = None
                self._moving = (event.cookie, file)

    def _moved_to(self, event: Event) -> None:
        self._vanished(event.name)
        if self._moving is not None and self._moving[0] == event.cookie:
            self._moving[1].name = event.name
            self.removed &= event.name != self._stem
        elif event.name == self._stem:
            self._appeared(_File(self._stem))
        self._moving = None

    def _appeared(self, file: _File) -> None:
        self.removed = False
        self._files.append(file)
        if len(self._files) > WAITING_LIMIT:
            self._files[1:3] = [_File(None)]

    def _vanished(self, name: str) -> None:
        for file in self._files:
            if file.name == name:
                file.name = None
