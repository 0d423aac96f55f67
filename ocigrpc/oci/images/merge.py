"""What a container runs that is made of an image: the image's config under the container's own.

As docker and CRI mean it: a command replaces entrypoint and cmd, arguments replace cmd alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from ocigrpc.errors import InvalidArgument
from ocigrpc.oci.images.config import ImageConfig
from ocigrpc.oci.spec.config import ContainerConfig


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
