"""Whatever layers have, a container sees it as it was packed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.v1.config_pb2 import ContainerConfig
from tests.bed.images.containers import create_of, left_by, output_of, roots_of, stock, storage_of
from tests.bed.images.layers import (
    character_device,
    directory,
    fifo,
    file,
    file_capabilities,
    hard_link,
    opaque,
    sparse,
    symlink,
    tree,
    whiteout,
)
from tests.bed.images.layout import Image, image
from tests.bed.services.service import Service
from tests.real.conftest import each_runtime

pytestmark = each_runtime

TREES = "localhost/trees:1"
DEEP = "localhost/deep:1"
_CAP_NET_RAW = 13
_SPARSE_BYTES = 32 << 20


@pytest.fixture(scope="module")
def trees(rootfs: Path) -> Image:
    lower = [
        directory("gone"),
        file("gone/file"),
        directory("opaque"),
        file("opaque/below"),
        file("removed", b"x"),
        file("changed", b"lower"),
        file("one", b"same"),
        hard_link("two", "one"),
        file("set-user-id", b"", 0o4755, owner=(1001, 1002)),
        file("capable", b"", 0o755, xattrs=file_capabilities(_CAP_NET_RAW)),
        file("noted", b"", xattrs={"user.note": b"kept"}),
        character_device("null", 1, 3),
        fifo("fifo"),
        symlink("out", "/../../../../etc/passwd"),
        sparse("sparse", _SPARSE_BYTES, (0, b"begin"), (_SPARSE_BYTES - 3, b"end")),
    ]
    upper = [whiteout("gone"), whiteout("removed"), *opaque("opaque"), file("opaque/above")]
    return image(tree(rootfs), lower, [*upper, file("changed", b"upper")])


@pytest.fixture
def images(any_service: Service, trees: Image, rootfs: Path, tmp_path: Path) -> Iterator[Service]:
    if not storage_of(any_service).images():
        numbers = [[file(f"layer-{number}")] for number in range(126)]
        stock(any_service, tmp_path, trees=trees, deep=image(tree(rootfs), *numbers))
    yield any_service
    any_service.remove_all()
    assert left_by(any_service) == []


def test_layers_hide_and_replace_what_is_below_them(images: Service) -> None:
    script = "ls -d /gone /removed; ls /opaque; cat /changed"
    lines = output_of(images, TREES, "/bin/sh", "-c", script)
    assert lines == ["above", "upper"]


def test_files_are_what_they_were_packed_as(images: Service) -> None:
    create_of(images, TREES, "/bin/true")
    [root] = roots_of(images)
    merged = root / "merged"
    assert (merged / "one").stat().st_ino == (merged / "two").stat().st_ino
    owned = (merged / "set-user-id").stat()
    assert (owned.st_mode & 0o7777, owned.st_uid, owned.st_gid) == (0o4755, 1001, 1002)
    attribute = file_capabilities(_CAP_NET_RAW)["security.capability"]
    assert os.getxattr(merged / "capable", "security.capability") == attribute
    assert os.getxattr(merged / "noted", "user.note") == b"kept"
    assert (merged / "null").stat().st_rdev == os.makedev(1, 3)
    assert (merged / "fifo").is_fifo()
    # containers/storage does not keep the holes.
    assert (merged / "sparse").stat().st_size == _SPARSE_BYTES
    with (merged / "sparse").open("rb") as content:
        assert content.read(5) == b"begin"
        content.seek(-3, os.SEEK_END)
        assert content.read() == b"end"


def test_a_link_that_leads_out_leads_to_the_containers_own_root(images: Service) -> None:
    [line] = output_of(images, TREES, "/bin/grep", "alice", "/out")
    assert line.startswith("alice:")
    # Nor does a directory to start in, or a mount, lead out of it.
    config = ContainerConfig(working_dir="/../../srv")
    assert output_of(images, TREES, "/bin/pwd", config=config) == ["/srv"]


def test_127_layers_are_seen(images: Service) -> None:
    lines = output_of(images, DEEP, "/bin/sh", "-c", "ls / | grep -c layer-")
    assert lines == ["126"]


def test_a_tree_of_any_depth_that_a_container_made_is_removed(images: Service) -> None:
    script = "cd /tmp; for i in $(seq 600); do mkdir d && cd -P d || exit 1; done; touch end"
    assert output_of(images, TREES, "/bin/sh", "-c", script) == []
