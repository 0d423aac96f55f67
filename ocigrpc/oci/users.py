"""Who runs a container's program, by the root filesystem's own /etc/passwd and /etc/group.

Both files are the container's and not trusted: passwd(5), group(5); lines that are not
understood are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from ocigrpc.oci.regular_file import read_regular_file_in
from ocigrpc.oci.violations import Violations

NUMBER_LIMIT = (1 << 32) - 2
"""Largest uid or gid; the one above means "none" to the kernel."""

GROUPS_LIMIT = 65536
"""Most groups of a process, NGROUPS_MAX."""


class User(Struct, frozen=True):
    """Numbers of a program's user and groups; ``groups`` are the supplementary ones."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()

    def to_spec(self) -> dict[str, object]:
        """The runtime spec's ``process.user``."""
        return {"uid": self.uid, "gid": self.gid, "additionalGids": list(self.groups)}


class Account(Struct, frozen=True):
    """A line of /etc/passwd."""

    name: str
    uid: int
    gid: int


class Group(Struct, frozen=True):
    """A line of /etc/group."""

    name: str
    gid: int
    members: tuple[str, ...]


def user_of(rootfs: str, user: str, supplemental: Sequence[int], violations: Violations) -> User:
    """The user that ``user`` names: "uid", "uid:gid", "user" or "user:group"; empty is "0".

    Without a group it is the account's own, and the groups that list it as a member come
    too, as at a login; a number that has no account is in group 0. The primary group is the
    first of the supplementary ones. Wrong are names that are not found (USER_NOT_FOUND,
    GROUP_NOT_FOUND) and numbers out of range.
    """
    field = "config.user"
    wanted, colon, wanted_group = user.partition(":")
    account = _account(rootfs, wanted if user else "0", violations)
    if colon:
        gid, joined = _gid(rootfs, wanted_group, violations), list[int]()
    else:
        gid, joined = account.gid, _memberships(rootfs, account.name)
    for index, number in enumerate(supplemental):
        violations.in_range(f"config.supplemental_groups[{index}]", number, 0, NUMBER_LIMIT)
    # The primary one as well: what its members are kept from must stay so when a
    # set-group-ID program has put another group in its place.
    groups = tuple(dict.fromkeys([gid, *joined, *supplemental]))
    violations.allow(
        len(groups) <= GROUPS_LIMIT, field, f"is in more than {GROUPS_LIMIT} groups", "TOO_MANY"
    )
    return User(account.uid, gid, groups)


def parse_passwd(content: bytes) -> Iterator[Account]:
    """The accounts of a passwd(5) file."""
    for fields in _lines(content):
        match fields:
            case [name, _, uid, gid, *_] if _is_number(uid) and _is_number(gid):
                yield Account(name, int(uid), int(gid))


def parse_group(content: bytes) -> Iterator[Group]:
    """The groups of a group(5) file."""
    for fields in _lines(content):
        match fields:
            case [name, _, gid, *members] if _is_number(gid):
                yield Group(name, int(gid), tuple(members[0].split(",")) if members else ())


def _account(rootfs: str, wanted: str, violations: Violations) -> Account:
    field = "config.user"
    nobody = Account("", 0, 0)
    if wanted.isdecimal() and wanted.isascii():
        if not violations.in_range(field, _number(wanted), 0, NUMBER_LIMIT):
            return nobody
        uid = int(wanted)
        accounts = parse_passwd(_read(rootfs, "etc/passwd")[0])
        return next((a for a in accounts if a.uid == uid), Account("", uid, 0))
    content, failure = _read(rootfs, "etc/passwd")
    for account in parse_passwd(content):
        if account.name == wanted and wanted:
            return account
    violations.add(field, f"no user {wanted!r} in /etc/passwd{failure}", "USER_NOT_FOUND")
    return nobody


def _gid(rootfs: str, wanted: str, violations: Violations) -> int:
    field = "config.user"
    if wanted.isdecimal() and wanted.isascii():
        violations.in_range(field, _number(wanted), 0, NUMBER_LIMIT)
        return _number(wanted)
    content, failure = _read(rootfs, "etc/group")
    for group in parse_group(content):
        if group.name == wanted and wanted:
            return group.gid
    violations.add(field, f"no group {wanted!r} in /etc/group{failure}", "GROUP_NOT_FOUND")
    return 0


def _memberships(rootfs: str, name: str) -> list[int]:
    if not name:
        return []
    groups = parse_group(_read(rootfs, "etc/group")[0])
    return [group.gid for group in groups if name in group.members]


def _read(rootfs: str, path: str) -> tuple[bytes, str]:
    """A file of the rootfs, or nothing and why: numbers do without, names do not."""
    try:
        return read_regular_file_in(rootfs, path), ""
    except OSError as error:
        return b"", f" ({error.strerror})"


def _lines(content: bytes) -> Iterator[list[str]]:
    for line in content.decode(errors="replace").split("\n"):
        yield line.strip().split(":")


def _number(digits: str) -> int:
    # Ten digits hold every uid; a longer number is out of range whatever it is, and int()
    # refuses thousands of digits.
    return int(digits) if len(digits) <= 10 else NUMBER_LIMIT + 1


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and _number(text) <= NUMBER_LIMIT
