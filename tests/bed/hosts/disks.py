"""Small disks, to be filled and freed again while a service works on them."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bed.hosts.mounted import mounted

_CHUNK_BYTES = 1 << 16
_IMAGE_BYTES = 32 << 20
_DEVICE_BYTES = 300 << 20
PAGE_BYTES = 1 << 12

# What takes all the room.
FILLING = "filling"


class Disk:
    """A directory on a disk of its own, of 16 MiB and some thousand files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filling = path / FILLING

    @contextmanager
    def full(self, free_pages: int = 0) -> Iterator[None]:
        """No more than so many pages of 4 KiB can be written in the block."""
        with self._filling.open("wb", buffering=0) as file:
            for chunk in (bytes(_CHUNK_BYTES), bytes(PAGE_BYTES)):
                _until_full(functools.partial(file.write, chunk))
            file.truncate(file.tell() - free_pages * PAGE_BYTES)
        try:
            yield
        finally:
            self._filling.unlink(missing_ok=True)

    @contextmanager
    def without_inodes(self) -> Iterator[None]:
        """No file can be made in the block, though there is room."""
        self._filling.mkdir()
        names = map(str, itertools.count())
        _until_full(lambda: (self._filling / next(names)).touch())
        try:
            yield
        finally:
            for each in self._filling.iterdir():
                each.unlink()
            self._filling.rmdir()


def _until_full(write: Callable[[], object]) -> None:
    try:
        while True:
            write()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


@contextmanager
def disk(path: Path) -> Iterator[Disk]:
    """An empty disk at ``path``, in the block."""
    path.mkdir()
    with mounted(path, "-t", "tmpfs", "-o", "size=16m,nr_inodes=3000,mode=0700", "tmpfs"):
        yield Disk(path)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    with mounted(path, "--bind", str(path)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(path)], check=True)
        yield


@contextmanager
def device(image: Path) -> Iterator[str]:
    """The path of a block device of 300 MiB, the least that xfs takes, for as long as the block."""
    with image.open("wb") as file:
        file.truncate(_DEVICE_BYTES)
    argv = ["losetup", "--find", "--show", str(image)]
    path = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield path
    finally:
        subprocess.run(["losetup", "--detach", path], check=True)


class FailingDisk:
    """A disk at ``path`` that can turn read-only while programs write to it.

    Others refuse that while files are open. This one, ext4 on a file, does so by itself when
    it meets an error, and stays so until it is mounted again.
    """

    def __init__(self, image: Path, path: Path) -> None:
        self.path = path
        self._image = image
        with image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
        path.mkdir()

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """It is there, sound and writable, in the block."""
        with mounted(self.path, "-o", "loop,errors=remount-ro", str(self._image)):
            yield

    def fail(self) -> None:
        """From now on nothing can be written, not even to open files; what was, is there."""
        subprocess.run(["sync", "--file-system", str(self.path)], check=True)
        device = os.stat(self.path).st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        # ext4(5): Documentation/ABI/testing/sysfs-fs-ext4 of the kernel.
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("a test")

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """All that write to it hang in the block, and go on afterwards; fsfreeze(8)."""
        subprocess.run(["fsfreeze", "--freeze", str(self.path)], check=True)
        try:
            yield
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", str(self.path)], check=True)
