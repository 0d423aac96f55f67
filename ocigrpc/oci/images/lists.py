"""The lists of containers/storage: read again when they have changed, and changed in turn."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from ocigrpc.failing import host_failing
from ocigrpc.host.files.locked_file import record_locked, replace_file
from ocigrpc.image_errors import ImagesFailed
from ocigrpc.waiting import Deadline

# The largest list of a store that is read: some 100,000 layers.
_LIST_LIMIT_BYTES = 64 << 20
# By which others know who has changed a list last, and read it again; see containers/storage.
_LAST_WRITER_BYTES = 64

_T = TypeVar("_T")


class Decoded(Generic[_T]):
    """A file of a store, decoded again when it has changed."""

    def __init__(self, path: Path, decode: Callable[[bytes], _T]) -> None:
        self._path = path
        self._decode = decode
        self._version: tuple[int, int, int] | None = None
        self._value: _T | None = None

    def read(self) -> _T | None:
        """What it has; None while it is missing."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            self._version = self._value = None
            return None
        except OSError as error:
            raise _damage(self._path, error.strerror or str(error)) from error
        version = found.st_ino, found.st_size, found.st_mtime_ns
        if version != self._version:
            with explained(self._path):
                self._value = self._decode(_content(self._path))
            self._version = version
        return self._value


def edit_list(path: Path, lock: Path, edit: Callable[[bytes], bytes], deadline: Deadline) -> None:
    """Change a list as a whole, in turn with all programs that do.

    ``edit`` gets what it is then, and may raise ``ValueError``, which becomes ``ImagesFailed``.
    What it does not change is not written, for which a full disk would have no room. Raises
    ``HostFailed``, ``Timeout`` and ``Cancelled`` as well.
    """
    with host_failing("change", path), record_locked(lock, deadline) as file:
        with explained(path):
            before = _content(path)
            content = edit(before)
        if content == before:
            return
        # First: if this process is killed between the two, others read what they know already.
        os.pwrite(file, os.urandom(_LAST_WRITER_BYTES), 0)
        replace_file(path, content)


def await_lock(lock: Path, deadline: Deadline) -> None:
    """Return at a moment when no program has it. Raises ``HostFailed``, ``Timeout``, ``Cancelled``.

    It may be made for that.
    """
    with host_failing("lock", lock), record_locked(lock, deadline):
        pass


def _content(path: Path) -> bytes:
    """All of a list; empty while it is missing. Raises ``ValueError`` if it is too long."""
    try:
        with open(path, "rb") as file:
            content = file.read(_LIST_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return b""
    if len(content) > _LIST_LIMIT_BYTES:
        raise ValueError(f"it is larger than {_LIST_LIMIT_BYTES} bytes")
    return content


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise ``ImagesFailed`` for what can't be read or understood."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise _damage(path, str(error)) from error


def _damage(path: Path, problem: str) -> ImagesFailed:
    return ImagesFailed(
        f"the list of images in {path} can't be read: {problem}",
        reason="STORAGE_DAMAGED",
        path=path,
        error=problem,
    )
