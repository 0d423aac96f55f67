"""The command ``pull``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ocigrpc.cli.images.auth import auth_of
from ocigrpc.cli.images.bars import shown_progress
from ocigrpc.cli.images.image_names import IMAGE
from ocigrpc.cli.in_turn import in_turn
from ocigrpc.cli.session import with_client

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.client.stream import Stream
    from ocigrpc.v1.image_pb2 import Platform, PullImageResponse


class PlatformName(click.ParamType["Platform"]):
    """The type of an option that names a platform."""

    name = "platform"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Platform:
        """The platform. Raises a usage error."""
        # Imported here, since it loads protobuf.
        from ocigrpc.v1.image_pb2 import Platform

        parts = str(value).split("/")
        if not 2 <= len(parts) <= 3 or not all(parts):
            self.fail(f"{value!r} is no platform, such as linux/arm64 or linux/arm/v7.", param, ctx)
        return Platform(**dict(zip(("os", "architecture", "variant"), parts, strict=False)))


platform_option = click.option(
    "--platform",
    type=PlatformName(),
    metavar="OS/ARCH[/VARIANT]",
    help="Of several images with the name, the one for this; default: for the service's node.",
)
"""The option that chooses among the images that a name stands for."""


@click.command("pull")
@click.argument("images", nargs=-1, required=True, type=IMAGE, metavar="IMAGE...")
@platform_option
@click.option(
    "--creds",
    metavar="USER[:PASSWORD]",
    help="For the registry; without a password, it is asked for on the terminal.",
)
@click.option(
    "--authfile",
    type=click.Path(exists=True, dir_okay=False),
    help="A file with logins, as podman and docker write it. Default: $REGISTRY_AUTH_FILE, else the"
    " one that they would use, unless the service is at HOST:PORT; else the service's own.",
)
@click.option("--name", default="", help="What an IMAGE from an archive or a directory is called.")
@click.option("--quiet", "-q", is_flag=True, help="Print ids alone, and no progress.")
@with_client
def pull(
    client: Client,
    images: tuple[str, ...],
    platform: Platform | None,
    creds: str | None,
    authfile: str | None,
    name: str,
    quiet: bool,
) -> int:
    """Pull images from registries, and print their ids.

    IMAGE may also be docker-archive:PATH[:NAME:TAG], oci-archive:PATH[:TAG], oci:DIR[:TAG] or
    dir:DIR, with an absolute path on the service's node.
    """
    if name and len(images) > 1:
        raise click.UsageError("--name is for one IMAGE.")
    auth = auth_of(creds, authfile)
    ids: list[str] = []

    def act(image: str) -> None:
        messages = client.pull_image(image, platform=platform, auth=auth, name=name)
        ids.append(pulled(messages, quiet=quiet))

    return in_turn(images, None, act, lambda image: click.echo(ids[-1]))


def pulled(messages: Stream[PullImageResponse], *, quiet: bool) -> str:
    """The id of an image, once it is there; until then its progress is shown."""
    with shown_progress(quiet=quiet) as shown, messages:
        for message in messages:
            if message.HasField("image"):
                shown.end()
                return message.image.image_id
            shown.show(message.progress)
    raise AssertionError("the last message has the image")
