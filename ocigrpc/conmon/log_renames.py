"""Which file follows which in a container's log, whatever renames them.

A rotation renames the log away, and conmon renames a new file to its place. Only the events
of the directory show, later and without a doubt, what the files in between are called now:
one that was ``0.log`` may be ``0.log.20260102-030405`` or ``0.log.3``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from threading import BoundedSemaphore

from ocigrpc.conmon.log_names import spare_path
from ocigrpc.host.files.inotify import DELETE, MOVED_FROM, MOVED_TO, OVERFLOW, Event

# Most files that a reader may be behind.
BEHIND_LIMIT = 1024

# Most files that are held open for all readers: one that is removed takes room until then.
HELD_LIMIT = 256

_room = BoundedSemaphore(HELD_LIMIT)


class HeldFile:
    """A file that is kept open, so that it can be read after its last name is gone."""

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
        """Close it, and make room for another."""
        os.close(self.fd)
        _room.release()


class _File:
    """A file that was the log once; ``name`` is None when it has no name any more."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.held: HeldFile | None = None
        self.held_at = 0

    def release(self) -> None:
        if self.held is not None:
            self.held.close()
            self.held = None


class LogRenames:
    """The file that is being read and those that come after it, by their present names.

    Only what conmon renames to the log's place is one of them: while there is another file
    there, which somebody else has made, conmon goes on with the one before. The last ``hold``
    files are kept open besides.
    """

    def __init__(
        self, directory: str, stem: str, hold: int = 0, position: Callable[[], int] = int
    ) -> None:
        """``position`` is where the events end that have happened by now."""
        self._position = position
        self._path = os.path.join(directory, stem)
        self._stem = stem
        self._spare = os.path.basename(spare_path(stem))
        self._hold = hold
        self._files: list[_File] = [_File(stem)]
        self._moving: tuple[int, _File | None] | None = None
        # Whether the log was deleted, and nothing has taken its place.
        self.removed = False

    @property
    def has_next(self) -> bool:
        """Whether another file follows."""
        return len(self._files) > 1

    @property
    def next_name(self) -> str | None:
        """What the next file is called now; None when it has no name any more."""
        return self._files[1].name

    def take_held(self) -> HeldFile | None:
        """The next file, if it is held open; to be closed by the caller."""
        held, self._files[1].held = self._files[1].held, None
        return held

    def advance(self) -> None:
        """From now on the next file is the one that is read."""
        self._drop(slice(0, 1))
        self._files[0].release()

    def skip_to(self, is_read: Callable[[str], bool]) -> None:
        """Leave out what comes before the last file whose name ``is_read`` is true for."""
        for index in range(len(self._files) - 1, 0, -1):
            name = self._files[index].name
            if name is not None and is_read(name):
                self._drop(slice(0, index))
                self._files[0].release()
                return

    def close(self) -> None:
        """Hold nothing open any more."""
        self._hold = 0
        for file in self._files:
            file.release()

    def apply(self, event: Event) -> bool:
        """Take an event of the directory into account, in order; whether it is about the log."""
        if event.mask & OVERFLOW:
            self._start_over()
            return True
        if event.name == self._stem:
            self._release_later(event)
        known = event.name == self._stem or any(file.name == event.name for file in self._files)
        if event.mask & MOVED_FROM:
            self._moved_from(event)
        elif event.mask & MOVED_TO:
            self._moved_to(event)
        elif event.mask & DELETE:
            self._vanished(event.name)
            self.removed |= event.name == self._stem
        return known

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

    def _vanished(self, name: str) -> None:
        for file in self._files:
            if file.name == name:
                file.name = None

    def _appeared(self) -> None:
        self.removed = False
        file = _File(self._stem)
        with suppress(OSError):
            if self._hold:
                self._make_room()
                file.held = HeldFile(self._path)
                file.held_at = self._position()
        self._files.append(file)
        if len(self._files) > BEHIND_LIMIT:
            self._drop(slice(1, 3))
            self._files.insert(1, _File(None))

    def _make_room(self) -> None:
        held = [file for file in self._files if file.held is not None]
        for file in held[: max(0, len(held) + 1 - self._hold)]:
            file.release()

    def _release_later(self, event: Event) -> None:
        """Release what was opened by the log's name after this event: it may be a later file."""
        for file in self._files:
            if file.held is not None and event.position <= file.held_at:
                file.release()

    def _drop(self, which: slice) -> None:
        for file in self._files[which]:
            file.release()
        del self._files[which]
