"""Mounts: how the config's own join the default ones, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins

from ocigrpc.errors import InvalidArgument
from ocigrpc.oci.spec.config import (
    ContainerConfig,
    Mount,
    NamespaceMode,
    NamespaceType,
    Propagation,
)
from ocigrpc.oci.spec.mounts import DEFAULT_MOUNTS, merge_mounts, mounts_of
from ocigrpc.oci.spec.namespaces import Namespaces
from ocigrpc.oci.spec.types import SpecMount
from ocigrpc.violations import Violations

DEFAULT_DESTINATIONS = [mount.destination for mount in DEFAULT_MOUNTS]

steps = st.sampled_from(["a", "b", "dev", "shm", "sys", "proc"])
destinations = st.lists(steps, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
own_mounts = st.lists(
    destinations.map(lambda destination: SpecMount(destination, "tmpfs", "own")),
    unique_by=lambda mount: mount.destination,
)


def built(*mounts: Mount, namespaces: Namespaces | None = None) -> list[Any]:
    violations = Violations()
    config = ContainerConfig("/", mounts=mounts)
    found, _ = mounts_of(config, namespaces or Namespaces(), violations)
    violations.raise_any()
    return [to_builtins(mount) for mount in found]


@given(own_mounts)
def test_each_destination_is_mounted_once_and_the_configs_own_wins(own: list[SpecMount]) -> None:
    merged = merge_mounts(DEFAULT_MOUNTS, own)
    places = [mount.destination for mount in merged]
    assert sorted(places) == sorted({*DEFAULT_DESTINATIONS, *(m.destination for m in own)})
    assert all(mount in merged for mount in own)


@given(own_mounts)
def test_defaults_keep_their_places(own: list[SpecMount]) -> None:
    merged = merge_mounts(DEFAULT_MOUNTS, own)
    assert [mount.destination for mount in merged[: len(DEFAULT_MOUNTS)]] == DEFAULT_DESTINATIONS


@given(own_mounts)
def test_no_own_mount_hides_another(own: list[SpecMount]) -> None:
    places = [m.destination for m in merge_mounts(DEFAULT_MOUNTS, own)][len(DEFAULT_MOUNTS) :]
    for later, place in enumerate(places):
        assert not any(earlier.startswith(f"{place}/") for earlier in places[:later])


def test_a_bind_is_recursive_private_and_writable(tmp_path: Path) -> None:
    assert built(Mount("/data", str(tmp_path)))[-1] == {
        "destination": "/data",
        "type": "bind",
        "source": str(tmp_path),
        "options": ["rbind", "rprivate", "rw"],
    }


def test_further_options_come_last(tmp_path: Path) -> None:
    mount = built(Mount("/data", str(tmp_path), readonly=True, options=("nosuid", "nodev")))[-1]
    assert mount["options"] == ["rbind", "rprivate", "ro", "nosuid", "nodev"]


def test_another_types_source_is_its_name_by_default() -> None:
    mount = built(Mount("/data", type="tmpfs", options=("size=64m",)))[-1]
    assert mount == {
        "destination": "/data",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["rw", "size=64m"],
    }


@pytest.mark.parametrize("path", ["/dev/shm/", "//dev/shm", "/dev/./shm", "/x/../dev/shm"])
def test_a_destination_is_the_same_however_it_is_written(path: str) -> None:
    places = [mount["destination"] for mount in built(Mount(path, type="tmpfs"))]
    assert places == DEFAULT_DESTINATIONS


def test_the_hosts_ipc_namespace_comes_with_its_shared_memory() -> None:
    host = Namespaces({NamespaceType.IPC: NamespaceMode.HOST})
    (shm,) = [m for m in built(namespaces=host) if m["destination"] == "/dev/shm"]
    assert (shm["type"], shm["source"]) == ("bind", "/dev/shm")


@pytest.mark.parametrize(
    ("field", "reason", "mount"),
    [
        ("container_path", "REQUIRED", Mount("", type="tmpfs")),
        ("container_path", "PATH_NOT_ABSOLUTE", Mount("data", type="tmpfs")),
        ("container_path", "PATH_IS_ROOT", Mount("/data/..", type="tmpfs")),
        ("container_path", "NUL_BYTE", Mount("/\0", type="tmpfs")),
        ("host_path", "REQUIRED", Mount("/data")),
        ("host_path", "PATH_NOT_ABSOLUTE", Mount("/data", "etc")),
        ("host_path", "HOST_PATH_NOT_FOUND", Mount("/data", "/nowhere/at/all")),
        ("host_path", "NUL_BYTE", Mount("/data", "a\0", type="tmpfs")),
        ("type", "MALFORMED", Mount("/data", type="tmp fs")),
        ("options[1]", "MALFORMED", Mount("/data", type="tmpfs", options=("ro", "a,b"))),
        ("options[0]", "MALFORMED", Mount("/data", type="tmpfs", options=("",))),
        ("options[0]", "NUL_BYTE", Mount("/data", type="tmpfs", options=("\0",))),
        (
            "propagation",
            "NOT_APPLICABLE",
            Mount("/data", type="tmpfs", propagation=Propagation.BIDIRECTIONAL),
        ),
    ],
)
def test_a_wrong_mount_is_refused(field: str, reason: str, mount: Mount) -> None:
    with pytest.raises(InvalidArgument) as caught:
        built(Mount("/good", type="tmpfs"), mount)
    assert caught.value.reason == reason
    assert [each.field for each in caught.value.violations] == [f"config.mounts[1].{field}"]


def test_a_destination_that_comes_twice_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        built(Mount("/data", type="tmpfs"), Mount("/data/", type="tmpfs"))
    assert caught.value.reason == "DUPLICATE"
    assert caught.value.violations[0].field == "config.mounts[1].container_path"


@pytest.mark.parametrize("propagation", [Propagation.BIDIRECTIONAL, Propagation.HOST_TO_CONTAINER])
def test_mounts_can_not_travel_from_a_mount_that_is_private(propagation: Propagation) -> None:
    # The kernel never shares what is mounted on /proc/sys or below in a container, nor
    # the mount of an anonymous file such as this namespace.
    with pytest.raises(InvalidArgument) as caught:
        built(Mount("/data", "/proc/self/ns/mnt", propagation=propagation))
    assert caught.value.reason == "MOUNT_NOT_SHARED"
    assert caught.value.violations[0].field == "config.mounts[0].propagation"
