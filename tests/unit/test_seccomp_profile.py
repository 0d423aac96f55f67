"""What the form of containers-common and moby means, and that nothing in it is read past."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest

from ocigrpc.oci.spec.seccomp_profile import Machine, parse_profile, resolve

MACHINE = Machine("x86_64", "6.1.0-13-amd64")
ALLOW = "SCMP_ACT_ALLOW"


def resolved(
    profile: dict[str, Any], capabilities: tuple[str, ...] = (), machine: Machine = MACHINE
) -> dict[str, Any]:
    whole = {"defaultAction": "SCMP_ACT_ERRNO", **profile}
    return resolve(parse_profile(json.dumps(whole).encode()), capabilities, machine)


def holds(
    *capabilities: str, machine: Machine = MACHINE, **conditions: dict[str, Any] | None
) -> bool:
    rule = {"names": ["mount"], "action": ALLOW, **conditions}
    found = resolved({"syscalls": [rule]}, capabilities, machine)["syscalls"]
    assert found in ([], [{"names": ["mount"], "action": ALLOW}])
    return bool(found)


def test_a_rule_includes_those_that_have_every_capability() -> None:
    both = {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}
    assert not holds(includes=both)
    assert not holds("CAP_BPF", includes=both)
    assert holds("CAP_BPF", "CAP_SYS_ADMIN", includes=both)


def test_a_rule_excludes_those_that_have_any_capability() -> None:
    both = {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}
    assert holds("CAP_CHOWN", excludes=both)
    assert not holds("CAP_BPF", excludes=both)


@pytest.mark.parametrize(
    ("machine", "arch"),
    [("x86_64", "amd64"), ("aarch64", "arm64"), ("s390x", "s390x"), ("ppc64le", "ppc64le")],
)
def test_an_architecture_goes_by_libseccomps_name(machine: str, arch: str) -> None:
    host, others = Machine(machine, "6.1"), ["mips", "parisc"]
    assert holds(machine=host, includes={"arches": [*others, arch]})
    assert not holds(machine=host, includes={"arches": others})
    assert not holds(machine=host, excludes={"arches": [*others, arch]})
    assert holds(machine=host, excludes={"arches": others})


@pytest.mark.parametrize(
    ("least", "enough"),
    [("4.8", True), ("6.0", True), ("6.1", True), ("6.2", False), ("10.0", False)],
)
def test_a_kernel_is_compared_by_its_first_two_numbers(least: str, enough: bool) -> None:
    assert holds(includes={"minKernel": least}) == enough
    assert holds(excludes={"minKernel": least}) != enough


def test_all_conditions_of_a_rule_have_to_be_met() -> None:
    most = {"caps": ["CAP_SYS_ADMIN"], "arches": ["amd64"]}
    assert holds("CAP_SYS_ADMIN", includes={**most, "minKernel": "5.0"})
    assert not holds("CAP_SYS_ADMIN", includes={**most, "minKernel": "7.0"})
    assert not holds("CAP_SYS_ADMIN", includes=most, excludes={"minKernel": "5.0"})
    assert not holds("CAP_SYS_ADMIN", excludes={"caps": ["CAP_BPF"], "arches": ["amd64"]})


@pytest.mark.parametrize("empty", [None, {}, {"caps": [], "arches": None, "minKernel": None}])
def test_what_is_empty_is_no_condition(empty: dict[str, Any] | None) -> None:
    assert holds(includes=empty, excludes=empty)


def test_the_native_architecture_brings_those_that_go_with_it() -> None:
    arches = [
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_S390X", "subArchitectures": None},
    ]

    def named(machine: str) -> list[str] | None:
        found = resolved({"archMap": arches}, machine=Machine(machine, "6.1"))
        assert "archMap" not in found
        return found.get("architectures")

    assert named("x86_64") == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert named("aarch64") == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert named("s390x") == ["SCMP_ARCH_S390X"]
    assert named("riscv64") is None
    assert named("strange") is None
    assert resolved({"architectures": ["SCMP_ARCH_ARM"]})["architectures"] == ["SCMP_ARCH_ARM"]


@pytest.mark.parametrize(
    ("given", "number"),
    [
        ({"errnoRet": 38}, 38),
        ({"errno": "ENOSYS"}, errno.ENOSYS),
        ({"errno": "38"}, 38),
        # As containers-common has it, whose numbers are for older readers.
        ({"errno": "EPERM", "errnoRet": 38}, errno.EPERM),
        ({"errno": "", "errnoRet": 0}, 0),
        ({}, None),
    ],
)
def test_an_error_may_go_by_its_name(given: dict[str, object], number: int | None) -> None:
    rule = {"names": ["mount"], "action": "SCMP_ACT_ERRNO", **given}
    (found,) = resolved({"syscalls": [rule]})["syscalls"]
    assert (found.get("errnoRet"), "errno" in found) == (number, False)
    default = {f"default{key[0].upper()}{key[1:]}": value for key, value in given.items()}
    whole = resolved(default)
    assert (whole.get("defaultErrnoRet"), "defaultErrno" in whole) == (number, False)


def test_a_single_name_is_a_list_of_one_and_no_name_is_no_rule() -> None:
    rules = [
        {"name": "mount", "action": ALLOW, "comment": "why", "args": None},
        {"names": [], "action": ALLOW},
    ]
    assert resolved({"syscalls": rules})["syscalls"] == [{"names": ["mount"], "action": ALLOW}]


def test_arguments_and_what_the_runtime_spec_has_besides_are_kept() -> None:
    argument = {"index": 1, "value": 2**64 - 1, "op": "SCMP_CMP_MASKED_EQ", "valueTwo": 8}
    less = {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}
    rule = {"names": ["clone"], "action": "SCMP_ACT_NOTIFY", "args": [argument, less]}
    kept = {
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/run/listener",
        "listenerMetadata": "who",
    }
    found = resolved({**kept, "syscalls": [rule]})
    assert {key: found[key] for key in kept} == kept
    assert found["syscalls"] == [{**rule, "args": [argument, {**less, "valueTwo": 0}]}]


RULE = {"names": ["mount"], "action": ALLOW}
WRONG_CONDITIONS: list[dict[str, Any]] = [
    {"more": []},
    {"caps": ["SYS_ADMIN"]},
    {"caps": ["cap_sys_admin"]},
    {"caps": "CAP_SYS_ADMIN"},
    {"arches": ["x86_64"]},
    {"arches": ["SCMP_ARCH_X86_64"]},
    {"minKernel": ""},
    {"minKernel": "4"},
    {"minKernel": "4.8.1"},
    {"minKernel": 4.8},
    {"minkernel": "4.8"},
]
ARGUMENT = {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}


@pytest.mark.parametrize(
    "profile",
    [
        {"more": 1},
        {"defaultaction": ALLOW},
        {"defaultAction": "ALLOW"},
        {"defaultErrno": "EFLY"},
        {"defaultErrno": "errorcode"},
        {"defaultErrnoRet": 1 << 16},
        {"architectures": ["x86_64"]},
        {"architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]},
        {"archMap": [{"architecture": "SCMP_ARCH_X86_64", "more": []}]},
        {"flags": ["TSYNC"]},
        *(
            {"syscalls": [rule]}
            for rule in (
                {"action": ALLOW},
                {"names": None, "action": ALLOW},
                {**RULE, "name": "umount"},
                {**RULE, "names": [""]},
                {**RULE, "names": "mount"},
                {**RULE, "action": "SCMP_ACT_FLY"},
                {**RULE, "more": 1},
                {**RULE, "Includes": {}},
                {**RULE, "errno": "EFLY"},
                {**RULE, "args": [{**ARGUMENT, "more": 1}]},
                {**RULE, "args": [{**ARGUMENT, "op": "EQ"}]},
                {**RULE, "args": [{**ARGUMENT, "index": 6}]},
                {**RULE, "args": [{**ARGUMENT, "value": -1}]},
                {**RULE, "args": [{**ARGUMENT, "value": 1 << 64}]},
            )
        ),
        *(
            {"syscalls": [{**RULE, which: conditions}]}
            for which in ("includes", "excludes")
            for conditions in WRONG_CONDITIONS
        ),
    ],
)
def test_what_has_no_meaning_here_is_refused(profile: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        resolved(profile)
