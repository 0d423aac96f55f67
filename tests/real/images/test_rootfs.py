"""Containers that are made of images: what they see, what they write, and what they leave."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.errors import InvalidArgument, OcigrpcError
from ocigrpc.image_errors import ImageNotFound
from ocigrpc.v1.config_pb2 import ContainerConfig
from tests.bed.hosts.leaks import until
from tests.bed.images.containers import create_of, left_by, output_of, roots_of, stock, storage_of
from tests.bed.images.layers import directory, file, tree
from tests.bed.images.layout import Image, image
from tests.bed.services.service import Service
from tests.real.conftest import each_runtime

pytestmark = each_runtime

SMALL = "localhost/small:1"
NAKED = "localhost/naked:1"
EMPTY = "localhost/empty:1"
GONE = "localhost/gone:1"


@pytest.fixture(scope="module")
def naked_image(rootfs: Path) -> Image:
    """One that has busybox and none of the directories that a runtime mounts something at."""
    busybox = (rootfs / "bin/busybox").read_bytes()
    return image([directory("bin"), file("bin/busybox", busybox, 0o755)])


@pytest.fixture(scope="module")
def gone_image(rootfs: Path) -> Image:
    """One that has a file more than the others, and that one test removes."""
    return image(tree(rootfs), [file("more")])


@pytest.fixture
def images(
    any_service: Service,
    small_image: Image,
    naked_image: Image,
    gone_image: Image,
    tmp_path: Path,
) -> Iterator[Service]:
    """A service that has images, and in the end no root filesystem."""
    if not storage_of(any_service).images():
        made = {"small": small_image, "naked": naked_image, "gone": gone_image, "empty": image()}
        stock(any_service, tmp_path, **made)
    yield any_service
    any_service.remove_all()
    assert left_by(any_service) == []


def test_a_container_of_an_image_lives_and_leaves_nothing(
    images: Service, small_image: Image
) -> None:
    script = "echo hello > /new; cat /new"
    container_id = create_of(images, SMALL, "/bin/sh", "-c", script, name="made")
    images.start_container(container_id)
    status = images.status(container_id)
    assert (status.image_id, status.image_name) == (small_image.image_id, SMALL)
    [listed] = images.containers()
    assert (listed.image_id, listed.image_name) == (small_image.image_id, SMALL)
    assert images.wait(container_id).exit_code == 0
    assert images.output(container_id) == ["hello"]
    # What it has written is there until it is removed.
    [root] = roots_of(images)
    assert (root / "merged/new").read_text() == "hello\n"
    images.remove(container_id)
    assert left_by(images) == []


def test_containers_of_one_image_see_nothing_of_each_other(images: Service) -> None:
    script = "ls /tmp /etc; rm /etc/passwd; echo mine > /tmp/mine"
    first = output_of(images, SMALL, "/bin/sh", "-c", script)
    assert first == output_of(images, SMALL, "/bin/sh", "-c", script)
    assert "passwd" in first


def test_a_read_only_root_has_nothing_that_could_be_written_to(images: Service) -> None:
    config = ContainerConfig(readonly_rootfs=True)
    container_id = create_of(images, SMALL, "/bin/touch", "/new", config=config)
    images.start_container(container_id)
    assert images.wait(container_id).exit_code == 1
    [root] = roots_of(images)
    mounts = Path(f"/proc/{images.pid}/mountinfo").read_text().splitlines()
    [line] = [each for each in mounts if f"/{root.name}/merged " in each]
    assert "upperdir" not in line
    with pytest.raises(OSError, match="Read-only"):
        (root / "merged/new").touch()
    assert "Read-only" in images.output(container_id, "stderr")[0]


@pytest.mark.parametrize("is_readonly", [False, True])
def test_mount_points_and_the_working_directory_are_made(
    images: Service, tmp_path: Path, is_readonly: bool
) -> None:
    (tmp_path / "file").write_text("of the host\n")
    config = ContainerConfig(readonly_rootfs=is_readonly, working_dir="/srv/deep/er")
    config.mounts.add(container_path="/etc/of/host", host_path=str(tmp_path / "file"))
    config.mounts.add(container_path="/data", host_path=str(tmp_path))
    command = ["/bin/busybox", "sh", "-c", "pwd; cat /etc/of/host /data/file; ls -ld /srv/deep"]
    *lines, listed = output_of(images, NAKED, *command, config=config)
    assert lines == ["/srv/deep/er", "of the host", "of the host"]
    assert listed.split()[:1] + listed.split()[2:4] == ["drwxr-xr-x", "root", "root"] or (
        listed.split()[2:4] == ["0", "0"]
    )


@pytest.mark.parametrize("is_readonly", [False, True])
def test_an_image_without_layers_is_an_empty_root(
    images: Service, rootfs: Path, is_readonly: bool
) -> None:
    config = ContainerConfig(readonly_rootfs=is_readonly)
    config.mounts.add(container_path="/host", host_path=str(rootfs), readonly=True)
    lines = output_of(images, EMPTY, "/host/bin/busybox", "ls", "/", config=config)
    assert lines == ["dev", "host", "proc", "sys"]


def test_a_container_is_removed_whose_files_are_busy(images: Service) -> None:
    container_id = create_of(images, SMALL, "/bin/sleep", "1000")
    images.start_container(container_id)
    [root] = roots_of(images)
    with (root / "merged/etc/passwd").open() as file, (root / "upper/new").open("w"):
        images.remove(container_id, force=True)
        assert left_by(images) == []
        assert "alice" in file.read()


def test_an_image_is_asked_for_by_its_id_too(images: Service, small_image: Image) -> None:
    for text in (small_image.image_id, f"sha256:{small_image.image_id}", "small:1"):
        container_id = create_of(images, text, "/bin/true")
        assert images.status(container_id).image_name == SMALL


def test_what_can_not_be_made_is_refused_and_leaves_nothing(images: Service) -> None:
    with pytest.raises(ImageNotFound) as missing:
        create_of(images, "localhost/missing:1", "/bin/true")
    assert missing.value.metadata["image"] == "localhost/missing:1"
    for config, field, reason in [
        (ContainerConfig(image="A b"), "config.image", "INVALID_IMAGE_NAME"),
        (ContainerConfig(rootfs_path="/r"), "config.image", "CONFLICT"),
        (ContainerConfig(user="nobody-here"), "config.user", "USER_NOT_FOUND"),
        (ContainerConfig(working_dir="relative"), "config.working_dir", "PATH_NOT_ABSOLUTE"),
    ]:
        with pytest.raises(InvalidArgument) as refused:
            create_of(images, SMALL, "/bin/true", config=config)
        assert (refused.value.metadata["field"], refused.value.reason) == (field, reason)
    with pytest.raises(InvalidArgument) as nothing:
        create_of(images, NAKED)
    assert (nothing.value.metadata["field"], nothing.value.reason) == ("config.command", "REQUIRED")
    with pytest.raises(OcigrpcError):
        create_of(images, SMALL, "/bin/not-there")
    assert left_by(images) == []


def test_a_repeated_create_is_lent_one_root(images: Service) -> None:
    ids = [create_of(images, SMALL, "/bin/true", container_id="same") for _ in range(2)]
    assert ids == ["same", "same"]
    assert len(roots_of(images)) == 1


def test_of_creates_at_once_one_is_lent_a_root(images: Service) -> None:
    ids = list[str]()

    def create() -> None:
        ids.append(create_of(images, SMALL, "/bin/true", container_id="same"))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert ids == ["same"] * 8
    assert len(roots_of(images)) == 1


@pytest.mark.parametrize("name", ["upper/tmp", "merged/tmp"])
def test_a_mount_below_it_keeps_a_container_from_being_ended_and_removed(
    images: Service, name: str
) -> None:
    container_id = create_of(images, SMALL, "/bin/sleep", "1000")
    images.start_container(container_id)
    [root] = roots_of(images)
    (root / name).mkdir(exist_ok=True)
    place = str(images.directory / "root/rootfs" / root.name / name)
    on_host = ("nsenter", "--mount", f"--target={images.pid}")
    subprocess.run([*on_host, "mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        with pytest.raises(OcigrpcError) as refused:
            images.remove(container_id, force=True)
        assert refused.value.reason == "MOUNT_IN_THE_WAY"
        assert refused.value.metadata["path"] == place
        assert images.state(container_id) == "running"
    finally:
        subprocess.run([*on_host, "umount", place], check=True)
    images.remove(container_id, force=True)


def test_an_image_in_use_loses_its_name_at_once_and_goes_with_its_last_container(
    images: Service, gone_image: Image
) -> None:
    first, second = (create_of(images, GONE, "/bin/busybox", "sleep", "9") for _ in range(2))
    removed = images.client.remove_image(GONE)
    assert (list(removed.untagged), removed.image_id) == ([GONE], gone_image.image_id)
    assert sorted(removed.container_ids) == sorted((first, second))
    with pytest.raises(ImageNotFound):
        create_of(images, GONE, "/bin/true")
    images.start_container(first)
    images.remove(first, force=True)
    ids = [each["id"] for each in storage_of(images).images()]
    assert gone_image.image_id in ids
    images.remove(second)
    ids.remove(gone_image.image_id)
    # Nobody waits for its end, and nobody sees it any more.
    assert sorted(each.image_id for each in images.client.list_images()) == sorted(ids)
    until(lambda: left_by(images) == [])
    assert [each["id"] for each in storage_of(images).images()] == ids
