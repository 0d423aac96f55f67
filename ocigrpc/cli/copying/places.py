"""Places that files are copied from and to: in a container, here, or a standard stream."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import click

from ocigrpc.cli.failures import Failed
from ocigrpc.errors import PathNotFound

if TYPE_CHECKING:
    from ocigrpc.client import Client

# Most links in the resolution of one path; path_resolution(7).
_LINKS_LIMIT = 40

_STDIN = 0
_PIECE_BYTES = 256 << 10


class Kind(Enum):
    """What is at a path."""

    DIRECTORY = auto()
    OTHER = auto()
    MISSING = auto()


class Ways(NamedTuple):
    """How files are copied: as the options of the command say."""

    follow_link: bool
    archive: bool
    overwrite: bool


class Local(NamedTuple):
    """A path of the caller's own."""

    path: str

    def source_kind(self, ways: Ways) -> Kind:
        """What is to be copied; raises ``OSError`` if it is missing."""
        return _kind((os.stat if ways.follow_link else os.lstat)(self.path).st_mode)

    def target(self) -> tuple[str, Kind]:
        """Where links at the end of the path lead, and what is there."""
        slash = "/" if self.path.endswith("/") else ""
        path = os.path.realpath(self.path) + slash
        try:
            return path, _kind(os.stat(path).st_mode)
        except FileNotFoundError:
            return path, Kind.MISSING

    def own_name(self) -> str:
        """The name of what is at the path; "." for the content of a directory."""
        if self.path.endswith(("/.", "/./")) or self.path in (".", "./"):
            return "."
        return os.path.basename(os.path.abspath(self.path)) or "."

    def read(self, name: str, ways: Ways) -> Iterator[bytes]:
        """An archive of it, in which it has a name."""
        # Imported here, since completion and help should not wait for it.
        from ocigrpc.host.archives.pack import PIECE_BYTES, joined, pack
        from ocigrpc.host.mappings.owners import Owners

        flags = os.O_PATH | (0 if ways.follow_link else os.O_NOFOLLOW)
        file = os.open(self.path, flags)
        try:
            yield from joined(pack(file, name, self.path, Owners()), PIECE_BYTES)
        finally:
            os.close(file)

    def write(self, directory: str, pieces: Iterable[bytes], ways: Ways) -> None:
        """Unpack an archive, into files of the caller's."""
        from ocigrpc.host.archives.unpack import Rules, unpack

        target = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            unpack(pieces, target, directory, Rules(None, keep_types=not ways.overwrite))
        finally:
            os.close(target)

    def __str__(self) -> str:
        return self.path


class InContainer(NamedTuple):
    """A path in a container."""

    client: Client
    name: str
    container_id: str
    path: str

    def source_kind(self, ways: Ways) -> Kind:
        """What is to be copied; raises ``PathNotFound`` if it is missing."""
        found = self.client.path_stat(self.container_id, self.path, follow_link=ways.follow_link)
        return _kind(found.mode)

    def target(self) -> tuple[str, Kind]:
        """Where links at the end of the path lead, and what is there."""
        path = self.path
        for _ in range(_LINKS_LIMIT):
            try:
                found = self.client.path_stat(self.container_id, path)
            except PathNotFound:
                return path, Kind.MISSING
            if not stat.S_ISLNK(found.mode):
                return path, _kind(found.mode)
            path = os.path.join(os.path.dirname(path), found.link_target)
        raise Failed(f"{self}: too many links")

    def own_name(self) -> str:
        """The name of what is at the path; "." for the content of a directory."""
        name = self.path.rstrip("/").rpartition("/")[2]
        return "." if name in ("", ".", "..") else name

    def read(self, name: str, ways: Ways) -> Iterator[bytes]:
        """An archive of it, in which it has a name."""
        return self.client.copy_out(
            self.container_id, self.path, follow_link=ways.follow_link, name=name
        )

    def write(self, directory: str, pieces: Iterable[bytes], ways: Ways) -> None:
        """Unpack an archive."""
        self.client.copy_into(
            self.container_id,
            directory,
            pieces,
            keep_types=not ways.overwrite,
            chown=ways.archive,
        )

    def __str__(self) -> str:
        return f"{self.name}:{self.path}"


Place: TypeAlias = Local | InContainer


def archive_from_stdin() -> Iterator[bytes]:
    """The archive on standard input. Raises a usage error for a terminal."""
    if os.isatty(_STDIN):
        raise click.UsageError("An archive does not come from a terminal: redirect it.")
    # Not by a buffer, which a thread that waits would hold until the process has ended.
    return iter(lambda: os.read(_STDIN, _PIECE_BYTES), b"")


def archive_to_stdout(place: Place, ways: Ways) -> None:
    """Write an archive of a place to standard output. Raises a usage error for a terminal."""
    if sys.stdout.isatty():
        raise click.UsageError("An archive is not for a terminal: redirect it.")
    for piece in place.read(place.own_name(), ways):
        sys.stdout.buffer.write(piece)


def _kind(mode: int) -> Kind:
    return Kind.DIRECTORY if stat.S_ISDIR(mode) else Kind.OTHER
