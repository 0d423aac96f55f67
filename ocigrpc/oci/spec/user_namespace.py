"""The user namespace of a container, and what can't be had with one; user_namespaces(7)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from msgspec import to_builtins

from ocigrpc.host.mappings.owners import Owners, Range
from ocigrpc.host.mappings.searching import first_closed
from ocigrpc.oci.spec.config import (
    ContainerConfig,
    IdMapping,
    NamespaceMode,
    NamespaceType,
    UserNamespace,
)
from ocigrpc.oci.spec.linux_types import SpecIdMapping
from ocigrpc.oci.spec.users import User
from ocigrpc.violations import Violations

# Most ranges of a map, and most bytes of its text, less than a page.
RANGES_LIMIT = 340
_TEXT_LIMIT_BYTES = 4095

# The largest number stands for none; so a range ends below it.
_NUMBERS = (1 << 32) - 1

_FIELD = "config.user_namespace"

# Those whose file systems (proc, sysfs, mqueue) a user namespace mounts only if they are its own.
_MUST_BE_OWN = (NamespaceType.PID, NamespaceType.NETWORK, NamespaceType.IPC)


def owners_of(namespace: UserNamespace | None) -> Owners:
    """The users and groups that a container has; without a namespace those of the host."""
    if namespace is None:
        return Owners()
    return Owners(ranges_of(namespace.uid_mappings), ranges_of(namespace.gid_mappings))


def ranges_of(mappings: Sequence[IdMapping] | Sequence[SpecIdMapping]) -> Sequence[Range]:
    """The same as ``Owners`` has them."""
    return tuple((each.container_id, each.host_id, each.size) for each in mappings)


def check_user_namespace(config: ContainerConfig, violations: Violations) -> bool:
    """Whether the mappings of a config can be used; true if it has no user namespace.

    Adds violations for mappings that the kernel does not take (REQUIRED, OUT_OF_RANGE, CONFLICT,
    TOO_MANY, TOO_LONG), and for namespaces that must be the container's own (CONFLICT).
    """
    if config.user_namespace is None:
        return True
    for index, each in enumerate(config.namespaces):
        violations.allow(
            each.type not in _MUST_BE_OWN or each.mode is NamespaceMode.PRIVATE,
            f"config.namespaces[{index}].mode",
            f"with `user_namespace`, the {each.type} namespace must be the container's own",
            "CONFLICT",
        )
    # In any case both.
    return all(
        [
            _check(f"{_FIELD}.uid_mappings", config.user_namespace.uid_mappings, violations),
            _check(f"{_FIELD}.gid_mappings", config.user_namespace.gid_mappings, violations),
        ]
    )


def mappings_of(namespace: UserNamespace | None) -> dict[str, object]:
    """The runtime spec's ``linux.uidMappings`` and ``gidMappings``, if there is a namespace."""
    if namespace is None:
        return {}
    return {
        "uidMappings": _spec(namespace.uid_mappings),
        "gidMappings": _spec(namespace.gid_mappings),
    }


def check_numbers(config: ContainerConfig, user: User, violations: Violations) -> None:
    """Add violations for a user and groups that the namespace does not have (ID_NOT_MAPPED)."""
    namespace, further = config.user_namespace, config.supplemental_groups
    if namespace is None:
        return
    used = [("config.user", user.uid, namespace.uid_mappings)]
    for group in dict.fromkeys((user.gid, *user.groups)):
        field = "config.user"
        if group in further and group != user.gid:
            field = f"config.supplemental_groups[{further.index(group)}]"
        used.append((field, group, namespace.gid_mappings))
    for field, number, mappings in used:
        problem = f"{number} is in none of the mappings of `user_namespace`"
        violations.allow(is_mapped(number, mappings), field, problem, "ID_NOT_MAPPED")


def number_without_mapping(user: User, owners: Owners) -> int | None:
    """A number of a user, or of its groups, that ``owners`` lack; None if they have all."""
    used = [(user.uid, owners.uids), *((each, owners.gids) for each in (user.gid, *user.groups))]
    for number, ranges in used:
        if not any(0 <= number - there < count for there, _, count in ranges):
            return number
    return None


def check_searchable(
    path: str, namespace: UserNamespace | None, field: str, violations: Violations
) -> None:
    """Add a violation if the namespace's root can't come to a path (PATH_NOT_SEARCHABLE)."""
    if namespace is not None and (closed := first_closed(path, owners_of(namespace))):
        problem = f"the container's root may not search {closed!r}"
        violations.add(field, problem, "PATH_NOT_SEARCHABLE", path=closed)


def is_mapped(number: int, mappings: Sequence[IdMapping]) -> bool:
    """Whether a number in the container is mapped."""
    return any(0 <= number - each.container_id < each.size for each in mappings)


def _spec(mappings: Sequence[IdMapping]) -> list[object]:
    ranges = [SpecIdMapping(each.container_id, each.host_id, each.size) for each in mappings]
    return [to_builtins(each) for each in ranges]


def _check(field: str, mappings: Sequence[IdMapping], violations: Violations) -> bool:
    problem = f"has more than {RANGES_LIMIT} mappings"
    if not violations.allow(len(mappings) <= RANGES_LIMIT, field, problem, "TOO_MANY"):
        return False
    text = sum(len(f"{e.container_id} {e.host_id} {e.size}\n") for e in mappings)
    sound = [
        violations.allow(bool(mappings), field, "is required", "REQUIRED")
        and violations.allow(
            is_mapped(0, mappings), field, "has none for 0, the container's root", "REQUIRED"
        ),
        violations.allow(
            text <= _TEXT_LIMIT_BYTES, field, "takes more than a page as text", "TOO_LONG"
        ),
        *(_fits(f"{field}[{index}]", each, violations) for index, each in enumerate(mappings)),
    ]
    if not all(sound):
        return False
    for name in ("container_id", "host_id"):
        numbered = sorted((getattr(each, name), index) for index, each in enumerate(mappings))
        for (first, before), (second, index) in pairwise(numbered):
            overlap = first + mappings[before].size > second
            problem = f"the range begins in that of {field}[{before}]"
            sound.append(
                violations.allow(not overlap, f"{field}[{index}].{name}", problem, "CONFLICT")
            )
    return all(sound)


def _fits(field: str, mapping: IdMapping, violations: Violations) -> bool:
    problem = f"the range ends above {_NUMBERS - 1}"
    return violations.allow(
        mapping.size > 0, f"{field}.size", "is 0", "OUT_OF_RANGE"
    ) and violations.allow(
        max(mapping.container_id, mapping.host_id) + mapping.size <= _NUMBERS,
        f"{field}.size",
        problem,
        "OUT_OF_RANGE",
    )
