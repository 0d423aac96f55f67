"""What a config becomes, field by field; and what is refused, with its path and reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.errors import VIOLATIONS_LIMIT, InvalidArgument
from ocigrpc.oci.spec.build import (
    DEFAULT_PATH,
    MASKED_PATHS,
    READONLY_PATHS,
    environment_of,
    spec_of,
)
from ocigrpc.oci.spec.capabilities import DEFAULT_CAPABILITIES, held_capabilities
from ocigrpc.oci.spec.config import (
    ContainerConfig,
    Namespace,
    NamespaceMode,
    NamespaceType,
    Resources,
    Seccomp,
    SeccompType,
)
from ocigrpc.oci.spec.seccomp import default_profile
from ocigrpc.violations import Violations

Spec = Callable[..., Any]
Refusal = Callable[..., tuple[list[str], str]]


def names() -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8", exclude_characters="=\0"), min_size=1, max_size=20)


def values() -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50)


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    """``spec(**config)``: the spec of a config with a root and a command."""

    def build(*, terminal: bool = False, **fields: Any) -> Any:
        config = ContainerConfig(**{"rootfs_path": str(tmp_path), "command": ("true",), **fields})
        return spec_of(config, container_id="0123456789abcdef", terminal=terminal)

    return build


@pytest.fixture
def refusal(spec: Spec) -> Refusal:
    """``refusal(**config)``: the wrong fields, and the reason."""

    def build(**fields: Any) -> tuple[list[str], str]:
        with pytest.raises(InvalidArgument) as caught:
            spec(**fields)
        return [violation.field for violation in caught.value.violations], caught.value.reason

    return build


def test_defaults(spec: Spec, tmp_path: Path) -> None:
    built = spec()
    assert built["ociVersion"] == "1.0.2"
    assert built["root"] == {"path": str(tmp_path), "readonly": False}
    assert built["hostname"] == "0123456789ab"
    process = built["process"]
    assert process["args"] == ["true"]
    assert process["cwd"] == "/"
    assert process["env"] == [f"PATH={DEFAULT_PATH}", "HOSTNAME=0123456789ab"]
    assert process["user"] == {"uid": 0, "gid": 0, "additionalGids": [0], "umask": 0o022}
    assert process["noNewPrivileges"] is True
    assert process["terminal"] is False
    assert process["oomScoreAdj"] == 0
    linux = built["linux"]
    assert {namespace["type"] for namespace in linux["namespaces"]} == {
        *("pid", "network", "ipc", "uts", "cgroup", "mount")
    }
    assert linux["maskedPaths"] == list(MASKED_PATHS)
    assert linux["readonlyPaths"] == list(READONLY_PATHS)
    assert linux["resources"] == {"devices": [{"allow": False, "access": "rwm"}]}
    assert linux["seccomp"] == default_profile(DEFAULT_CAPABILITIES & held_capabilities())
    assert linux["sysctl"] == {"net.ipv4.ping_group_range": "0 0"}
    assert not {"cgroupsPath", "devices", "rootfsPropagation"} & set(linux)
    assert "annotations" not in built


def test_a_spec_is_ready_for_json(spec: Spec) -> None:
    built = spec(privileged=True)
    assert msgspec.json.decode(msgspec.json.encode(built)) == built


def test_privileged_takes_all_guards_away(spec: Spec) -> None:
    built = spec(privileged=True)
    assert built["process"]["noNewPrivileges"] is False
    assert not {"seccomp", "maskedPaths", "readonlyPaths"} & set(built["linux"])
    assert built["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    sys_mounts = [m for m in built["mounts"] if m["destination"].startswith("/sys")]
    assert len(sys_mounts) == 2
    assert all("ro" not in mount["options"] for mount in sys_mounts)


def test_what_is_given_holds_for_a_privileged_container_too(spec: Spec) -> None:
    built = spec(
        privileged=True,
        no_new_privileges=True,
        seccomp=Seccomp(SeccompType.RUNTIME_DEFAULT),
        masked_paths=("/proc/keys",),
        readonly_paths=("/proc/sys",),
    )
    assert built["process"]["noNewPrivileges"] is True
    assert built["linux"]["seccomp"] == default_profile(held_capabilities())
    assert built["linux"]["maskedPaths"] == ["/proc/keys"]
    assert built["linux"]["readonlyPaths"] == ["/proc/sys"]


def test_lists_that_are_present_and_empty_are_none(spec: Spec) -> None:
    assert not {"maskedPaths", "readonlyPaths"} & set(
        spec(masked_paths=(), readonly_paths=())["linux"]
    )


def test_args_follow_the_command(spec: Spec) -> None:
    assert spec(command=("a", "b"), args=("", "c"))["process"]["args"] == ["a", "b", "", "c"]


def test_a_terminal_sets_term(spec: Spec) -> None:
    process = spec(terminal=True)["process"]
    assert process["terminal"] is True
    assert "TERM=xterm" in process["env"]


@given(
    st.dictionaries(names() | st.sampled_from(["PATH", "TERM", "HOSTNAME"]), values()),
    st.booleans(),
)
def test_the_environment_is_the_configs_own_over_the_defaults(
    env: dict[str, str], terminal: bool
) -> None:
    violations = Violations()
    built = environment_of(ContainerConfig("/", env=env), terminal, "h", violations)
    violations.raise_any()
    pairs = [variable.partition("=") for variable in built]
    assert len(pairs) == len({name for name, _, _ in pairs})
    defaults = {"PATH": DEFAULT_PATH, "HOSTNAME": "h"}
    if terminal:
        defaults["TERM"] = "xterm"
    assert {name: value for name, _, value in pairs} == {**defaults, **env}


def test_a_root_behind_a_symbolic_link_is_named_by_its_real_path(
    spec: Spec, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    built = spec(rootfs_path=str(tmp_path / "link"))
    assert built["root"]["path"] == str(tmp_path / "real")


@pytest.mark.parametrize("mode", [NamespaceMode.HOST, NamespaceMode.PATH])
def test_a_uts_namespace_of_others_keeps_its_hostname(spec: Spec, mode: NamespaceMode) -> None:
    path = "/proc/self/ns/uts" if mode is NamespaceMode.PATH else ""
    built = spec(namespaces=(Namespace(NamespaceType.UTS, mode, path),))
    assert "hostname" not in built
    assert not [each for each in built["process"]["env"] if each.startswith("HOSTNAME=")]


@pytest.mark.parametrize(
    ("field", "reason", "fields"),
    [
        ("config.rootfs_path", "REQUIRED", {"rootfs_path": ""}),
        ("config.rootfs_path", "PATH_NOT_ABSOLUTE", {"rootfs_path": "tmp"}),
        ("config.rootfs_path", "NUL_BYTE", {"rootfs_path": "/tmp\0"}),
        ("config.rootfs_path", "TOO_LONG", {"rootfs_path": "/" + "x" * 5000}),
        ("config.rootfs_path", "ROOTFS_NOT_FOUND", {"rootfs_path": "/nowhere"}),
        ("config.rootfs_path", "ROOTFS_NOT_FOUND", {"rootfs_path": "/dev/null"}),
        ("config.rootfs_path", "PATH_IS_ROOT", {"rootfs_path": "/../"}),
        ("config.command", "REQUIRED", {"command": (), "args": ("true",)}),
        ("config.command[0]", "REQUIRED", {"command": ("",)}),
        ("config.command[1]", "NUL_BYTE", {"command": ("a", "\0")}),
        ("config.args[0]", "NUL_BYTE", {"args": ("a\0b",)}),
        ("config.args[0]", "TOO_LONG", {"args": ("x" * 131072,)}),
        ("config.command[0]", "TOO_LONG", {"command": ("x" * 4096,)}),
        ("config.args", "TOO_LONG", {"args": ("x" * 100_000,) * 11}),
        ('config.env[""]', "MALFORMED", {"env": {"": "x"}}),
        ('config.env["A=B"]', "MALFORMED", {"env": {"A=B": "x"}}),
        ('config.env["A"]', "NUL_BYTE", {"env": {"A": "\0"}}),
        ('config.env["A\\u0000"]', "NUL_BYTE", {"env": {"A\0": ""}}),
        ("config.working_dir", "PATH_NOT_ABSOLUTE", {"working_dir": "tmp"}),
        ("config.hostname", "MALFORMED", {"hostname": "a b"}),
        ("config.hostname", "MALFORMED", {"hostname": "a\n"}),
        ("config.hostname", "MALFORMED", {"hostname": "a" * 65}),
        ("config.masked_paths.paths[1]", "PATH_NOT_ABSOLUTE", {"masked_paths": ("/a", "b")}),
        ("config.readonly_paths.paths[0]", "REQUIRED", {"readonly_paths": ("",)}),
        (
            "config.hostname",
            "NOT_APPLICABLE",
            {
                "hostname": "a",
                "namespaces": (Namespace(NamespaceType.UTS, NamespaceMode.HOST),),
            },
        ),
    ],
)
def test_a_wrong_field_is_refused(
    refusal: Refusal, field: str, reason: str, fields: dict[str, Any]
) -> None:
    assert refusal(**fields) == ([field], reason)


def test_all_wrong_fields_are_named_at_once(refusal: Refusal) -> None:
    wrong, _ = refusal(command=(), working_dir="x", resources=Resources(pids_limit=-2))
    assert set(wrong) == {"config.command", "config.working_dir", "config.resources.pids_limit"}


def test_an_error_stays_small(spec: Spec) -> None:
    with pytest.raises(InvalidArgument) as caught:
        spec(env={f"{'x' * 5000}{number}=": "" for number in range(100)})
    assert len(caught.value.violations) == VIOLATIONS_LIMIT
    assert all(len(text) < 300 for each in caught.value.violations for text in each)
    assert len(caught.value.message) < 600
