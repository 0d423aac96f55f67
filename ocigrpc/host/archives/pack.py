"""A tree of files as a tar archive, piece by piece.

The tree may be a container's whose programs change it meanwhile: each file is opened by its name
in its directory, without following links, and with ``O_PATH``, which does nothing to a device or a
FIFO; what is read is the file that was looked at.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ocigrpc.errors import PreconditionFailed
from ocigrpc.host.archives.attributes import attribute_headers, time_header
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.files.generated import is_generated
from ocigrpc.host.mappings.owners import Owners

# Most levels of directories.
DEPTH_LIMIT = 128
# Most descriptors of one archive: packing takes two for each level, unpacking one.
DESCRIPTORS = 2 * DEPTH_LIMIT

# Most bytes of the names that are remembered of files with several; what has no place there is
# packed once for each name.
_NAMES_BYTES = 16 << 20
# Of a name beside its text.
_NAME_BYTES = 256

# Longest piece of an archive.
PIECE_BYTES = 256 << 10

_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}
_WITH_ATTRIBUTES = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE)


def pack(file: int, name: str, path: str, owners: Owners) -> Iterator[bytes]:
    """The archive of the file that is open by ``O_PATH``, with all below it, as ``name``.

    Its pieces are of any size; empty ones are for the caller to look whether to go on. Raises
    ``OSError`` and ``PreconditionFailed`` (FILE_CHANGED) with the path; that of the file itself is
    ``path``.
    """
    packer = _Packer(len(name), path.rstrip("/"), owners)
    yield from packer.packed(file, name, _Place(os.fstat(file).st_dev, is_generated(file)))
    # Two empty blocks are the end.
    yield bytes(2 * tarfile.BLOCKSIZE)


def joined(pieces: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
    """The same bytes in pieces of at most this size."""
    kept = bytearray()
    for piece in pieces:
        for start in range(0, len(piece), size_bytes):
            part = piece[start : start + size_bytes]
            if len(kept) + len(part) > size_bytes:
                yield bytes(kept)
                kept.clear()
            kept += part
    if kept:
        yield bytes(kept)


class _Place(NamedTuple):
    """Where a file is: its device, and how deep below the first one.

    The size of a ``generated`` file is not that of its content: it is packed as an empty one.
    """

    device: int
    generated: bool
    depth: int = 0
    is_entered: bool = True

    def below(self, file: int) -> _Place:
        """That of an entry of a directory here; what is generated is not entered from elsewhere."""
        device = os.fstat(file).st_dev
        generated = self.generated if device == self.device else is_generated(file)
        return _Place(device, generated, self.depth + 1, self.generated or not generated)


class Named(OSError):
    """A failure with the path of the file that it is about."""


class _Packer:
    """Makes one archive."""

    def __init__(self, name_length: int, path: str, owners: Owners) -> None:
        self._name_length = name_length
        self._path = path
        self._owners = owners
        # The first names of files that have more than one, by device and inode.
        self._names: dict[tuple[int, int], str] = {}
        self._room_bytes = _NAMES_BYTES

    def packed(self, file: int, name: str, place: _Place) -> Iterator[bytes]:
        """A file, and all below it."""
        try:
            header = self._header(file, name, place)
            yield header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") if header else b""
            if header is None:
                return
            if header.type == tarfile.REGTYPE and header.size:
                yield from _content(file, self._path_of(name), header.size)
            elif header.isdir() and place.is_entered:
                yield from self._entries(file, name, place)
        except OSError as error:
            if isinstance(error, Named):
                raise
            raise Named(error.errno, error.strerror, self._path_of(name)) from error

    def _path_of(self, name: str) -> str:
        """The path of a file, by its name in the archive."""
        return self._path + name[self._name_length :]

    def _header(self, file: int, name: str, place: _Place) -> tarfile.TarInfo | None:
        """The header of a file; None for a socket, which no archive can have."""
        found = os.fstat(file)
        kind = _TYPES.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            return None
        header = tarfile.TarInfo(name)
        header.type = kind
        header.mode = stat.S_IMODE(found.st_mode)
        header.uid, header.gid = self._owners.there(found)
        header.mtime = found.st_mtime_ns // 1_000_000_000
        if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            header.devmajor, header.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
        if found.st_nlink > 1 and kind != tarfile.DIRTYPE:
            first = self._first_name(name, found)
            if first != name:
                header.type, header.linkname = tarfile.LNKTYPE, first
                return header
        header.pax_headers = time_header(found.st_mtime_ns)
        if kind in _WITH_ATTRIBUTES:
            header.pax_headers |= attribute_headers(f"/proc/self/fd/{file}")
        if kind == tarfile.SYMTYPE:
            header.linkname = os.readlink("", dir_fd=file)
        if kind == tarfile.REGTYPE and not place.generated:
            header.size = found.st_size
        return header

    def _first_name(self, name: str, found: os.stat_result) -> str:
        first = self._names.get((found.st_dev, found.st_ino))
        size_bytes = len(name) + _NAME_BYTES
        if first is None and size_bytes <= self._room_bytes:
            self._room_bytes -= size_bytes
            self._names[found.st_dev, found.st_ino] = name
        return first or name

    def _entries(self, file: int, name: str, place: _Place) -> Iterator[bytes]:
        """What is in a directory."""
        if place.depth == DEPTH_LIMIT:
            raise OSError(errno.ENAMETOOLONG, f"deeper than {DEPTH_LIMIT} directories")
        with closing_fd(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=file)) as directory:
            # It has a descriptor of its own. Read as it goes: a directory may be of any size.
            scan = os.scandir(directory)
        with scan as entries:
            for entry in entries:
                try:
                    inner = os.open(entry.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=file)
                except FileNotFoundError:
                    yield b""
                    continue
                with closing_fd(inner):
                    yield from self.packed(inner, f"{name}/{entry.name}", place.below(inner))


def _content(file: int, path: str, size: int) -> Iterator[bytes]:
    """So many bytes of a file, and what fills the last block."""
    left = size
    with closing_fd(os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_NONBLOCK)) as content:
        while left:
            piece = os.read(content, min(left, PIECE_BYTES))
            if not piece:
                raise PreconditionFailed(
                    f"{path} became shorter while it was read", reason="FILE_CHANGED", path=path
                )
            left -= len(piece)
            yield piece
    yield bytes(-size % tarfile.BLOCKSIZE)
