"""What an image says of its program holds, unless the container's config says otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.errors import InvalidArgument
from ocigrpc.v1.config_pb2 import ContainerConfig, Mount
from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.images.containers import create_of, left_by, output_of, roots_of, stock, storage_of
from tests.bed.images.layers import symlink
from tests.bed.images.layout import Image, image
from tests.bed.services.service import Service
from tests.real.conftest import each_runtime

pytestmark = each_runtime

FULL = "localhost/full:1"
CMD = "localhost/cmd:1"
WRONG = "localhost/wrong:1"
LINKS = "localhost/links:1"
UNENTERABLE = "localhost/unenterable:1"
# A name that no file has.
LONG = "/" + "a" * 256


@pytest.fixture
def images(any_service: Service, small_image: Image, tmp_path: Path) -> Iterator[Service]:
    """A service with images of one layer, whose configs differ."""
    if not storage_of(any_service).images():
        full = {
            "Entrypoint": ["/bin/sh", "-c"],
            "Cmd": ["pwd; id -u; id -g; echo $COLOR $MODE $PATH"],
            "Env": ["PATH=/bin", "COLOR=red", "MODE=a=b", "UNSET"],
            "WorkingDir": "srv/app",
            "User": "alice",
            "StopSignal": "SIGQUIT",
            "Labels": {"of": "the image"},
            "Volumes": {"/data": {}},
            "ExposedPorts": {"80/tcp": {}},
        }
        made = {
            "full": image(*small_image.layers, config=full),
            "cmd": image(*small_image.layers, config={"Cmd": ["/bin/echo", "cmd"]}),
            "wrong": image(
                *small_image.layers,
                config={"Cmd": ["/bin/true"], "User": "nobody-here", "StopSignal": "SIGNONE"},
            ),
            "unenterable": image(
                *small_image.layers, config={"Cmd": ["/bin/true"], "WorkingDir": LONG}
            ),
            "links": image(
                *small_image.layers,
                [symlink("circle", "circle"), symlink("long", f"/new{LONG}")],
                config={"Cmd": ["/bin/true"]},
            ),
        }
        stock(any_service, tmp_path, **made)
    yield any_service
    any_service.remove_all()
    assert left_by(any_service) == []


def test_all_is_the_images(images: Service) -> None:
    assert output_of(images, FULL) == ["/srv/app", "1001", "1002", "red a=b /bin"]
    assert output_of(images, CMD) == ["cmd"]


def test_a_command_replaces_the_images_program_and_arguments_its_arguments(
    images: Service,
) -> None:
    assert output_of(images, CMD, "/bin/echo", "mine") == ["mine"]
    assert output_of(images, CMD, config=ContainerConfig(args=["/bin/echo", "x"])) == ["x"]
    assert output_of(images, FULL, config=ContainerConfig(args=["echo $COLOR"])) == ["red"]


def test_the_config_is_stronger_than_the_image(images: Service) -> None:
    config = ContainerConfig(working_dir="/tmp", user="0", env={"COLOR": "blue", "PATH": "/bin:/x"})
    assert output_of(images, FULL, config=config) == ["/tmp", "0", "0", "blue a=b /bin:/x"]


def test_a_container_has_neither_labels_nor_mounts_of_the_image(images: Service) -> None:
    container_id = create_of(images, FULL)
    assert dict(images.status(container_id).labels) == {}
    spec = images.client.container_status(container_id).spec
    assert "/data" not in [each.container_path for each in spec.mounts]


def test_the_stop_signal_is_the_images(images: Service) -> None:
    script = "trap 'exit 7' QUIT; trap 'exit 8' TERM; echo ready; while :; do sleep 0.05; done"
    for signal, exit_code in (("", 7), ("SIGTERM", 8)):
        config = ContainerConfig(image=FULL, command=["/bin/sh", "-c", script])
        request = CreateContainerRequest(config=config, stop_signal=signal)
        container_id = images.client.create_container(request).container_id
        images.start_container(container_id)
        for line in images.client.container_logs(container_id, follow=True):
            assert line
            break
        images.stop(container_id, 20)
        assert images.wait(container_id).exit_code == exit_code


def test_what_an_image_says_wrong_is_refused_as_the_images(images: Service) -> None:
    for config, name, reason in [
        (ContainerConfig(), "User", "USER_NOT_FOUND"),
        (ContainerConfig(user="0"), "StopSignal", "INVALID_SIGNAL"),
    ]:
        with pytest.raises(InvalidArgument) as refused:
            create_of(images, WRONG, config=config)
        assert (refused.value.metadata["field"], refused.value.reason) == ("config.image", reason)
        assert f"config.image: its {name}: " in refused.value.message


def test_what_the_config_says_wrong_is_refused_as_its_own(images: Service) -> None:
    with pytest.raises(InvalidArgument) as refused:
        create_of(images, FULL, config=ContainerConfig(user="nobody-here"))
    assert refused.value.metadata["field"] == "config.user"


@pytest.mark.parametrize(
    ("config", "field", "reason"),
    [
        (ContainerConfig(image=CMD, working_dir=LONG), "config.working_dir", "TOO_LONG"),
        (
            ContainerConfig(image=CMD, mounts=[Mount(type="tmpfs", container_path=f"/b{LONG}")]),
            "config.mounts[0].container_path",
            "TOO_LONG",
        ),
        (ContainerConfig(image=UNENTERABLE), "config.image", "TOO_LONG"),
        (ContainerConfig(image=LINKS, working_dir="/circle/a"), "config.image", "MALFORMED"),
        (ContainerConfig(image=LINKS, working_dir="/long/a"), "config.image", "TOO_LONG"),
        (
            ContainerConfig(image=LINKS, mounts=[Mount(type="tmpfs", container_path="/circle/a")]),
            # Where the accounts are is not known then either.
            "config.image",
            "ACCOUNTS_UNREADABLE",
        ),
    ],
)
def test_a_path_that_can_not_be_reached_in_an_image_is_refused(
    images: Service, config: ContainerConfig, field: str, reason: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        images.client.create_container(CreateContainerRequest(config=config))
    assert (refused.value.metadata["field"], refused.value.reason) == (field, reason)
    assert roots_of(images) == []


def test_a_repeated_create_is_the_same_when_the_name_has_moved(images: Service) -> None:
    first = create_of(images, CMD, container_id="same")
    image_id = images.status(first).image_id
    images.client.tag_image("localhost/full:1", CMD)
    try:
        assert create_of(images, CMD, container_id="same") == first
        assert images.status(first).image_id == image_id
    finally:
        images.client.tag_image(image_id, CMD)
