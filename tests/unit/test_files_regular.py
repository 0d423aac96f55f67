"""Small files of strangers: what is read of them, and what is left alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ocigrpc.host.files.regular import (
    SIZE_LIMIT_BYTES,
    read_regular_file,
    read_regular_file_in,
)


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * SIZE_LIMIT_BYTES)
    assert len(read_regular_file(str(tmp_path / "file"))) == SIZE_LIMIT_BYTES
    assert len(read_regular_file_in(str(tmp_path), "file")) == SIZE_LIMIT_BYTES


@pytest.mark.parametrize("name", ["file", "longer", "directory", "fifo"])
def test_a_file_that_is_too_large_or_no_file_is_refused(tmp_path: Path, name: str) -> None:
    make: dict[str, Callable[[Path], object]] = {
        "file": lambda path: path.write_bytes(b"x" * (SIZE_LIMIT_BYTES + 1)),
        "longer": lambda path: os.close(_sparse(path, 200_000_000)),
        "directory": lambda path: path.mkdir(),
        "fifo": lambda path: os.mkfifo(path),
    }
    make[name](tmp_path / name)
    with pytest.raises(OSError, match=r"larger|not a regular file"):
        read_regular_file(str(tmp_path / name))


def _sparse(path: Path, size_bytes: int) -> int:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.truncate(fd, size_bytes)
    return fd


def test_a_file_that_grows_as_it_is_read_takes_few_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fstat, read = tmp_path / "file", os.fstat, os.read
    reads = 0

    def seen_small(fd: int) -> os.stat_result:
        found = fstat(fd)
        os.truncate(path, SIZE_LIMIT_BYTES)
        return found

    def counted(fd: int, limit_bytes: int) -> bytes:
        nonlocal reads
        reads += 1
        return read(fd, limit_bytes)

    path.write_bytes(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", seen_small)
        patch.setattr(os, "read", counted)
        content = read_regular_file(str(path))
    assert content == b"x".ljust(SIZE_LIMIT_BYTES, b"\0")
    assert reads < 100


def test_what_the_kernel_makes_up_as_it_is_read_is_left_alone() -> None:
    # To read it is to wait for the next message of the kernel, and to keep it from others.
    assert read_regular_file("/proc/kmsg") == b""
    assert read_regular_file_in("/proc", "kmsg") == b""


def test_no_link_is_followed_below_a_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "directory").symlink_to(tmp_path)
    assert read_regular_file(str(tmp_path / "link")) == b"here"
    for path in ("link", "directory/file"):
        with pytest.raises(OSError):  # noqa: PT011 - ELOOP or ENOTDIR
            read_regular_file_in(str(tmp_path), path)
    with pytest.raises(OSError):  # noqa: PT011 - as above
        read_regular_file_in(str(tmp_path / "directory"), "file")
