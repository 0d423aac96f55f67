"""Small regular files, read so that neither a hostile tree nor a special file does harm.

A file is first opened with ``O_PATH``, which does nothing to a device or a FIFO, and is read
only if it is regular and not empty. Files that the kernel generates have size 0, and reading
some of them, such as /proc/kmsg, would block without end and take data away from others.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack

from ocigrpc.host.descriptors import closing_fd

# The largest file that is read.
SIZE_LIMIT_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16


def read_regular_file(path: str) -> bytes:
    """Content of ``path``, with symbolic links followed.

    Raises ``OSError``: EINVAL unless it is a regular file, EFBIG if it is larger than
    ``SIZE_LIMIT_BYTES``.
    """
    with closing_fd(os.open(path, os.O_PATH)) as file:
        return read_open_file(file)


def read_regular_file_in(root: str, path: str) -> bytes:
    """Content of the relative ``path`` below ``root``, which is not trusted.

    No symbolic link is followed, since it could lead to the host's own files: raises ``OSError``
    (ELOOP or ENOTDIR), and otherwise what ``read_regular_file`` raises.
    """
    *directories, name = path.split("/")
    step = None
    with ExitStack() as opened:
        # With a slash at the end, the kernel would follow a link.
        for directory in (root.rstrip("/") or "/", *directories):
            fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=step)
            step = opened.enter_context(closing_fd(fd))
        file = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=step)
        return read_open_file(opened.enter_context(closing_fd(file)))


def read_open_file(path_fd: int) -> bytes:
    """Content of the file that is open by ``O_PATH``; as ``read_regular_file``."""
    found = os.fstat(path_fd)
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if not found.st_size:
        return b""
    # The kernel's link to the open file, not its name: the file can't be swapped.
    # Read to its end and little further than the limit, whatever size it had: what has grown since
    # is not read in pieces of the size that its owner had chosen.
    chunk_bytes = min(found.st_size, SIZE_LIMIT_BYTES) + 1
    content = bytearray()
    with closing_fd(os.open(f"/proc/self/fd/{path_fd}", os.O_RDONLY)) as file:
        while len(content) <= SIZE_LIMIT_BYTES and (chunk := os.read(file, chunk_bytes)):
            content += chunk
            chunk_bytes = _CHUNK_BYTES
    if len(content) > SIZE_LIMIT_BYTES:
        raise OSError(errno.EFBIG, f"larger than {SIZE_LIMIT_BYTES} bytes")
    return bytes(content)


def read_head(path_fd: int, limit_bytes: int) -> bytes:
    """The first bytes of the file, of any size, that is open by ``O_PATH``.

    Raises ``OSError``: EINVAL unless it is a regular file.
    """
    if not stat.S_ISREG(os.fstat(path_fd).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    with closing_fd(os.open(f"/proc/self/fd/{path_fd}", os.O_RDONLY)) as file:
        return os.read(file, limit_bytes)
