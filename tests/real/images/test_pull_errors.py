"""Pulls that fail: why, and that nothing is left of them."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ocigrpc.errors import InvalidArgument, OcigrpcError, Timeout
from ocigrpc.image_errors import (
    ImageNotFound,
    ImageUnusable,
    RegistryUnauthorized,
    RegistryUnreachable,
    StorageFull,
)
from ocigrpc.v1.image_pb2 import Platform, RegistryAuth
from tests.bed.hosts.leaks import until
from tests.bed.images.faulty_registry import FaultyRegistry, Stall, cut, damaged, status
from tests.bed.images.layers import file
from tests.bed.images.layout import (
    Image,
    Packing,
    digest_of,
    image,
    image_list,
    layer,
    write_layout,
)
from tests.bed.images.pulling import Puller
from tests.bed.images.registry import Registry, free_port
from tests.bed.images.storages import Storage

StartPulling = Callable[..., Puller]

ARM = {"architecture": "arm64", "os": "linux"}
BYTES = bytes(range(256)) * 4096


def refused(puller: Puller, name: str, kind: type[OcigrpcError], **more: object) -> OcigrpcError:
    """The error of a pull that leaves nothing."""
    with pytest.raises(kind) as raised:
        puller.pull(name, **more)  # type: ignore[arg-type]
    assert list(puller.client.list_images()) == []
    assert puller.leaks() == []
    assert puller.storage.layers() == []
    return raised.value


def test_what_a_registry_does_not_have_is_not_found(puller: Puller, registry: Registry) -> None:
    for name in (registry.reference("nothing"), registry.reference("small", "other")):
        expected = {"image": name, "registry": registry.host}
        assert refused(puller, name, ImageNotFound).metadata == expected


def test_a_registry_that_wants_credentials_is_no_other_error(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    name = faulty_registry.push(image([file("a")]), "a")
    faulty_registry.wants_token = True
    for auth in (None, RegistryAuth(username="bob", password="wrong")):
        error = refused(puller, name, RegistryUnauthorized, auth=auth)
        assert error.metadata["registry"] == faulty_registry.host
        assert "wrong" not in str(error.metadata)


def test_a_registry_that_forbids_an_image_refuses_it(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    name = faulty_registry.push(image([file("a")]), "a")
    faulty_registry.goes_wrong(status(403), "/manifests/")
    refused(puller, name, RegistryUnauthorized)


def test_a_registry_that_nobody_serves_is_unreachable(puller: Puller) -> None:
    error = refused(puller, f"127.0.0.1:{free_port()}/a:1", RegistryUnreachable)
    assert error.metadata["cause"] == "connect"


def test_a_registry_with_an_unknown_certificate_is_unreachable(
    puller: Puller, guarded_registry: Registry
) -> None:
    error = refused(puller, guarded_registry.reference("small"), RegistryUnreachable)
    assert error.metadata["cause"] == "tls"


@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
@pytest.mark.parametrize(("code", "cause"), [(429, "rate"), (500, "server"), (503, "server")])
def test_a_registry_that_fails_is_unreachable(
    puller: Puller, faulty_registry: FaultyRegistry, where: str, code: int, cause: str
) -> None:
    name = faulty_registry.push(image([file("a")]), "a")
    faulty_registry.goes_wrong(status(code, Retry_After="0"), where)
    assert refused(puller, name, RegistryUnreachable).metadata["cause"] == cause


def test_a_connection_that_is_cut_is_unreachable(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    made = image([file("whole")], [file("a", BYTES)])
    name = faulty_registry.push(made, "a")
    # A newer skopeo asks for the rest for some time.
    faulty_registry.goes_wrong(cut(1000), made.layers[1].digest)
    assert refused(puller, name, RegistryUnreachable).metadata["cause"] == "cut"


def test_a_layer_that_is_missing_is_not_found(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    made = image([file("whole")], [file("a")])
    name = faulty_registry.push(made, "a")
    faulty_registry.goes_wrong(status(404), made.layers[1].digest)
    refused(puller, name, ImageNotFound)


Break = Callable[[FaultyRegistry, Image], Image]


def _lying_config(registry: FaultyRegistry, made: Image) -> Image:
    return made.lying_config()


def _lying_layer(registry: FaultyRegistry, made: Image) -> Image:
    return made.lying_layer()


def _damaged_layer(registry: FaultyRegistry, made: Image) -> Image:
    registry.goes_wrong(damaged, made.layers[1].digest)
    return made


@pytest.mark.parametrize("break_it", [_lying_config, _lying_layer, _damaged_layer])
def test_what_is_not_what_its_digest_says_is_damaged(
    puller: Puller, faulty_registry: FaultyRegistry, break_it: Break
) -> None:
    made = image([file("whole")], [file("a", BYTES)])
    name = faulty_registry.push(break_it(faulty_registry, made), "a")
    assert refused(puller, name, ImageUnusable).reason == "IMAGE_DAMAGED"


@pytest.mark.parametrize("packing", Packing)
def test_a_layer_that_ends_too_early_for_its_digest_as_well_is_damaged(
    puller: Puller, faulty_registry: FaultyRegistry, packing: Packing
) -> None:
    whole = layer([file("a", os.urandom(1 << 20))], packing)
    half = whole.data[: len(whole.data) // 2]
    made = image([file("whole")], replace(whole, data=half, digest=digest_of(half)))
    name = faulty_registry.push(made, "a")
    assert refused(puller, name, ImageUnusable).reason == "IMAGE_DAMAGED"


def test_a_platform_that_a_list_does_not_have_is_missing(
    puller: Puller, registry: Registry
) -> None:
    made = image_list(image([file("a")]), image([file("b")], platform=ARM))
    name = registry.push(made, "platforms")
    error = refused(puller, name, ImageUnusable, platform=Platform(architecture="s390x"))
    assert (error.reason, error.metadata["platform"]) == ("IMAGE_PLATFORM_MISSING", "linux/s390x")


@pytest.mark.parametrize("platform", [None, Platform(architecture="s390x")])
def test_an_image_alone_is_for_its_platform_only(
    puller: Puller, registry: Registry, platform: Platform | None
) -> None:
    name = registry.push(image([file("b")], platform=ARM), "arm")
    error = refused(puller, name, ImageUnusable, platform=platform)
    assert error.reason == "IMAGE_PLATFORM_MISSING"


def test_a_policy_denies_images(
    start_pulling: StartPulling, registry: Registry, small: str, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "reject"}]}')
    puller = start_pulling(images_policy=policy)
    assert refused(puller, small, ImageUnusable).reason == "IMAGE_DENIED_BY_POLICY"


def test_an_image_that_is_there_is_no_way_round_the_policy_of_another_repository(
    start_pulling: StartPulling,
    registry: Registry,
    small: str,
    small_image: Image,
    tmp_path: Path,
) -> None:
    policy = tmp_path / "policy.json"
    denied = registry.push(small_image, "denied")
    rejected = {"docker": {denied.rpartition(":")[0]: [{"type": "reject"}]}}
    accepted = [{"type": "insecureAcceptAnything"}]
    policy.write_text(json.dumps({"default": accepted, "transports": rejected}))
    puller = start_pulling(images_policy=policy)
    puller.pull(small)
    with pytest.raises(ImageUnusable):
        puller.pull(denied)
    assert list(puller.storage.names()) == [small]


def test_registries_conf_blocks_registries(start_pulling: StartPulling) -> None:
    puller = start_pulling('[[registry]]\nlocation = "blocked.example"\nblocked = true\n')
    error = refused(puller, "blocked.example/a", ImageUnusable)
    assert error.reason == "IMAGE_DENIED_BY_POLICY"


def test_a_registry_that_stalls_is_given_up(
    start_pulling: StartPulling, faulty_registry: FaultyRegistry
) -> None:
    puller = start_pulling(images_stall_timeout_s=1)
    made = image([file("whole")], [file("a", BYTES)])
    name = faulty_registry.push(made, "a")
    stall = Stall(after_bytes=1000)
    faulty_registry.goes_wrong(stall, made.layers[1].digest)
    error = refused(puller, name, Timeout)
    assert (error.reason, error.metadata["stall_timeout_s"]) == ("PULL_STALLED", "1")
    assert int(error.metadata["received_bytes"]) > 0
    faulty_registry.goes_well()
    assert puller.pull(name).image_id == made.image_id


@pytest.mark.parametrize(
    "name", ["Upper/a", "oci:./relative", "r.io/a:", "containers-storage:/a", "a\nb"]
)
def test_what_is_no_name_is_refused(puller: Puller, name: str) -> None:
    error = refused(puller, name, InvalidArgument)
    assert (error.reason, error.metadata["field"]) == ("INVALID_IMAGE_NAME", "image")


@pytest.mark.parametrize("transport", ["oci", "oci-archive", "docker-archive", "dir"])
@pytest.mark.parametrize("what", ["missing", "empty", "directory"])
def test_what_is_no_archive_can_not_be_read(
    puller: Puller, tmp_path: Path, transport: str, what: str
) -> None:
    path = tmp_path / "source"
    if what == "empty":
        path.write_bytes(b"")
    elif what == "directory":
        path.mkdir()
    error = refused(puller, f"{transport}:{path}", InvalidArgument)
    assert (error.reason, error.metadata["path"]) == ("SOURCE_UNREADABLE", str(path))


def test_a_layout_without_the_tag_can_not_be_read(puller: Puller, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", {"a": image([file("a")])})
    error = refused(puller, f"oci:{layout}:b", InvalidArgument)
    assert error.reason == "SOURCE_UNREADABLE"


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A directory with room for the small image, and not for more."""
    with tempfile.TemporaryDirectory(prefix="ocigrpc-disk-", dir="/var/tmp") as directory:
        mount = ("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", directory)
        subprocess.run(mount, check=True)
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True)


def test_a_disk_that_is_full_is_no_other_error_and_has_room_again(
    start_pulling: StartPulling, registry: Registry, small: str, small_disk: Path
) -> None:
    large = registry.push(image([file("a", os.urandom(10 << 20))]), "large")
    puller = start_pulling(images_root=small_disk / "root", images_run=small_disk / "run")
    free = os.statvfs(small_disk).f_bavail
    with pytest.raises(StorageFull):
        puller.pull(large)
    storage = Storage(small_disk / "root", small_disk / "run")
    until(lambda: storage.layers() == [] and storage.leaks() == [])
    assert os.statvfs(small_disk).f_bavail > free * 0.9
    puller.pull(small)
    puller.service.end()
