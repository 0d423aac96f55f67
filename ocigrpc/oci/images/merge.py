"""What a container runs that is made of an image: the image's config under the container's own.

As docker and CRI mean it: a command replaces entrypoint and cmd, arguments replace cmd alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from ocigrpc.errors import InvalidArgument, Violation
from ocigrpc.oci.images.config import ImageConfig
from ocigrpc.oci.spec.config import ContainerConfig
from ocigrpc.violations import entry_field


def merged(config: ContainerConfig, image: ImageConfig, rootfs_path: str) -> ContainerConfig:
    """A config with a root filesystem, and from the image what it does not set itself.

    Raises ``InvalidArgument`` (REQUIRED) if neither has a program.
    """
    command, args = _program(config, image)
    if not command:
        problem = "is required: the image has no program of its own"
        raise InvalidArgument.of("config.command", problem, reason="REQUIRED")
    return replace(
        config,
        rootfs_path=rootfs_path,
        command=command,
        args=args,
        env={**dict(_variables(image.env)), **config.env},
        working_dir=config.working_dir or _absolute(image.working_dir),
        user=config.user or image.user,
    )


def as_the_images(
    error: InvalidArgument, config: ContainerConfig, image: ImageConfig
) -> InvalidArgument:
    """An error of a merged config, in which what the image says is named as the image's.

    The field of that is ``config.image``, since the request has no other.
    """
    return error.with_violations([_as_the_images(each, config, image) for each in error.violations])


def _as_the_images(wrong: Violation, config: ContainerConfig, image: ImageConfig) -> Violation:
    for field, name in _given(config, image):
        index = wrong.field.removeprefix(field)
        if wrong.field == field or (wrong.field.startswith(field) and index.startswith("[")):
            return Violation("config.image", f"its {name}{index}: {wrong.description}")
    return wrong


def _given(config: ContainerConfig, image: ImageConfig) -> Iterator[tuple[str, str]]:
    """The fields of a merged config that are the image's, with its own names of them."""
    if not config.working_dir:
        yield "config.working_dir", "WorkingDir"
    if not config.user:
        yield "config.user", "User"
    if not config.command and image.entrypoint:
        yield "config.command", "Entrypoint"
    if not config.command and not config.args:
        yield ("config.args" if image.entrypoint else "config.command"), "Cmd"
    for name, _ in _variables(image.env):
        if name not in config.env:
            yield entry_field("config.env", name), entry_field("Env", name)


def _program(
    config: ContainerConfig, image: ImageConfig
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if config.command:
        return config.command, config.args
    args = config.args or image.cmd
    # Without an entrypoint the arguments have the program.
    return (image.entrypoint, args) if image.entrypoint else (args, ())


def _variables(env: Iterable[str]) -> Iterator[tuple[str, str]]:
    for variable in env:
        name, separator, value = variable.partition("=")
        # Without a value it stands for the builder's own, and says nothing here.
        if name and separator:
            yield name, value


def _absolute(path: str) -> str:
    return f"/{path}" if path and not path.startswith("/") else path
