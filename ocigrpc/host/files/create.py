"""Files and directories that the service makes, for nobody else and where nothing was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ocigrpc.errors import HostFailed


def make_directory(path: Path) -> None:
    """A new directory that only its owner may look into; raises ``HostFailed`` with the path."""
    with _failing(path):
        path.mkdir(mode=0o700)


def write_new_file(path: Path | str, content: bytes = b"") -> None:
    """A new file that only its owner may read; raises ``HostFailed`` with the path.

    What bears the name already is refused, be it a link to nowhere.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with _failing(path), open(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)


@contextmanager
def _failing(path: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostFailed(
            f"can't make {path}: {error.strerror}", path=path, error=error.strerror
        ) from error
