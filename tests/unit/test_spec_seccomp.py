"""Seccomp: which profile a container gets, and the service's own."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ocigrpc.errors import HostFailed, InvalidArgument
from ocigrpc.host.files.regular import SIZE_LIMIT_BYTES
from ocigrpc.oci.spec.config import ContainerConfig, Seccomp, SeccompType
from ocigrpc.oci.spec.seccomp import (
    check_host_profile,
    default_profile,
    host_profile,
    own_profile,
    seccomp_of,
)
from ocigrpc.violations import Violations


def built(seccomp: Seccomp | None, *, privileged: bool = False) -> dict[str, object] | None:
    violations = Violations()
    config = ContainerConfig("/", seccomp=seccomp, privileged=privileged)
    found = seccomp_of(config, [], violations)
    violations.raise_any()
    return found


def denied(*capabilities: str) -> dict[str, Any]:
    """What the default profile refuses whatever the arguments, with the errno."""
    profile: dict[str, Any] = own_profile(capabilities)
    return {
        name: rule["errnoRet"]
        for rule in profile["syscalls"]
        if "args" not in rule
        for name in rule["names"]
    }


def test_the_default_depends_on_privileged() -> None:
    assert built(None) == default_profile([])
    assert built(None, privileged=True) is None
    assert built(Seccomp(), privileged=True) == default_profile([])
    assert built(Seccomp(SeccompType.UNCONFINED)) is None


def test_what_reaches_beyond_the_container_is_refused() -> None:
    calls = denied()
    for name in ("mount", "init_module", "kexec_load", "clock_settime", "keyctl", "iopl", "bpf"):
        assert calls[name] == errno.EPERM
    assert calls["clone3"] == errno.ENOSYS


@pytest.mark.parametrize(
    ("capability", "call"),
    [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYS_ADMIN", "bpf"),
        ("CAP_BPF", "bpf"),
        ("CAP_PERFMON", "perf_event_open"),
        ("CAP_SYS_MODULE", "init_module"),
        ("CAP_SYS_BOOT", "reboot"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_SYS_RAWIO", "iopl"),
    ],
)
def test_a_capability_brings_back_its_calls(capability: str, call: str) -> None:
    assert call in denied()
    assert call not in denied(capability)


def test_a_capability_brings_back_nothing_else() -> None:
    assert set(denied()) - set(denied("CAP_SYS_TIME")) == {
        *("clock_settime", "clock_settime64", "settimeofday", "stime")
    }


def test_clone_is_refused_for_every_flag_of_a_namespace_alone() -> None:
    profile: dict[str, Any] = own_profile([])
    flags = [rule["args"][0]["value"] for rule in profile["syscalls"] if rule["names"] == ["clone"]]
    assert sum(flags) == 0x7E020000
    assert all(flag.bit_count() == 1 for flag in flags)
    admin: dict[str, Any] = own_profile(["CAP_SYS_ADMIN"])
    assert not [rule for rule in admin["syscalls"] if rule["names"] == ["clone"]]


@pytest.mark.parametrize(
    ("machine", "architectures"),
    [
        ("x86_64", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        ("aarch64", ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        ("riscv64", None),
    ],
)
def test_architectures_that_share_a_kernel_are_named(
    machine: str, architectures: list[str] | None
) -> None:
    assert own_profile([], machine).get("architectures") == architectures


def test_a_profile_of_the_host_is_resolved_for_the_container(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": ['
        '{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "comment": "x"},'
        '{"name": "chown", "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_CHOWN"]}}]}'
    )
    assert built(Seccomp(SeccompType.LOCALHOST, str(path))) == {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
    }


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{}", b"null", b'{"defaultAction": 1}', b"\xff", b"[" * 100_000),
        b'{"defaultAction": "SCMP_ACT_ALLOW", "archmap": []}',
        b'{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": "mkdir", "action": "x"}]}',
    ],
)
def test_a_malformed_profile_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "profile.json").write_bytes(content)
    with pytest.raises(InvalidArgument) as caught:
        built(Seccomp(SeccompType.LOCALHOST, str(tmp_path / "profile.json")))
    assert caught.value.reason == "SECCOMP_MALFORMED"
    assert caught.value.violations[0].field == "config.seccomp.localhost_ref"


def make_fifo(place: Path) -> None:
    os.mkfifo(place)


def make_large(place: Path) -> None:
    place.touch()
    os.truncate(place, SIZE_LIMIT_BYTES + 1)


@pytest.mark.parametrize("make", [make_fifo, make_large, Path.mkdir, Path.exists])
def test_an_unreadable_profile_is_refused(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "profile.json")
    with pytest.raises(InvalidArgument) as caught:
        built(Seccomp(SeccompType.LOCALHOST, str(tmp_path / "profile.json")))
    assert caught.value.reason == "SECCOMP_UNREADABLE"


@pytest.mark.parametrize(
    ("reason", "seccomp"),
    [
        ("REQUIRED", Seccomp(SeccompType.LOCALHOST)),
        ("PATH_NOT_ABSOLUTE", Seccomp(SeccompType.LOCALHOST, "profile.json")),
        ("NOT_APPLICABLE", Seccomp(SeccompType.UNCONFINED, "/profile.json")),
        ("NOT_APPLICABLE", Seccomp(SeccompType.RUNTIME_DEFAULT, "/profile.json")),
    ],
)
def test_a_reference_goes_with_localhost_only(reason: str, seccomp: Seccomp) -> None:
    with pytest.raises(InvalidArgument) as caught:
        built(seccomp)
    assert caught.value.reason == reason


def test_the_default_is_the_first_profile_that_the_host_has(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "etc.json", tmp_path / "usr.json"
    paths = (str(ours), str(theirs), "/dev/null/seccomp.json")
    assert default_profile([], paths) == own_profile([])
    assert check_host_profile(paths) == ""
    theirs.write_text('{"defaultAction": "SCMP_ACT_LOG"}')
    assert default_profile([], paths) == {"defaultAction": "SCMP_ACT_LOG", "syscalls": []}
    ours.write_text('{"defaultAction": "SCMP_ACT_TRAP"}')
    assert default_profile([], paths) == {"defaultAction": "SCMP_ACT_TRAP", "syscalls": []}
    assert check_host_profile(paths) == str(ours)


def test_a_profile_is_read_again_only_after_a_change(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text('{"defaultAction": "SCMP_ACT_LOG"}')
    first = default_profile([], (str(path),))
    assert default_profile([], (str(path),)) is first
    path.write_text('{"defaultAction": "SCMP_ACT_TRAP"}')
    assert default_profile([], (str(path),))["defaultAction"] == "SCMP_ACT_TRAP"


def test_the_default_is_resolved_for_each_containers_capabilities(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(
        '{"defaultAction": "SCMP_ACT_LOG", "syscalls": ['
        '{"name": "bpf", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}}]}'
    )
    with_bpf, without = (
        default_profile(["CAP_BPF"], (str(path),)),
        default_profile([], (str(path),)),
    )
    assert with_bpf["syscalls"] == [{"names": ["bpf"], "action": "SCMP_ACT_ALLOW"}]
    assert without["syscalls"] == []


@pytest.mark.parametrize("content", [None, "", "{}", '{"defaultAction": "SCMP_ACT_LOG", "x": 1}'])
def test_a_broken_default_is_an_error(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "profile.json"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    for use in (check_host_profile, lambda paths: default_profile([], paths)):
        with pytest.raises(HostFailed) as caught:
            use((str(path),))
        assert caught.value.reason == "SECCOMP_PROFILE_BROKEN"
        assert caught.value.metadata["path"] == str(path)


def test_a_default_that_can_not_be_looked_for_is_broken(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(HostFailed) as caught:
        host_profile((str(tmp_path / "loop"),))
    assert caught.value.reason == "SECCOMP_PROFILE_BROKEN"
