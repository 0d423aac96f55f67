"""Capabilities: the default set, what is dropped, what is added, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.errors import InvalidArgument
from ocigrpc.oci.spec.capabilities import (
    CAPABILITIES,
    DEFAULT_CAPABILITIES,
    CapabilitySets,
    capabilities_of,
    capabilities_of_exec,
)
from ocigrpc.oci.spec.config import ContainerConfig
from ocigrpc.violations import Violations

ALL = frozenset(CAPABILITIES)
capability = st.sampled_from(CAPABILITIES)


def sets(uid: int, held: frozenset[str] = ALL, **fields: Any) -> CapabilitySets:
    violations = Violations()
    capabilities = capabilities_of(ContainerConfig("/", **fields), uid, held, violations)
    violations.raise_any()
    for names in capabilities.to_spec().values():
        assert list(names) == sorted(set(names))
    return capabilities


def built(held: frozenset[str] = ALL, **fields: Any) -> set[str]:
    """What root can use."""
    capabilities = sets(0, held, **fields)
    assert capabilities.effective == capabilities.permitted == capabilities.bounding
    return set(capabilities.bounding)


def test_every_capability_is_known_by_its_number() -> None:
    assert len(CAPABILITIES) == 41
    assert (CAPABILITIES[0], CAPABILITIES[21], CAPABILITIES[40]) == (
        "CAP_CHOWN",
        "CAP_SYS_ADMIN",
        "CAP_CHECKPOINT_RESTORE",
    )


@given(st.lists(capability), st.lists(capability))
def test_drops_come_before_additions(add: list[str], drop: list[str]) -> None:
    expected = (DEFAULT_CAPABILITIES - set(drop)) | set(add)
    assert built(add_capabilities=tuple(add), drop_capabilities=tuple(drop)) == expected


@given(st.lists(capability))
def test_all_drops_everything_before_any_is_added(add: list[str]) -> None:
    assert built(add_capabilities=tuple(add), drop_capabilities=("ALL",)) == set(add)


@given(st.frozensets(capability))
def test_all_adds_what_the_service_holds(held: frozenset[str]) -> None:
    assert built(held, add_capabilities=("all",)) == held


@given(st.frozensets(capability))
def test_the_default_set_is_cut_to_what_the_service_holds(held: frozenset[str]) -> None:
    assert built(held) == held & DEFAULT_CAPABILITIES


@given(st.frozensets(capability), st.lists(capability))
def test_privileged_has_all_that_is_held_but_what_is_dropped(
    held: frozenset[str], drop: list[str]
) -> None:
    assert built(held, privileged=True, drop_capabilities=tuple(drop)) == held - set(drop)


@pytest.mark.parametrize("name", ["net_admin", "NET_ADMIN", "CAP_NET_ADMIN", "cap_Net_Admin"])
def test_names_come_in_any_case_with_or_without_the_prefix(name: str) -> None:
    assert "CAP_NET_ADMIN" in built(add_capabilities=(name,))


@pytest.mark.parametrize("name", ["", "CAP_", "CAP_ALL", "CAP_CAP_KILL", "NET_ADMIN ", "ROOT"])
@pytest.mark.parametrize(
    "field", ["add_capabilities", "drop_capabilities", "add_ambient_capabilities"]
)
def test_an_unknown_name_is_refused(field: str, name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        built(ALL, **{field: ("KILL", name)})
    assert caught.value.reason == "UNKNOWN_CAPABILITY"
    assert caught.value.violations[0].field == f"config.{field}[1]"


@pytest.mark.parametrize("field", ["add_capabilities", "add_ambient_capabilities"])
def test_one_that_the_service_does_not_hold_can_not_be_added(field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        built(ALL - {"CAP_SYS_TIME"}, **{field: ("SYS_TIME",)})
    assert caught.value.reason == "CAPABILITY_NOT_HELD"
    assert caught.value.violations[0].field == f"config.{field}[0]"


@pytest.mark.parametrize("privileged", [False, True])
def test_a_user_that_is_not_root_can_use_nothing_by_itself(privileged: bool) -> None:
    found = sets(1000, privileged=privileged)
    assert set(found.bounding) == (ALL if privileged else DEFAULT_CAPABILITIES)
    assert (found.effective, found.permitted, found.inheritable, found.ambient) == ((),) * 4


@given(st.lists(capability), st.lists(capability), st.lists(capability))
def test_a_user_that_is_not_root_can_use_what_is_added_either_way(
    add: list[str], ambient: list[str], drop: list[str]
) -> None:
    found = sets(
        1000,
        add_capabilities=tuple(add),
        add_ambient_capabilities=tuple(ambient),
        drop_capabilities=tuple(drop),
    )
    usable = {*add, *ambient}
    assert set(found.bounding) == (DEFAULT_CAPABILITIES - set(drop)) | usable
    assert set(found.effective) == usable
    assert found.effective == found.permitted == found.inheritable == found.ambient


@given(st.lists(capability), st.lists(capability))
def test_root_passes_on_what_is_added_as_ambient_alone(add: list[str], ambient: list[str]) -> None:
    found = sets(0, add_capabilities=tuple(add), add_ambient_capabilities=tuple(ambient))
    assert set(found.bounding) == DEFAULT_CAPABILITIES | set(add) | set(ambient)
    assert found.effective == found.permitted == found.bounding
    assert set(found.ambient) == set(found.inheritable) == set(ambient)


@pytest.mark.parametrize("field", ["add_capabilities", "add_ambient_capabilities"])
def test_all_that_is_held_is_for_a_user_too(field: str) -> None:
    held = frozenset({"CAP_KILL", "CAP_SYS_TIME"})
    assert set(sets(1000, held, **{field: ("ALL",)}).ambient) == held


OWN: dict[str, object] = {
    "bounding": ["CAP_CHOWN", "CAP_KILL"],
    **{key: ["CAP_KILL"] for key in ("effective", "permitted", "inheritable", "ambient")},
}


@pytest.mark.parametrize(
    ("uid", "usable", "ambient"),
    [(1000, ["CAP_KILL"], ["CAP_KILL"]), (0, ["CAP_CHOWN", "CAP_KILL"], []), (1001, [], [])],
)
def test_a_program_of_exec_can_use_what_its_user_may(
    uid: int, usable: list[str], ambient: list[str]
) -> None:
    assert capabilities_of_exec(OWN, 1000, uid) == {
        "bounding": ["CAP_CHOWN", "CAP_KILL"],
        **dict.fromkeys(("effective", "permitted"), usable),
        **dict.fromkeys(("inheritable", "ambient"), ambient),
    }
