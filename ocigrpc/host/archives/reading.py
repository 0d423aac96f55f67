"""The members of a tar archive that comes piece by piece, from somebody who is not trusted.

``tarfile`` decodes the headers of ustar. What may stand between them is read here: its own reader
keeps every member, takes any amount of memory that a header claims, and takes what is no header for
the end. Sparse members, which only ``tar --sparse`` makes, are refused.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ocigrpc.errors import InvalidArgument
from ocigrpc.host.archives.attributes import HEADERS_BYTES, time_ns_of

_LENGTH = re.compile(rb"(\d{1,7}) ", re.ASCII)
_NUMBER = re.compile(r"\d{1,19}", re.ASCII)
_SIZE_LIMIT = 1 << 63

# The numbers of devices have 12 and 20 bits; MINORBITS in linux/kdev_t.h.
_MAJOR_LIMIT = 1 << 12
_MINOR_LIMIT = 1 << 20
_DEVICES = (tarfile.CHRTYPE, tarfile.BLKTYPE)

_WITH_CONTENT = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_WITHOUT_CONTENT = (
    *(tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE),
    *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
)


class Member(NamedTuple):
    """A member of an archive: its header, what pax has beside it, and its time."""

    info: tarfile.TarInfo
    headers: dict[str, str]
    modified_ns: int


def malformed(problem: str) -> InvalidArgument:
    """The error for what is no tar archive, or none of files."""
    return InvalidArgument.of("chunk", problem, reason="ARCHIVE_MALFORMED")


class Archive:
    """An archive of any size, which is read once.

    All raises ``InvalidArgument`` (ARCHIVE_MALFORMED), and what the pieces raise.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        """``pieces`` are of any size."""
        self._pieces = iter(pieces)
        self._piece = b""
        self._position = 0
        # Of the member that was read last: its content, and what fills its last block.
        self._left_bytes = 0
        self._fill_bytes = 0

    def __iter__(self) -> Iterator[Member]:
        """The members; what has not been read of one is passed over for the next one."""
        while (member := self._next()) is not None:
            yield member
            for _ in self.content():
                pass
            self._exactly(self._fill_bytes)
        # Others than the reader of an archive may wait until it is taken whole.
        while self._some(HEADERS_BYTES):
            pass

    def content(self) -> Iterator[bytes]:
        """The content of the last member, or what is left of it."""
        while self._left_bytes:
            part = self._some(self._left_bytes)
            if not part:
                raise malformed("the archive ends in the middle of a file")
            self._left_bytes -= len(part)
            yield part

    def _next(self) -> Member | None:
        """The next member; None at the end."""
        headers: dict[str, str] = {}
        room_bytes = HEADERS_BYTES
        while (info := self._header()) is not None:
            if info.type in (*_WITH_CONTENT, *_WITHOUT_CONTENT):
                return self._member(info, headers)
            if not 0 <= info.size <= room_bytes:
                raise malformed(f"the archive has a header of more than {HEADERS_BYTES} bytes")
            room_bytes -= info.size + tarfile.BLOCKSIZE
            text = self._exactly(info.size)
            self._exactly(-info.size % tarfile.BLOCKSIZE)
            match info.type:
                case tarfile.XHDTYPE | tarfile.SOLARIS_XHDTYPE:
                    headers |= dict(_records(text))
                case tarfile.GNUTYPE_LONGNAME:
                    headers["path"] = _text(text.partition(b"\0")[0])
                case tarfile.GNUTYPE_LONGLINK:
                    headers["linkpath"] = _text(text.partition(b"\0")[0])
                case tarfile.XGLTYPE:
                    # Of all members: in use for comments.
                    pass
                case _:
                    raise malformed(f"the archive has a member of type {info.type!r}")
        if headers:
            raise malformed("the archive ends behind a header")
        return None

    def _header(self) -> tarfile.TarInfo | None:
        """The next header; None for the block that is the end."""
        block = self._exactly(tarfile.BLOCKSIZE)
        if not any(block):
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.TarError, ValueError) as error:
            raise malformed(f"this is no tar archive: {error}") from error

    def _member(self, info: tarfile.TarInfo, headers: dict[str, str]) -> Member:
        if any(key.startswith("GNU.sparse.") for key in headers):
            raise malformed("the archive has a sparse member")
        info.name = headers.get("path", info.name)
        info.linkname = headers.get("linkpath", info.linkname)
        if not info.name or "\0" in info.name + info.linkname:
            raise malformed("the archive has a name that no file can have")
        info.uid = _number(headers, "uid", info.uid)
        info.gid = _number(headers, "gid", info.gid)
        info.size = _number(headers, "size", info.size)
        if info.type in _DEVICES and not (
            0 <= info.devmajor < _MAJOR_LIMIT and 0 <= info.devminor < _MINOR_LIMIT
        ):
            raise malformed(f"the archive has a device that Linux can't have at {info.name!r}")
        try:
            modified_ns = time_ns_of(headers.get("mtime", str(info.mtime)))
        except ValueError as error:
            raise malformed(f"the archive has {error} at {info.name!r}") from error
        self._left_bytes = info.size if info.type in _WITH_CONTENT else 0
        self._fill_bytes = -self._left_bytes % tarfile.BLOCKSIZE
        return Member(info, headers, modified_ns)

    def _exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            part = self._some(size)
            if not part:
                raise malformed("the archive ends too soon")
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _some(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        while self._position == len(self._piece):
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._piece, self._position = piece, 0
        part = self._piece[self._position : self._position + size]
        self._position += len(part)
        return part


def _records(text: bytes) -> Iterator[tuple[str, str]]:
    """The keys and values of a header of pax; "Extended header" in pax(1) of POSIX."""
    position = 0
    while position < len(text):
        length = _LENGTH.match(text, position)
        end = position + int(length[1]) if length else 0
        record = text[length.end() : end] if length else b""
        key, separator, value = record.removesuffix(b"\n").partition(b"=")
        is_whole = separator and end <= len(text) and record.endswith(b"\n")
        if not is_whole or b"\0" in key:
            raise malformed("the archive has a malformed header of pax")
        yield _text(key), _text(value)
        position = end


def _text(encoded: bytes) -> str:
    return encoded.decode("utf-8", "surrogateescape")


def _number(headers: dict[str, str], key: str, number: int) -> int:
    """The number in a header of pax, or else the given one; never negative."""
    text = headers.get(key)
    if text is not None and not _NUMBER.fullmatch(text):
        raise malformed(f"the archive has no number as its {key}")
    found = number if text is None else int(text)
    if not 0 <= found < _SIZE_LIMIT:
        raise malformed(f"the archive has {found} as its {key}")
    return found
