"""Which file follows which in a container's log, whoever renames them.

A rotation renames the log away, and conmon renames a new file to its place. Only the
directory's events tell, later and without a doubt, what the files in between are called
now: one that was ``0.log`` may be ``0.log.20260102-030405`` or ``0.log.3``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import BoundedSemaphore

from ocigrpc.host.files.inotify import DELETE, MOVED_FROM, MOVED_TO, OVERFLOW, Event

ROTATED_LIMIT = 63
"""Most files that our own rotation keeps of a log beside the log itself."""

SPARE_SUFFIXES = ("held", "next", "tmp")
"""What the other names end in that a log has for its next rotation."""

WAITING_LIMIT = 1024
"""Most files that a reader may be behind."""

HELD_LIMIT = 256
"""Most files that are held open for all readers: one that is removed takes room until then."""

_room = BoundedSemaphore(HELD_LIMIT)


def rotated_path(log_path: str, number: int) -> str:
    """The file of the ``number``-th rotation of our own before now; 0 is the log itself."""
    return f"{log_path}.{number}" if number else log_path


def held_path(log_path: str) -> str:
    """A second name of the log, so that it outlives what conmon renames to its place."""
    return f"{log_path}.held"


def spare_path(log_path: str) -> str:
    """The file that conmon opens for the next log, and renames to its place."""
    return f"{log_path}.tmp"


def next_path(log_path: str) -> str:
    """A second name of the spare file, and, once it is the log, of the log."""
    return f"{log_path}.next"


def kept_logs(log_path: str) -> Sequence[str]:
    """The log, what our own rotation has kept of it, and what is there for the next one.

    From newer files to older ones, as they are renamed: none can slip by.
    """
    names = (spare_path(log_path), next_path(log_path), held_path(log_path))
    numbers = (rotated_path(log_path, number) for number in range(ROTATED_LIMIT + 1))
    return [path for path in (*names, *numbers) if os.path.lexists(path)]


def remove_rotated(log_path: str, first: int) -> None:
    """Remove what our own rotation made of a log, from a number on; raises ``OSError``."""
    # Upwards, as files are renamed: none can slip by.
    for number in range(first, ROTATED_LIMIT + 1):
        with suppress(FileNotFoundError):
            os.unlink(rotated_path(log_path, number))


class HeldFile:
    """A file that is kept open, so that it can be read though no name leads there any more."""

    def __init__(self, path: str) -> None:
        """Raises ``OSError``; ``BlockingIOError`` when enough are held already."""
        if not _room.acquire(blocking=False):
            raise BlockingIOError
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except BaseException:
            _room.release()
            raise

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)
        _room.release()


class _File:
    """A file that was the log once; ``name`` is None when no name leads there any more."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.held: HeldFile | None = None
        self.held_at = 0

    def let_go(self) -> None:
        if self.held is not None:
            self.held.close()
            self.held = None


class LogNames:
    """The files that come after the one that is being read, by what they are called now.

    Only what conmon renames to the log's place is one: as long as there is another there,
    which somebody has made, conmon goes on with the one before. The last ``hold`` files are
    kept open besides.
    """

    def __init__(
        self, directory: str, stem: str, hold: int = 0, position: Callable[[], int] = int
    ) -> None:
        """``position`` answers where all that has happened by now ends."""
        self._position = position
        self._path = os.path.join(directory, stem)
        self._stem = stem
        self._spare = os.path.basename(spare_path(stem))
        self._hold = hold
        self._files: list[_File] = [_File(stem)]
        self._moving: tuple[int, _File | None] | None = None
        self.removed = False
        """Whether the log was deleted, and nothing has taken its place."""

    @property
    def waiting(self) -> bool:
        """Whether another file follows."""
        return len(self._files) > 1

    def learn(self, event: Event) -> bool:
        """Take in what happened in the directory, in its order; whether it is about the log."""
        if event.mask & OVERFLOW:
            self._start_over()
            return True
        if event.name == self._stem:
            self._let_go_of_later(event)
        known = event.name == self._stem or any(file.name == event.name for file in self._files)
        if event.mask & MOVED_FROM:
            self._moved_from(event)
        elif event.mask & MOVED_TO:
            self._moved_to(event)
        elif event.mask & DELETE:
            self._vanished(event.name)
            self.removed |= event.name == self._stem
        return known

    def skip_to(self, is_read: Callable[[str], bool]) -> None:
        """Leave out what comes before the last file of which ``is_read`` is true, by its name."""
        for index in range(len(self._files) - 1, 0, -1):
            name = self._files[index].name
            if name is not None and is_read(name):
                self._drop(slice(0, index))
                self._files[0].let_go()
                return

    @property
    def following(self) -> str | None:
        """What the file that follows is called now; None when no name leads there any more."""
        return self._files[1].name

    def claim(self) -> HeldFile | None:
        """The file that follows, if it is held; to be closed by the caller."""
        held, self._files[1].held = self._files[1].held, None
        return held

    def go_on(self) -> None:
        """From now on the file that follows is the one that is read."""
        self._drop(slice(0, 1))
        self._files[0].let_go()

    def close(self) -> None:
        """Hold nothing any more."""
        self._hold = 0
        for file in self._files:
            file.let_go()

    def _start_over(self) -> None:
        """Events are lost: of what came after the file that is read, only the log is known."""
        self._drop(slice(1, None))
        self._files += [_File(None), _File(self._stem)]
        self._moving = None

    def _moved_from(self, event: Event) -> None:
        self._moving = (event.cookie, None) if event.name == self._spare else None
        for file in self._files:
            if file.name == event.name:
                file.name = None
                self._moving = (event.cookie, file)

    def _moved_to(self, event: Event) -> None:
        self._vanished(event.name)
        cookie, moving = self._moving or (0, None)
        if moving is not None and cookie == event.cookie:
            moving.name = event.name
            self.removed &= event.name != self._stem
        elif event.name == self._stem and cookie == event.cookie:
            self._appeared()
        self._moving = None

    def _appeared(self) -> None:
        self.removed = False
        file = _File(self._stem)
        with suppress(OSError):
            if self._hold:
                self._make_room()
                file.held = HeldFile(self._path)
                file.held_at = self._position()
        self._files.append(file)
        if len(self._files) > WAITING_LIMIT:
            self._drop(slice(1, 3))
            self._files.insert(1, _File(None))

    def _let_go_of_later(self, event: Event) -> None:
        """What the name was opened for after this event, may be the file of a later one."""
        for file in self._files:
            if file.held is not None and event.position <= file.held_at:
                file.let_go()

    def _make_room(self) -> None:
        held = [file for file in self._files if file.held is not None]
        for file in held[: max(0, len(held) + 1 - self._hold)]:
            file.let_go()

    def _drop(self, which: slice) -> None:
        for file in self._files[which]:
            file.let_go()
        del self._files[which]

    def _vanished(self, name: str) -> None:
        for file in self._files:
            if file.name == name:
                file.name = None
