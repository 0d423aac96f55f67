"""The files of a tar archive, put into an open directory.

Neither the archive nor the tree is trusted: a container's programs may change the tree meanwhile.
Each step on the way to a file is a directory that is opened by its name in the one above, without
following links; a file is made anew in such a directory, and changed once it is open. Nothing that
is there already is opened but directories.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import takewhile
from typing import NamedTuple, TypeVar

from ocigrpc.errors import PreconditionFailed
from ocigrpc.host.archives.attributes import set_attributes
from ocigrpc.host.archives.pack import DEPTH_LIMIT, Named
from ocigrpc.host.archives.reading import Archive, Member, malformed
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.files.tree import remove_at

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW

# Of directories that the archive does not have, on the way to what it has.
_DIRECTORY_MODE = 0o755

# How often something is made whose name others take meanwhile.
_ATTEMPTS = 8

# A file that gets no owner must not get the power of the one who unpacks it.
_WITHOUT_POWER = 0o1777

_SPECIAL = {
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}

_T = TypeVar("_T")


class Rules(NamedTuple):
    """What becomes of the members of an archive.

    ``owner_of`` gives the owner on this host of what is another's in the archive. With None, all
    that is unpacked is ours, and there are no devices, set-user-ID bits and capabilities of files.
    With ``keep_types`` a directory replaces nothing but a directory, and is replaced by no other.
    """

    owner_of: Callable[[int, int], tuple[int, int]] | None
    keep_types: bool


class Unpacked(NamedTuple):
    """How much was made."""

    entries: int
    content_bytes: int


class _Level(NamedTuple):
    """An open directory below the target, and what closes it."""

    name: str
    fd: int
    leaving: ExitStack


def unpack(pieces: Iterable[bytes], target: int, path: str, rules: Rules) -> Unpacked:
    """Unpack an archive into the open directory ``target``, whose ``path`` is for errors.

    Raises ``InvalidArgument`` (ARCHIVE_MALFORMED), ``PreconditionFailed`` (WRONG_FILE_TYPE,
    MOUNT_IN_THE_WAY), ``OSError`` with the path, and what the pieces raise. What was unpacked by
    then stays.
    """
    archive = Archive(pieces)
    with _Unpacker(archive, target, path, rules) as unpacker:
        for member in archive:
            unpacker.add(member)
    return Unpacked(unpacker.entries, unpacker.content_bytes)


def parts_of(name: str) -> list[str]:
    """The parts of a member's name, which never lead above the target."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts


