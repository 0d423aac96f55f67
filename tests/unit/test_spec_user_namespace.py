"""User namespaces: which mappings are taken, and what a container has with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.errors import InvalidArgument
from ocigrpc.host.mappings.owners import Owners
from ocigrpc.oci.spec.build import spec_of
from ocigrpc.oci.spec.config import (
    ContainerConfig,
    IdMapping,
    Namespace,
    NamespaceMode,
    NamespaceType,
    UserNamespace,
)
from ocigrpc.oci.spec.user_namespace import check_user_namespace, is_mapped, owners_of
from ocigrpc.violations import Violations

ROOT = IdMapping(0, 100_000, 65_536)
LAST = (1 << 32) - 2


def wrong(uids: tuple[IdMapping, ...], gids: tuple[IdMapping, ...] = (ROOT,)) -> list[str]:
    """The fields and reasons of what is refused."""
    violations = Violations()
    config = ContainerConfig("/r", user_namespace=UserNamespace(uids, gids))
    fine = check_user_namespace(config, violations)
    try:
        violations.raise_any()
    except InvalidArgument as error:
        assert not fine
        return [
            error.reason,
            *(each.field.removeprefix("config.user_namespace.") for each in error.violations),
        ]
    assert fine
    return []


@pytest.mark.parametrize(
    "mappings",
    [
        (ROOT,),
        (IdMapping(0, 0, LAST + 1),),
        (IdMapping(0, LAST, 1),),
        (IdMapping(1, 0, 5), IdMapping(0, 5, 1)),
        tuple(IdMapping(number, 10_000 + number, 1) for number in range(340)),
    ],
)
def test_what_the_kernel_takes_is_taken(mappings: tuple[IdMapping, ...]) -> None:
    assert wrong(mappings) == []
    assert wrong((ROOT,), mappings) == []


@pytest.mark.parametrize(
    ("mappings", "refusal"),
    [
        ((), ["REQUIRED", "uid_mappings"]),
        ((IdMapping(1, 0, 9),), ["REQUIRED", "uid_mappings"]),
        ((IdMapping(0, 1, 1), IdMapping(5, 5, 0)), ["OUT_OF_RANGE", "uid_mappings[1].size"]),
        ((IdMapping(0, 1, LAST + 1),), ["OUT_OF_RANGE", "uid_mappings[0].size"]),
        ((IdMapping(0, LAST + 1, 1),), ["OUT_OF_RANGE", "uid_mappings[0].size"]),
        (
            (IdMapping(0, 10, 5), IdMapping(4, 20, 1)),
            ["CONFLICT", "uid_mappings[1].container_id"],
        ),
        ((IdMapping(0, 10, 5), IdMapping(5, 8, 3)), ["CONFLICT", "uid_mappings[0].host_id"]),
        (tuple(IdMapping(n, n, 1) for n in range(341)), ["TOO_MANY", "uid_mappings"]),
        (tuple(IdMapping(n, 10**9 + n, 1) for n in range(300)), ["TOO_LONG", "uid_mappings"]),
    ],
)
def test_what_it_does_not_take_is_refused(
    mappings: tuple[IdMapping, ...], refusal: list[str]
) -> None:
    assert wrong(mappings) == refusal
    reason, field = refusal
    assert wrong((ROOT,), mappings) == [reason, field.replace("uid", "gid")]


_RANGES = st.lists(
    st.builds(IdMapping, st.integers(0, 12), st.integers(0, 12), st.integers(1, 4)),
    min_size=1,
    max_size=4,
)


@given(_RANGES)
def test_ranges_are_taken_if_they_are_apart_and_have_root(ranges: list[IdMapping]) -> None:
    inside = [each.container_id + n for each in ranges for n in range(each.size)]
    outside = [each.host_id + n for each in ranges for n in range(each.size)]
    apart = len(set(inside)) == len(inside) and len(set(outside)) == len(outside)
    assert (wrong(tuple(ranges)) == []) is (apart and 0 in inside)
    assert {n for n in range(20) if is_mapped(n, ranges)} == set(inside)


@pytest.mark.parametrize("mode", [NamespaceMode.HOST, NamespaceMode.PATH])
@pytest.mark.parametrize("kind", list(NamespaceType))
def test_namespaces_with_file_systems_must_be_its_own(
    kind: NamespaceType, mode: NamespaceMode
) -> None:
    config = ContainerConfig(
        "/r",
        namespaces=(Namespace(NamespaceType(kind), mode, "/n"),),
        user_namespace=UserNamespace((ROOT,), (ROOT,)),
    )
    violations = Violations()
    check_user_namespace(config, violations)
    if kind in (NamespaceType.UTS, NamespaceType.CGROUP):
        violations.raise_any()
        return
    with pytest.raises(InvalidArgument) as refused:
        violations.raise_any()
    assert refused.value.reason == "CONFLICT"
    assert refused.value.metadata["field"] == "config.namespaces[0].mode"


def built(root: Path, namespace: UserNamespace, **fields: Any) -> dict[str, Any]:
    for each in (root, *root.parents):
        if each != Path("/tmp") and each.stat().st_mode & 0o1 == 0:
            each.chmod(each.stat().st_mode | 0o1)
    config = ContainerConfig(str(root), ("true",), user_namespace=namespace, **fields)
    return spec_of(config, container_id="c", terminal=False)


def test_a_spec_has_the_namespace_and_both_maps(tmp_path: Path) -> None:
    namespace = UserNamespace((ROOT,), (IdMapping(0, 7, 10),))
    linux = built(tmp_path, namespace)["linux"]
    assert {"type": "user"} in linux["namespaces"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 100_000, "size": 65_536}]
    assert linux["gidMappings"] == [{"containerID": 0, "hostID": 7, "size": 10}]


@pytest.mark.parametrize(("size", "is_there"), [(6, True), (5, False)])
def test_terminals_belong_to_their_group_if_there_is_one(
    tmp_path: Path, size: int, is_there: bool
) -> None:
    namespace = UserNamespace((ROOT,), (IdMapping(0, 7, size),))
    mounts = built(tmp_path, namespace)["mounts"]
    [options] = [each["options"] for each in mounts if each["destination"] == "/dev/pts"]
    assert ("gid=5" in options) is is_there


@pytest.mark.parametrize("user", ["1000", "0:1000", "999:1"])
def test_a_user_that_is_not_mapped_is_refused(tmp_path: Path, user: str) -> None:
    namespace = UserNamespace((IdMapping(0, 7, 999),), (IdMapping(0, 7, 1000),))
    with pytest.raises(InvalidArgument) as refused:
        built(tmp_path, namespace, user=user)
    assert refused.value.reason == "ID_NOT_MAPPED"
    assert refused.value.metadata["field"] == "config.user"


def test_a_group_that_is_not_mapped_is_named(tmp_path: Path) -> None:
    namespace = UserNamespace((ROOT,), (IdMapping(0, 7, 10),))
    with pytest.raises(InvalidArgument) as refused:
        built(tmp_path, namespace, supplemental_groups=(9, 10))
    assert refused.value.reason == "ID_NOT_MAPPED"
    assert refused.value.metadata["field"] == "config.supplemental_groups[1]"


def test_a_root_filesystem_that_its_root_can_not_come_to_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "root").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(InvalidArgument) as refused:
        spec_of(
            ContainerConfig(
                str(closed / "root"), ("true",), user_namespace=UserNamespace((ROOT,), (ROOT,))
            ),
            container_id="c",
            terminal=False,
        )
    assert refused.value.reason == "PATH_NOT_SEARCHABLE"
    assert refused.value.metadata["field"] == "config.rootfs_path"
    # The topmost one: also the directory of all tests may be closed.
    assert Path(refused.value.metadata["path"]) in (closed, *closed.parents)
    assert refused.value.metadata["field"] == "config.rootfs_path"


def test_owners_without_a_namespace_are_the_hosts() -> None:
    assert owners_of(None) == Owners()
    assert owners_of(UserNamespace((ROOT,), (ROOT,))).here(7, 0) == (100_007, 100_000)
