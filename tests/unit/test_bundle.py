"""Specs of clients: read from bundles and text, and made fit for us."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import msgspec
import pytest

from ocigrpc.errors import InvalidArgument
from ocigrpc.oci.bundle import (
    adopt,
    asks_for_terminal,
    bundle_spec,
    has_hooks,
    make_bundle,
    text_spec,
    write_spec,
)
from ocigrpc.oci.paths import ContainerPaths

SPEC: dict[str, object] = {
    "ociVersion": "1.0.2",
    "process": {"args": ["sh"], "cwd": "/", "umask": 18},
    "root": {"path": "rootfs"},
    "mounts": [
        {"destination": "/a", "type": "bind", "source": "data", "options": ["rbind"]},
        {"destination": "/b", "type": "none", "source": "data", "options": ["bind"]},
        {"destination": "/c", "type": "bind", "source": "/abs"},
        {"destination": "/proc", "type": "proc", "source": "proc"},
    ],
    "annotations": {"theirs": "1"},
    "linux": {"cgroupsPath": "/theirs", "maskedPaths": ["/proc/keys"]},
    "future": {"kept": True},
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    bundle = tmp_path / "bundle"
    (bundle / "rootfs").mkdir(parents=True)
    (bundle / "config.json").write_bytes(msgspec.json.encode(SPEC))
    return bundle


def test_relative_paths_of_a_bundle_are_below_it(bundle: Path) -> None:
    spec = bundle_spec(str(bundle))
    assert spec["root"] == {"path": f"{bundle}/rootfs"}
    mounts = msgspec.convert(spec["mounts"], list[dict[str, object]])
    assert [mount["source"] for mount in mounts] == [
        f"{bundle}/data",
        f"{bundle}/data",
        "/abs",
        "proc",
    ]


def test_adopting_changes_what_is_ours_and_keeps_what_is_unknown(bundle: Path) -> None:
    spec = adopt(bundle_spec(str(bundle)), "/ours/c1", {"mine": "2"}, terminal=True)
    assert spec["linux"] == {"cgroupsPath": "/ours/c1", "maskedPaths": ["/proc/keys"]}
    assert spec["process"] == {"args": ["sh"], "cwd": "/", "umask": 18, "terminal": True}
    assert spec["annotations"] == {"theirs": "1", "mine": "2"}
    assert spec["future"] == {"kept": True}


def test_a_spec_may_ask_for_a_terminal(bundle: Path) -> None:
    spec = bundle_spec(str(bundle))
    assert not asks_for_terminal(spec)
    assert asks_for_terminal(adopt(spec, "/p", {}, terminal=True))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        "[" * 100_000,
        '{"ociVersion": 1}',
        '{"ociVersion":"1.0.2","process":{"args":[],"cwd":"/"},"root":{"path":"/"}}',
        '{"ociVersion":"1.0.2","process":{"args":["a"],"cwd":"x"},"root":{"path":"/"}}',
        '{"ociVersion":"1.0.2","process":{"args":["a"],"cwd":"/"},"root":{"path":"x"}}',
        '{"ociVersion":"1.0.2","process":{"args":["a"],"cwd":"/"},"root":{"path":"/none/such"}}',
        '{"ociVersion":"1.0.2","process":{"args":["a"],"cwd":"/"},"root":{"path":"/\\u0000"}}',
        '{"ociVersion":"1.0.2","process":{"args":["a"],"cwd":"/"},"root":{"path":"/"},"linux":[]}',
    ],
)
def test_what_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        text_spec(text)
    assert caught.value.reason == "INVALID_SPEC"
    assert caught.value.violations[0].field == "spec_json"


def with_value(path: str, value: str) -> str:
    """A sound spec in which ``path`` has a value, given as JSON."""
    spec: dict[str, object] = {**copy.deepcopy(SPEC), "root": {"path": "/tmp"}, "linux": {}}
    *tables, key = path.split(".")
    table = spec
    for name in tables:
        table = table.setdefault(name, {})  # type: ignore[assignment]  # it is a table
    table[key] = msgspec.Raw(value.encode())
    return msgspec.json.encode(spec).decode()


MEANT_BY_OTHERS = (
    '"includes": {"caps": ["CAP_SYS_ADMIN"]}',
    '"excludes": {"caps": ["CAP_SYS_ADMIN"]}',
    '"includes": {"minKernel": "4.8"}',
    '"Includes": {"caps": ["CAP_SYS_ADMIN"]}',
    '"errno": "ENOSYS"',
    '"name": "umount"',
    '"args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ", "more": 1}]',
)
"""What profiles of other engines say in a rule, and a runtime would read past."""


def seccomp_with(words: str) -> str:
    rule = f'{{"names": ["mount"], "action": "SCMP_ACT_ALLOW", {words}}}'
    return f'{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{rule}]}}'


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("process.args", '["a\\u0000b"]'),
        ("process.env", '["A=\\u0000"]'),
        ("process.args", f'["{"x" * 4096}"]'),
        ("process.args", f'["x", "{"x" * 131_072}"]'),
        ("process.cwd", f'"/{"x" * 4095}"'),
        ("linux.maskedPaths", f'["{"x" * 4096}"]'),
        ("linux.sysctl", f'{{"{"x" * 4096}": "1"}}'),
        ("process.args", msgspec.json.encode(["x"] * 117_000).decode()),
        ("process.user", '{"uid": -1}'),
        ("process.user", '{"uid": 4294967296}'),
        ("process.rlimits", '[{"type": "RLIMIT_NOFILE", "hard": "1", "soft": 1}]'),
        ("process.capabilities", '{"bounding": "CAP_KILL"}'),
        ("process.oomScoreAdj", "1001"),
        ("mounts", '[{"destination": "/a", "options": "ro"}]'),
        ("linux.namespaces", '[{"type": "kata"}]'),
        ("linux.resources", '{"memory": {"limit": "1"}}'),
        ("linux.resources", '{"pids": {"limit": 1.5}}'),
        ("linux.sysctl", '{"net.x": 1}'),
        ("linux.seccomp", '{"defaultAction": 1}'),
        *(("linux.seccomp", seccomp_with(rule)) for rule in MEANT_BY_OTHERS),
        ("linux.seccomp", '{"defaultAction": "SCMP_ACT_ERRNO", "archMap": []}'),
        ("linux.seccomp", '{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS"}'),
        ("annotations", '{"a": 1}'),
        ("hooks", '{"prestart": [{"path": "relative"}]}'),
        ("hooks", '{"poststop": [{"path": "/x"}, {"path": "./relative"}]}'),
        ("hooks", '{"prestart": [{"path": ""}]}'),
        ("hooks", '{"prestart": [{}]}'),
        ("process.oomScoreAdj", "1e2"),
        ("process.oomScoreAdj", "100.0"),
        ("linux.resources", '{"memory": {"limit": 18446744073709551616}}'),
        ("linux.resources", '{"cpu": {"shares": -1}}'),
        ("future", "NaN"),
        ("future", '{"\\u0000": 1}'),
        ("future", '"\\\\\\u0000"'),
        ("future", "[" * 64 + "]" * 64),
        ("future", "[" * 500 + "]" * 500),
    ],
)
def test_a_value_that_no_runtime_can_take_is_refused(path: str, value: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        text_spec(with_value(path, value))
    assert caught.value.reason == "INVALID_SPEC"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("process.rlimits", '[{"type": "X", "hard": 18446744073709551615, "soft": 0}]'),
        ("process.user", "null"),
        ("mounts", "null"),
        ("annotations", "null"),
        ("linux.resources", '{"memory": {"limit": -1}, "devices": [{"allow": false}]}'),
        ("linux.intelRdt", '{"closID": "a"}'),
        ("linux.seccomp", seccomp_with('"comment": "why", "includes": {}, "excludes": null')),
        ("future", "[" * 60 + "]" * 60),
        ("future", '"\\\\u0000"'),
        ("future", "18446744073709551616"),
        ("future", "-9223372036854775809"),
        ("future", "9" * 5000),
        ("future", "1e400"),
    ],
)
def test_what_a_runtime_may_take_is_left_to_it(path: str, value: str) -> None:
    spec = adopt(text_spec(with_value(path, value)), "/ours", {}, terminal=False)
    assert msgspec.json.encode(spec)


def test_relative_hooks_of_a_bundle_are_beside_it(bundle: Path) -> None:
    relative = [{"path": "./hook", "args": ["called", "so"]}, {"path": "hook"}, {"path": "/abs"}]
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststop")
    spec = {**SPEC, "hooks": dict.fromkeys(kinds, relative)}
    (bundle / "config.json").write_bytes(msgspec.json.encode(spec))

    def below(directory: str) -> list[dict[str, object]]:
        return [
            {"path": f"{directory}/./hook", "args": ["called", "so"]},
            {"path": f"{directory}/hook", "args": ["hook"]},
            {"path": "/abs"},
        ]

    assert bundle_spec(str(bundle))["hooks"] == {
        **dict.fromkeys(kinds, below(str(bundle))),
        "createContainer": below(f"{bundle}/rootfs"),
        # Those are run inside.
        "startContainer": relative,
    }
    assert has_hooks(spec)
    assert not has_hooks(SPEC)
    assert not has_hooks({**SPEC, "hooks": {"prestart": []}})


def test_a_root_that_is_named_by_nothing_is_the_bundle(bundle: Path) -> None:
    for path in ("", "."):
        spec = {**SPEC, "root": {"path": path}}
        (bundle / "config.json").write_bytes(msgspec.json.encode(spec))
        assert bundle_spec(str(bundle))["root"] == {"path": str(bundle)}


def test_a_link_for_a_root_is_refused_and_one_above_it_resolved(tmp_path: Path) -> None:
    (tmp_path / "real/rootfs").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "linked").symlink_to("real/rootfs")
    spec = text_spec(with_value("root.path", f'"{tmp_path}/link/rootfs"'))
    assert spec["root"] == {"path": f"{tmp_path}/real/rootfs"}
    for path in ("linked", "linked/"):
        with pytest.raises(InvalidArgument) as caught:
            text_spec(with_value("root.path", f'"{tmp_path}/{path}"'))
        assert caught.value.reason == "INVALID_SPEC"


def test_a_text_that_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        text_spec(" " * (2 << 20))
    assert caught.value.reason == "TOO_LARGE"


def test_a_link_to_a_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(bundle)
    for path in (str(link), f"{link}/"):
        with pytest.raises(InvalidArgument) as caught:
            bundle_spec(path)
        assert caught.value.reason == "INVALID_BUNDLE"


def test_a_fifo_for_a_config_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(InvalidArgument) as caught:
        bundle_spec(str(tmp_path))
    assert caught.value.reason == "INVALID_BUNDLE"


def test_a_huge_config_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(200 << 20)
    with pytest.raises(InvalidArgument) as caught:
        bundle_spec(str(tmp_path))
    assert caught.value.reason == "INVALID_BUNDLE"


def test_a_missing_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as caught:
        bundle_spec(str(tmp_path / "none"))
    assert caught.value.violations[0].field == "bundle_path"


def test_only_the_owner_may_read_a_bundle_of_ours(tmp_path: Path) -> None:
    paths = ContainerPaths(str(tmp_path), "c1")
    (tmp_path / "containers").mkdir()
    make_bundle(paths)
    write_spec(paths, SPEC)
    assert os.stat(paths.bundle).st_mode & 0o777 == 0o700
    assert os.stat(paths.spec_file).st_mode & 0o777 == 0o600
    assert msgspec.json.decode(Path(paths.spec_file).read_bytes()) == SPEC


def test_a_namespace_that_is_not_there_is_refused_by_name(bundle: Path) -> None:
    spec = copy.deepcopy(SPEC)
    own = {"type": "uts", "path": "/proc/self/ns/uts"}
    gone = {"type": "network", "path": f"{bundle}/no/such/namespace"}
    spec["linux"] = {"namespaces": [{"type": "mount"}, own]}
    (bundle / "config.json").write_bytes(msgspec.json.encode(spec))
    bundle_spec(str(bundle))
    spec["linux"] = {"namespaces": [own, gone]}
    (bundle / "config.json").write_bytes(msgspec.json.encode(spec))
    with pytest.raises(InvalidArgument) as caught:
        bundle_spec(str(bundle))
    assert caught.value.reason == "NAMESPACE_NOT_FOUND"
    assert caught.value.metadata["path"] == gone["path"]
