"""A container's config over its image's."""

from __future__ import annotations

import pytest

from ocigrpc.errors import InvalidArgument
from ocigrpc.oci.images.config import ImageConfig
from ocigrpc.oci.images.merge import as_the_images, merged
from ocigrpc.oci.spec.config import ContainerConfig

IMAGE = ImageConfig(
    entrypoint=("/entry", "-e"),
    cmd=("cmd",),
    env=("PATH=/image", "MODE=a=b", "BUILDER"),
    working_dir="srv",
    user="web",
)
NOTHING = ContainerConfig(rootfs_path="")


def argv(config: ContainerConfig, image: ImageConfig = IMAGE) -> tuple[str, ...]:
    found = merged(config, image, "/root")
    return (*found.command, *found.args)


def test_a_command_replaces_the_images_and_arguments_its_arguments() -> None:
    assert argv(NOTHING) == ("/entry", "-e", "cmd")
    assert argv(ContainerConfig("", args=("x",))) == ("/entry", "-e", "x")
    assert argv(ContainerConfig("", command=("/mine",))) == ("/mine",)
    assert argv(ContainerConfig("", command=("/mine",), args=("x",))) == ("/mine", "x")
    assert argv(NOTHING, ImageConfig(cmd=("/bin/sh",))) == ("/bin/sh",)


def test_without_any_program_the_command_is_required() -> None:
    with pytest.raises(InvalidArgument) as refused:
        argv(NOTHING, ImageConfig(env=("A=1",)))
    assert (refused.value.reason, refused.value.metadata["field"]) == ("REQUIRED", "config.command")


def test_the_rest_is_the_images_unless_the_config_has_it() -> None:
    plain = merged(NOTHING, IMAGE, "/root")
    assert plain.env == {"PATH": "/image", "MODE": "a=b"}
    assert (plain.rootfs_path, plain.working_dir, plain.user) == ("/root", "/srv", "web")
    own = ContainerConfig("", env={"PATH": "/own", "X": ""}, working_dir="/", user="0")
    found = merged(own, IMAGE, "/root")
    assert found.env == {"PATH": "/own", "MODE": "a=b", "X": ""}
    assert (found.working_dir, found.user) == ("/", "0")


@pytest.mark.parametrize(
    ("config", "image", "field", "named"),
    [
        (NOTHING, IMAGE, "config.user", "its User: "),
        (NOTHING, IMAGE, "config.working_dir", "its WorkingDir: "),
        (NOTHING, IMAGE, 'config.env["MODE"]', 'its Env["MODE"]: '),
        (NOTHING, IMAGE, "config.command[1]", "its Entrypoint[1]: "),
        (NOTHING, IMAGE, "config.args[0]", "its Cmd[0]: "),
        (NOTHING, ImageConfig(cmd=("",)), "config.command[0]", "its Cmd[0]: "),
        (ContainerConfig("", user="1"), IMAGE, "config.user", ""),
        (ContainerConfig("", env={"MODE": ""}), IMAGE, 'config.env["MODE"]', ""),
        (ContainerConfig("", args=("x",)), IMAGE, "config.args[0]", ""),
        (ContainerConfig("", command=("x",)), IMAGE, "config.command[0]", ""),
        (NOTHING, IMAGE, "config.mounts[0].host_path", ""),
        (NOTHING, IMAGE, "config.username", ""),
    ],
)
def test_a_mistake_of_the_image_is_named_as_the_images(
    config: ContainerConfig, image: ImageConfig, field: str, named: str
) -> None:
    own = InvalidArgument.of("config.hostname", "is none", reason="MALFORMED")
    wrong = InvalidArgument.of(field, "is wrong", reason="NUL_BYTE", other="kept")
    error = as_the_images(InvalidArgument.joined([wrong, own]), config, image)
    place = "config.image" if named else field
    assert error.violations == [(place, f"{named}is wrong"), ("config.hostname", "is none")]
    assert (error.reason, error.message) == ("NUL_BYTE", f"{place}: {named}is wrong")
    assert error.metadata == {"field": place, "other": "kept"}
