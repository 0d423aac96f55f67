"""A copy of the service's store, in a file that is whole or not there."""

from __future__ import annotations

import os
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import click

from ocigrpc.cli.failures import EXIT_BY_SIGNAL, Failed
from ocigrpc.cli.progress import progress
from ocigrpc.cli.session import with_client

if TYPE_CHECKING:
    from ocigrpc.client import Client


@click.command("backup")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False))
@click.option("--force", "-f", is_flag=True, help="Replace FILE, once the backup is whole.")
@with_client
def backup(client: Client, file: str, force: bool) -> None:
    """Save a copy of the service's store, with the records of all containers.

    The service goes on meanwhile. FILE gets its name when the copy is whole, and only its owner may
    read it. With '-' the copy goes to standard output, and is whole if the exit status is 0.
    """
    if file == "-" and sys.stdout.isatty():
        raise click.UsageError("A backup is not for a terminal: redirect it, or name a FILE.")
    pieces = client.backup_store()
    if file == "-":
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        return
    with progress("saving the store"), new_file(os.path.realpath(file), force) as saved:
        for piece in pieces:
            saved.write(piece)


@contextmanager
def new_file(path: str, force: bool) -> Iterator[BinaryIO]:
    """A file that gets its name at the end of the block; if the block fails, nothing is left."""
    _require_free(path, force)
    # As SIGINT does, so that nothing is left then either.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(EXIT_BY_SIGNAL + number))
    try:
        fd, part = tempfile.mkstemp(prefix=".ocigrpc-", dir=os.path.dirname(path))
        try:
            with open(fd, "wb") as file:
                yield file
                file.flush()
                os.fsync(fd)
            os.rename(part, path)
        except BaseException:
            os.unlink(part)
            raise
        _sync_directory(os.path.dirname(path))
    except OSError as error:
        raise Failed(f"can't write {path}: {error.strerror}") from error


def _require_free(path: str, force: bool) -> None:
    """Raise ``Failed`` if what has the path already must not be replaced."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise Failed(f"{path} is not a regular file")
    if not force:
        raise Failed(f"{path} exists; --force replaces it")
    # To replace the store itself would have the service write no more.
    if os.path.lexists(f"{path}-wal"):
        raise Failed(f"{path} is a database in use")


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
