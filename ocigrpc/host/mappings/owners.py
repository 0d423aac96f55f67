"""Owners of files, as a user namespace has them and as the host has them."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

# The first one there, the first one here, and how many; user_namespaces(7).
Range: TypeAlias = tuple[int, int, int]

# Whoever has no number in a user namespace is shown as this one there.
_OVERFLOW = 65534

# To chown(2) this is -1, and stands for no owner.
_NOBODY = (1 << 32) - 1
_ALL: Sequence[Range] = ((0, 0, _NOBODY),)


class Owners(NamedTuple):
    """The users and groups of a user namespace; by default that of the host."""

    uids: Sequence[Range] = _ALL
    gids: Sequence[Range] = _ALL

    def there(self, found: os.stat_result) -> tuple[int, int]:
        """The owner of a file, as the namespace has it."""
        return _there(self.uids, found.st_uid), _there(self.gids, found.st_gid)

    def have(self, found: os.stat_result) -> bool:
        """Whether both owners of a file have numbers in the namespace."""
        return _has(self.uids, found.st_uid) and _has(self.gids, found.st_gid)

    def here(self, uid: int, gid: int) -> tuple[int, int]:
        """The host's numbers of an owner there. Raises ``OSError`` (EINVAL) if it has none."""
        return _here(self.uids, uid), _here(self.gids, gid)


def _has(ranges: Sequence[Range], number: int) -> bool:
    return any(0 <= number - here < count for _, here, count in ranges)


def _there(ranges: Sequence[Range], number: int) -> int:
    found = (there + number - here for there, here, count in ranges if 0 <= number - here < count)
    return next(found, _OVERFLOW)


def _here(ranges: Sequence[Range], number: int) -> int:
    for there, here, count in ranges:
        if 0 <= number - there < count and number != _NOBODY:
            return here + number - there
    raise OSError(errno.EINVAL, f"there is no owner {number}")
