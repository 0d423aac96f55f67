"""The user of a container's program, by the /etc/passwd and /etc/group that the program will see.

Both files come from the container and are not trusted; see passwd(5), group(5). Comments and
malformed lines are skipped. A missing file has no accounts. A file that can't be read is an
error even for a numeric user: a failed look-up must not put a program into group 0.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from msgspec import Struct

from ocigrpc.oci.spec.root_files import RootFiles
from ocigrpc.violations import Violations

# Largest uid or gid: the kernel has larger ones, but runc does not accept them.
NUMBER_LIMIT = (1 << 31) - 1

# Most groups of a process, NGROUPS_MAX.
GROUPS_LIMIT = 65536

# Longest name that is answered, LOGIN_NAME_MAX.
NAME_LIMIT_BYTES = 256

_FIELD = "config.user"
# Errors that are the service's own, and not the file's.
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class User(Struct, frozen=True):
    """A program's user and groups by number; ``groups`` are the supplementary ones."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()

    def to_spec(self) -> dict[str, object]:
        """The runtime spec's ``process.user``."""
        return {"uid": self.uid, "gid": self.gid, "additionalGids": list(self.groups)}


class Account(Struct, frozen=True):
    """A line of /etc/passwd; ``gid`` is None when its group is not a number."""

    name: str
    uid: int
    gid: int | None


class Group(Struct, frozen=True):
    """A line of /etc/group."""

    name: str
    gid: int
    members: tuple[str, ...]


def user_of(
    files: RootFiles, user: str, supplemental: Sequence[int], violations: Violations
) -> User:
    """The user that ``user`` names: "uid", "uid:gid", "user" or "user:group"; empty is "0".

    Without a group, it is the account's own group, or 0 for a number without an account.
    Without a colon, the groups that list the account as a member are added, as at a login.
    Without a user, it is 0. The primary group is also the first of the supplementary ones.
    Adds violations for unknown names (USER_NOT_FOUND, GROUP_NOT_FOUND), numbers out of range,
    and files that can't be read (ACCOUNTS_UNREADABLE).
    """
    wanted, colon, wanted_group = user.partition(":")
    look_up = _LookUp(files, violations)
    if wanted_group:
        uid = look_up.number(wanted or "0")
        uid = look_up.account(wanted).uid if uid is None else uid
        gid, joined = look_up.gid(wanted_group), list[int]()
    else:
        account = look_up.account(wanted or "0")
        uid, gid = account.uid, account.gid or 0
        joined = [] if colon else look_up.memberships(account.name)
    look_up.check()
    for index, number in enumerate(supplemental):
        violations.in_range(f"config.supplemental_groups[{index}]", number, 0, NUMBER_LIMIT)
    # The primary group as well: a file that denies access to its members must still do so
    # after a set-group-ID program has replaced the primary group.
    groups = tuple(dict.fromkeys([gid, *joined, *supplemental]))
    violations.allow(
        len(groups) <= GROUPS_LIMIT, _FIELD, f"is in more than {GROUPS_LIMIT} groups", "TOO_MANY"
    )
    return User(uid, gid, groups)


def user_names(files: RootFiles) -> dict[int, str]:
    """The names of all uids, of each the first one as in a look-up; none that is too long.

    Raises what ``files.read`` does.
    """
    names = dict[int, str]()
    for account in parse_passwd(files.read("/etc/passwd")):
        if len(account.name.encode()) <= NAME_LIMIT_BYTES:
            names.setdefault(account.uid, account.name)
    return names


def check_accounts(files: RootFiles, violations: Violations) -> None:
    """Add a violation for accounts that are not a file, such as a FIFO (ACCOUNTS_UNREADABLE).

    Even a user that needs no look-up is checked: a runtime reads the accounts to find the home
    directory, and would hang.
    """
    _LookUp(files, violations).check()


def parse_passwd(content: bytes) -> Iterator[Account]:
    """The accounts of a passwd(5) file."""
    for fields in _lines(content):
        match fields:
            case [name, _, uid, *more] if _is_number(uid):
                gid = more[0] if more else ""
                yield Account(name, int(uid), int(gid) if _is_number(gid) else None)


def parse_group(content: bytes) -> Iterator[Group]:
    """The groups of a group(5) file."""
    for fields in _lines(content):
        match fields:
            case [name, _, gid, *members] if _is_number(gid):
                yield Group(name, int(gid), tuple(members[0].split(",")) if members else ())


class _LookUp:
    """Looks up one user, and adds violations."""

    def __init__(self, files: RootFiles, violations: Violations) -> None:
        self._files = files
        self._violations = violations
        self._checked = set[str]()

    def number(self, wanted: str) -> int | None:
        """``wanted`` as a number; None for a name."""
        if not (wanted.isdecimal() and wanted.isascii()):
            return None
        number = _number(wanted)
        return number if self._violations.in_range(_FIELD, number, 0, NUMBER_LIMIT) else 0

    def account(self, wanted: str) -> Account:
        """The first account with this number or name."""
        number = self.number(wanted)
        content = self._read("/etc/passwd")
        found = (
            each
            for each in parse_passwd(content or b"")
            if (each.name == wanted if number is None else each.uid == number)
        )
        account = next(found, None)
        if account is None:
            if content is not None and number is None:
                self._violations.add(_FIELD, f"no user {wanted!r} in /etc/passwd", "USER_NOT_FOUND")
            return Account("", number or 0, 0)
        if account.gid is None:
            problem = f"/etc/passwd has no group for {wanted!r} that is a number"
            self._violations.add(_FIELD, problem, "ACCOUNTS_UNREADABLE")
        return account

    def gid(self, wanted: str) -> int:
        """The group with this number, or the first with this name."""
        number = self.number(wanted)
        if number is not None:
            return number
        content = self._read("/etc/group")
        for group in parse_group(content or b""):
            if group.name == wanted:
                return group.gid
        if content is not None:
            self._violations.add(_FIELD, f"no group {wanted!r} in /etc/group", "GROUP_NOT_FOUND")
        return 0

    def memberships(self, name: str) -> list[int]:
        """The groups that list an account."""
        if not name:
            return []
        groups = parse_group(self._read("/etc/group") or b"")
        return [group.gid for group in groups if name in group.members]

    def check(self) -> None:
        """Add a violation for each file that has not been read yet and is not a regular file."""
        for path in {"/etc/passwd", "/etc/group"} - self._checked:
            try:
                self._files.read(path)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    self._unreadable(path, error)

    def _read(self, path: str) -> bytes | None:
        """The content of a file, empty if it is missing; None if it can't be read."""
        self._checked.add(path)
        try:
            return self._files.read(path)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        except OSError as error:
            if error.errno in _OURS:
                raise
            self._unreadable(path, error)
            return None

    def _unreadable(self, path: str, error: OSError) -> None:
        self._violations.add(_FIELD, f"{path}: {error.strerror}", "ACCOUNTS_UNREADABLE")


def _lines(content: bytes) -> Iterator[list[str]]:
    for line in content.decode(errors="replace").split("\n"):
        stripped = line.strip()
        if not stripped.startswith("#"):
            yield stripped.split(":")


def _number(digits: str) -> int:
    # Ten digits hold every uid, so a longer number is out of range; int() refuses thousands of
    # digits.
    return int(digits) if len(digits) <= 10 else NUMBER_LIMIT + 1


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and _number(text) <= NUMBER_LIMIT