class _Unpacker(ExitStack):
    """Unpacks one archive; at its end the directories get their modes and times."""

    def __init__(self, archive: Archive, target: int, path: str, rules: Rules) -> None:
        super().__init__()
        self.entries = self.content_bytes = 0
        self._archive = archive
        self._target = target
        self._path = path.rstrip("/")
        self._rules = rules
        # The directory of the last member, and those above it, from the target down.
        self._levels: list[_Level] = []
        self.callback(self._leave_to, 0)

    def add(self, member: Member) -> None:
        """Make what a member is."""
        *above, name = parts_of(member.info.name) or [""]
        if not name:
            # The target itself, which is kept as it is.
            return
        path = "/".join((self._path, *above, name))
        try:
            self._make(member, self._enter(above), name, path)
        except Named:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error
        self.entries += 1

    def _make(self, member: Member, parent: int, name: str, path: str) -> None:
        info = member.info
        kind = _SPECIAL.get(info.type)
        if info.isdir():
            self._directory(member, parent, name, path)
        elif info.islnk():
            self._link(info.linkname, parent, name, path)
        elif info.issym():
            make = partial(os.symlink, info.linkname, name, dir_fd=parent)
            self._instead(make, parent, name, path)
            self._settle_new(member, parent, name, path, stat.S_IFLNK)
        elif kind is None:
            self._file(member, parent, name, path)
        elif kind == stat.S_IFIFO or self._rules.owner_of is not None:
            device = os.makedev(info.devmajor, info.devminor) if kind != stat.S_IFIFO else 0
            make = partial(os.mknod, name, kind | 0o600, device, dir_fd=parent)
            self._instead(make, parent, name, path)
            self._settle_new(member, parent, name, path, kind)

    def _directory(self, member: Member, parent: int, name: str, path: str) -> None:
        make = partial(os.mkdir, name, 0o700, dir_fd=parent)
        try:
            make()
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                self._instead(make, parent, name, path, is_directory=True)
        level = self._step(name, parent)
        # Only when all in it is made: that changes its time, and may need another mode.
        level.leaving.callback(self._settle, member, level.fd, path)

    def _file(self, member: Member, parent: int, name: str, path: str) -> None:
        make = partial(os.open, name, _NEW, 0o600, dir_fd=parent)
        with closing_fd(self._instead(make, parent, name, path)) as file:
            try:
                position = 0
                for part in self._archive.content():
                    # What is all zeros becomes a hole.
                    if part != bytes(len(part)):
                        _write(file, part, position)
                    position += len(part)
                os.ftruncate(file, position)
                self._settle(member, file, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(name, dir_fd=parent)
                raise
        self.content_bytes += position

    def _link(self, target: str, parent: int, name: str, path: str) -> None:
        *above, source = parts_of(target) or [""]
        try:
            directory, holders = self._source_directory(above)
            with closing_fd(directory):
                found, there = os.lstat(source, dir_fd=directory), _there(parent, name)
                # Before anything is cleared for it.
                if stat.S_ISDIR(found.st_mode) or (there and _is_one_of(there, holders)):
                    raise malformed(f"the archive has a link to {target!r} that can't be made")
                if there and os.path.samestat(found, there):
                    return
                make = partial(os.link, source, name, follow_symlinks=False)
                make = partial(make, src_dir_fd=directory, dst_dir_fd=parent)
                self._instead(make, parent, name, path)
        except FileNotFoundError as error:
            raise malformed(f"the archive has a link to {target!r}, which is not there") from error

    def _source_directory(self, names: Sequence[str]) -> tuple[int, Sequence[os.stat_result]]:
        """A directory below the target, open, and what it and those above it are."""
        here = os.dup(self._target)
        passed: list[os.stat_result] = []
        for name in names:
            with closing_fd(here):
                here = os.open(name, _STEP, dir_fd=here)
            passed.append(os.fstat(here))
        return here, passed

    def _instead(
        self,
        make: Callable[[], _T],
        parent: int,
        name: str,
        path: str,
        *,
        is_directory: bool = False,
    ) -> _T:
        """Make something, in the place of what is there."""
        for _ in range(_ATTEMPTS):
            with suppress(FileExistsError):
                return make()
            # Somebody else may remove it as well.
            with suppress(FileNotFoundError):
                self._clear(parent, name, path, for_directory=is_directory)
        return make()

    def _clear(self, parent: int, name: str, path: str, *, for_directory: bool) -> None:
        """Remove what is in the way."""
        is_directory = stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode)
        if self._rules.keep_types and is_directory != for_directory:
            words = "is a directory" if is_directory else "is no directory"
            raise PreconditionFailed(
                f"{path} {words}, and would be replaced", reason="WRONG_FILE_TYPE", path=path
            )
        if is_directory:
            remove_at(parent, path)
        else:
            os.unlink(name, dir_fd=parent)

    def _enter(self, names: Sequence[str]) -> int:
        """A directory below the target, by its parts; it is made if it is missing."""
        same = zip(self._levels, names, strict=False)
        count = sum(1 for _ in takewhile(lambda pair: pair[0].name == pair[1], same))
        self._leave_to(count)
        here = self._levels[-1].fd if self._levels else self._target
        for name in names[count:]:
            here = self._step(name, here).fd
        return here

    def _step(self, name: str, parent: int) -> _Level:
        """Open a directory in the last one, which it is the last one after."""
        if len(self._levels) == DEPTH_LIMIT:
            raise OSError(errno.ENAMETOOLONG, f"deeper than {DEPTH_LIMIT} directories")
        try:
            fd = os.open(name, _STEP, dir_fd=parent)
        except FileNotFoundError:
            os.mkdir(name, _DIRECTORY_MODE, dir_fd=parent)
            fd = os.open(name, _STEP, dir_fd=parent)
            self._give(fd, 0, 0)
        level = _Level(name, fd, ExitStack())
        level.leaving.callback(os.close, fd)
        self._levels.append(level)
        return level

    def _leave_to(self, count: int) -> None:
        """Keep only so many of the directories open."""
        with ExitStack() as leaving:
            for level in self._levels[count:]:
                leaving.push(level.leaving)
            del self._levels[count:]

    def _settle_new(self, member: Member, parent: int, name: str, path: str, kind: int) -> None:
        """Settle what was made by a name, unless that is another file's by now."""
        with closing_fd(os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=parent)) as file:
            if stat.S_IFMT(os.fstat(file).st_mode) == kind:
                self._settle(member, file, path)

    def _settle(self, member: Member, file: int, path: str) -> None:
        """Give an open file what the archive says of it."""
        info, opened = member.info, f"/proc/self/fd/{file}"
        is_ours = self._rules.owner_of is None
        try:
            # First: it takes capabilities and set-user-ID bits from a file.
            self._give(file, info.uid, info.gid)
            set_attributes(opened, member.headers, capabilities=not is_ours)
            if not info.issym():
                os.chmod(opened, info.mode & (_WITHOUT_POWER if is_ours else 0o7777))
            os.utime(opened, ns=(member.modified_ns, member.modified_ns))
        except OSError as error:
            # A directory is settled when another member is under way, or none.
            raise Named(error.errno, error.strerror, path) from error

    def _give(self, file: int, uid: int, gid: int) -> None:
        if self._rules.owner_of is not None:
            os.chown(f"/proc/self/fd/{file}", *self._rules.owner_of(uid, gid))


def _there(parent: int, name: str) -> os.stat_result | None:
    """What has a name in an open directory."""
    with suppress(FileNotFoundError):
        return os.lstat(name, dir_fd=parent)
    return None


def _is_one_of(found: os.stat_result, others: Iterable[os.stat_result]) -> bool:
    return any(os.path.samestat(found, each) for each in others)


def _write(file: int, part: bytes, position: int) -> None:
    rest = memoryview(part)
    while rest:
        written = os.pwrite(file, rest, position)
        rest, position = rest[written:], position + written
