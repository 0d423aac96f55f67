"""Trees of files, and tar archives of what a tree should not have."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

# A version 2 value of security.capability: cap_net_raw, effective and permitted.
NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")

_TAR = ("tar", "--format=pax", "--xattrs", "--xattrs-include=*", "--numeric-owner")


class Entry(NamedTuple):
    """What a file is, but for its content."""

    mode: int
    owner: tuple[int, int]
    size: int
    modified_ns: int
    device: int
    links: int
    target: str
    attributes: Mapping[str, bytes]


def tree(top: Path) -> dict[str, tuple[Entry, bytes]]:
    """All below a directory, by their paths in it, with the content of files."""
    found = {}
    for directory, names, files in os.walk(os.fsencode(top)):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            stat = os.lstat(path)
            entry = Entry(
                stat.st_mode,
                (stat.st_uid, stat.st_gid),
                0 if os.path.isdir(path) else stat.st_size,
                stat.st_mtime_ns,
                stat.st_rdev,
                1 if os.path.isdir(path) else stat.st_nlink,
                os.fsdecode(os.readlink(path)) if os.path.islink(path) else "",
                {
                    key: os.getxattr(path, key, follow_symlinks=False)
                    for key in os.listxattr(path, follow_symlinks=False)
                },
            )
            content = b""
            if os.path.isfile(path) and not os.path.islink(path):
                content = Path(os.fsdecode(path)).read_bytes()
            found[os.fsdecode(os.path.relpath(path, os.fsencode(top)))] = entry, content
    return found


def fill(top: Path) -> None:
    """Make files of every kind in a directory, with all that a file can have; for root."""
    (top / "file").write_bytes(b"content" * 1000)
    os.chown(top / "file", 1001, 1002)
    (top / "file").chmod(0o6755)
    os.setxattr(top / "file", "user.note", b"\xff\0note")
    os.link(top / "file", top / "second name")
    (top / "able").write_bytes(b"program")
    os.setxattr(top / "able", "security.capability", NET_RAW)
    (top / "link").symlink_to("/etc/passwd")
    os.chown(top / "link", 7, 8, follow_symlinks=False)
    os.mkfifo(top / "fifo")
    os.mknod(top / "null", 0o20600, os.makedev(1, 3))
    os.close(os.open(os.fsencode(top) + b"/\xff\xfe\n", os.O_CREAT, 0o600))
    inner = top / "closed/inner"
    inner.mkdir(parents=True)
    (inner / ("x" * 255)).write_text("")
    (top / "hole").write_bytes(b"")
    os.truncate(top / "hole", 3 << 20)
    (top / "closed").chmod(0o1500)
    os.utime(top / "closed", ns=(1, 1_234_567_890_123_456_789))
    os.utime(top / "hole", ns=(1, -1_500_000_000))


def member(name: str, **fields: object) -> tarfile.TarInfo:
    """A member of an archive, with other fields than usual."""
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def archive(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    """An archive of members; those with content get its size."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as made:
        for each in members:
            info, content = each if isinstance(each, tuple) else (each, b"")
            if content:
                info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return file.getvalue()


def packed_by_tar(top: Path) -> bytes:
    """An archive of what is in a directory, as GNU tar makes it."""
    argv = [*_TAR, "--create", "--file=-", "."]
    return subprocess.run(argv, cwd=top, capture_output=True, check=True).stdout


def unpack_by_tar(pieces: Iterable[bytes], top: Path) -> None:
    """Put an archive into a directory, as GNU tar does it for root."""
    argv = [*_TAR, "--extract", "--preserve-permissions", "--file=-"]
    subprocess.run(argv, cwd=top, input=b"".join(pieces), capture_output=True, check=True)
