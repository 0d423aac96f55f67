"""Files of a container as its programs see them, before and after the container exists.

Links are resolved inside the root, and mounts hide the files below them. Before the container
exists, its mounts are taken from its spec: as a runtime does it, each destination is resolved
inside the root with the earlier mounts in place.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from ocigrpc.closing import Closing
from ocigrpc.errors import HostFailed
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.files.regular import read_head, read_open_file
from ocigrpc.host.files.roots import open_in_root, open_root_of
from ocigrpc.host.processes.process import Process
from ocigrpc.oci.spec.types import SpecMount
from ocigrpc.violations import PATH_LIMIT_BYTES, name_fits

# Most links in the resolution of one path; path_resolution(7).
_LINKS_LIMIT = 40

# File systems that are empty when they are mounted.
_EMPTY_TYPES = frozenset(("tmpfs", "ramfs", "devpts", "mqueue"))

# An option of the runtimes: the tmpfs starts with a copy of the files below its mount point.
_COPIED_UP = "tmpcopyup"


class RootFiles(Protocol):
    """The files below a container's "/"."""

    def read(self, path: str) -> bytes:
        """Content of the absolute ``path``, a small regular file.

        Raises ``FileNotFoundError`` or ``NotADirectoryError`` when programs would find no file
        there, another ``OSError`` when it can't be read, or it can't be known what is there.
        """


class RunningRoot(Closing):
    """The files that programs see in a running container; for a ``with``."""

    def __init__(self, init: Process | None) -> None:
        """``init`` is the container's first process; ``HostFailed`` when it has ended."""
        if init is None:
            raise HostFailed("the container's first process has ended")
        self._root = open_root_of(init)

    def read(self, path: str) -> bytes:
        """See :class:`RootFiles`."""
        with closing_fd(open_in_root(self._root, path)) as file:
            return read_open_file(file)

    def read_head(self, path: str, limit_bytes: int) -> bytes:
        """The first bytes of a regular file of any size; otherwise like :meth:`read`."""
        with closing_fd(open_in_root(self._root, path)) as file:
            return read_head(file, limit_bytes)

    def close(self) -> None:
        """Close the root, through which files are opened."""
        os.close(self._root)


class _Mounted(NamedTuple):
    """A mount at ``destination``, a path without links."""

    destination: str
    type: str
    source: str


class _Place(NamedTuple):
    """A path in the container, without links, and the mount that it is on."""

    path: str
    mounted: _Mounted
    missing: bool


class MissingPlace(NamedTuple):
    """A directory or file that a root filesystem lacks: its path there, without links."""

    path: str
    is_directory: bool


def missing_places(
    rootfs: str, mounts: Iterable[SpecMount], working_dir: str
) -> Sequence[MissingPlace]:
    """What a root filesystem lacks: mount points, and the directory that a program starts in.

    What is to be on a mount is left out. Raises ``OSError`` with the path that can't be reached.
    """
    root = PlannedRoot(rootfs, ())
    found = list[MissingPlace]()
    for mount in mounts:
        with _reaching(mount.destination):
            if root.lacks(mount.destination):
                binds_file = _binds(mount) and not os.path.isdir(mount.source or "")
                found.append(MissingPlace(root.place_of(mount.destination), not binds_file))
            root.mount(mount)
    with _reaching(working_dir):
        if root.lacks(working_dir):
            found.append(MissingPlace(root.place_of(working_dir), is_directory=True))
    return found


@contextmanager
def _reaching(path: str) -> Iterator[None]:
    """Have an ``OSError`` name the path that was to be reached, whatever was on the way."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def _binds(mount: SpecMount) -> bool:
    return mount.type == "bind" or not {"bind", "rbind"}.isdisjoint(mount.options or ())


class PlannedRoot:
    """The files that programs will see in a container that does not exist yet."""

    def __init__(self, rootfs: str, mounts: Iterable[SpecMount]) -> None:
        """``mounts`` are in the order of mounting."""
        self._root = _Place("", _Mounted("", "bind", rootfs), missing=False)
        self._mounts: dict[str, _Mounted] = {}
        self._pending = deque(mounts)

    def read(self, path: str) -> bytes:
        """See :class:`RootFiles`."""
        while self._pending:
            self.mount(self._pending.popleft())
        with closing_fd(_open(self._walk(path))) as file:
            return read_open_file(file)

    def lacks(self, path: str) -> bool:
        """Whether nothing is at a path, which is on no mount."""
        place = self._walk(path)
        return place.missing and place.mounted is self._root.mounted

    def place_of(self, path: str) -> str:
        """A path without links."""
        return self._walk(path).path

    def mount(self, mount: SpecMount) -> None:
        """Have one more mount, above what is there."""
        options = mount.options or ()
        binds = _binds(mount)
        if _COPIED_UP in options and not binds:
            return
        at = self._walk(mount.destination).path
        hidden = [each for each in self._mounts if each.startswith(f"{at}/")]
        for each in hidden:
            del self._mounts[each]
        kind = "bind" if binds else mount.type or ""
        self._mounts[at] = _Mounted(at, kind, mount.source or "")

    def _walk(self, path: str) -> _Place:
        """The place that ``path`` resolves to; missing parts count as no links."""
        places = [self._root]
        names = deque(path.split("/"))
        links = 0
        while names:
            name = names.popleft()
            if name == "..":
                del places[max(len(places) - 1, 1) :]
            if name in ("", ".", ".."):
                continue
            place, target = self._step(places[-1], name)
            if target is None:
                places.append(place)
                continue
            links += 1
            if links > _LINKS_LIMIT:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                del places[1:]
            names.extendleft(reversed(target.split("/")))
        return places[-1]

    def _step(self, parent: _Place, name: str) -> tuple[_Place, str | None]:
        """The entry ``name``, and the target if it is a link."""
        path = f"{parent.path}/{name}"
        if not (name_fits(name) and len(path.encode(errors="replace")) <= PATH_LIMIT_BYTES):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        mounted = self._mounts.get(path)
        if mounted is not None:
            return _Place(path, mounted, missing=False), None
        place = _Place(path, parent.mounted, parent.missing)
        if place.missing or place.mounted.type != "bind":
            return place, None
        try:
            return place, _link(place)
        except (FileNotFoundError, NotADirectoryError):
            return place._replace(missing=True), None


def _link(place: _Place) -> str | None:
    """The target of a place that is a link; None for another one."""
    with closing_fd(_open(place)) as entry:
        is_link = stat.S_ISLNK(os.fstat(entry).st_mode)
        return os.readlink("", dir_fd=entry) if is_link else None


def _open(place: _Place) -> int:
    """An ``O_PATH`` descriptor of a place. Raises ``OSError``."""
    destination, kind, source = place.mounted
    usable = source.startswith("/") and "\0" not in source + place.path
    if place.missing or kind in _EMPTY_TYPES or (kind == "bind" and not usable):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place.path)
    if kind != "bind":
        problem = f"is on a mount of type {kind!r}, whose files can't be known yet"
        raise OSError(errno.ENODATA, problem, place.path)
    inside = place.path[len(destination) + 1 :]
    if not inside:
        return os.open(source, os.O_PATH)
    with closing_fd(os.open(source, os.O_PATH)) as base:
        return open_in_root(base, inside, os.O_NOFOLLOW)
