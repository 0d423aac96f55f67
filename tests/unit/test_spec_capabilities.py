"""Capabilities: the default set, what is dropped, what is added, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.errors import InvalidArgument
from ocigrpc.oci.capabilities import CAPABILITIES, DEFAULT_CAPABILITIES, capabilities_of
from ocigrpc.oci.config import ContainerConfig
from ocigrpc.oci.violations import Violations

ALL = frozenset(CAPABILITIES)
capability = st.sampled_from(CAPABILITIES)


def built(held: frozenset[str] = ALL, **fields: Any) -> set[str]:
    violations = Violations()
    capabilities = capabilities_of(ContainerConfig("/", **fields), held, violations)
    violations.raise_any()
    assert capabilities == sorted(set(capabilities))
    return set(capabilities)


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
@pytest.mark.parametrize("field", ["add_capabilities", "drop_capabilities"])
def test_an_unknown_name_is_refused(field: str, name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        built(ALL, **{field: ("KILL", name)})
    assert caught.value.reason == "UNKNOWN_CAPABILITY"
    assert caught.value.violations[0].field == f"config.{field}[1]"


def test_one_that_the_service_does_not_hold_can_not_be_added() -> None:
    with pytest.raises(InvalidArgument) as caught:
        built(ALL - {"CAP_SYS_TIME"}, add_capabilities=("SYS_TIME",))
    assert caught.value.reason == "CAPABILITY_NOT_HELD"
    assert caught.value.violations[0].field == "config.add_capabilities[0]"
