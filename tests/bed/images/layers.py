"""Layers of images: archives of entries, the same bytes from the same entries."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK_BYTES = 512

# From linux/capability.h: version 2 of the attribute, with the bit that makes them effective.
_CAPABILITIES_V2_EFFECTIVE = 0x02000001


@dataclass(frozen=True)
class Entry:
    """A member of a layer. ``kind`` is tar's, and ``headers`` what pax has besides."""

    name: str
    kind: bytes = tarfile.REGTYPE
    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    target: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def directory(name: str, mode: int = 0o755, xattrs: Mapping[str, bytes] | None = None) -> Entry:
    return Entry(name, tarfile.DIRTYPE, mode=mode, xattrs=xattrs or {})


def file(
    name: str,
    data: bytes = b"",
    mode: int = 0o644,
    *,
    owner: tuple[int, int] = (0, 0),
    xattrs: Mapping[str, bytes] | None = None,
) -> Entry:
    return Entry(name, data=data, mode=mode, uid=owner[0], gid=owner[1], xattrs=xattrs or {})


def symlink(name: str, target: str) -> Entry:
    return Entry(name, tarfile.SYMTYPE, mode=0o777, target=target)


def hard_link(name: str, target: str) -> Entry:
    """Another name for ``target``, which comes before it in its layer."""
    return Entry(name, tarfile.LNKTYPE, target=target)


def character_device(name: str, major: int, minor: int) -> Entry:
    return Entry(name, tarfile.CHRTYPE, device=(major, minor))


def fifo(name: str) -> Entry:
    return Entry(name, tarfile.FIFOTYPE)


def whiteout(name: str) -> Entry:
    """Hides what the layers below have at ``name``."""
    parent, _, last = name.rpartition("/")
    return file(f"{parent}/.wh.{last}" if parent else f".wh.{last}")


def opaque(name: str) -> Sequence[Entry]:
    """A directory in which nothing of the layers below is seen."""
    return directory(name), file(f"{name}/.wh..wh..opq")


def sparse(name: str, size_bytes: int, *parts: tuple[int, bytes]) -> Entry:
    """A file with holes between these parts, by their offsets, as GNU tar writes it with pax.

    Its older form for them (type ``S``) is unknown to containers/storage.
    """
    numbers = [len(parts), *(number for at, data in parts for number in (at, len(data)))]
    holes = "".join(f"{number}\n" for number in numbers).encode()
    holes += bytes(-len(holes) % _BLOCK_BYTES)
    headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(size_bytes),
    }
    return Entry(name, data=holes + b"".join(data for _, data in parts), headers=headers)


def file_capabilities(*bits: int) -> Mapping[str, bytes]:
    """The extended attribute that gives a program these capabilities, by their numbers."""
    permitted = sum(1 << bit for bit in bits)
    low, high = permitted & 0xFFFFFFFF, permitted >> 32
    return {"security.capability": struct.pack("<5I", _CAPABILITIES_V2_EFFECTIVE, low, 0, high, 0)}


def tree(root: Path) -> Iterator[Entry]:
    """The files, directories and symbolic links below a directory."""
    for path in sorted(root.rglob("*")):
        name, mode = str(path.relative_to(root)), path.lstat().st_mode & 0o7777
        if path.is_symlink():
            yield symlink(name, str(path.readlink()))
        elif path.is_dir():
            yield directory(name, mode)
        else:
            yield file(name, path.read_bytes(), mode)


def archive(entries: Iterable[Entry]) -> bytes:
    """The layer of these entries, not compressed; names are as they are, good or bad."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as made:
        for entry in entries:
            made.addfile(_member(entry), io.BytesIO(entry.data))
    return written.getvalue()


def _member(entry: Entry) -> tarfile.TarInfo:
    member = tarfile.TarInfo(entry.name)
    member.type, member.mode, member.linkname = entry.kind, entry.mode, entry.target
    member.uid, member.gid, member.size = entry.uid, entry.gid, len(entry.data)
    member.devmajor, member.devminor = entry.device
    # tarfile takes text, and writes such bytes as they were.
    xattrs = {
        f"SCHILY.xattr.{name}": value.decode(errors="surrogateescape")
        for name, value in entry.xattrs.items()
    }
    member.pax_headers = {**entry.headers, **xattrs}
    return member
