"""The command ``tag``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ocigrpc.cli.images.image_names import IMAGE, resolve
from ocigrpc.cli.in_turn import in_turn
from ocigrpc.cli.session import with_client

if TYPE_CHECKING:
    from ocigrpc.client import Client


@click.command("tag")
@click.argument("image", type=IMAGE)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@with_client
def tag(client: Client, image: str, names: tuple[str, ...]) -> int:
    """Give an image further names, which other images lose that have them.

    A NAME without a tag gets "latest", and one without a registry is one of localhost.
    """
    known = resolve(client, image)

    def add(name: str) -> None:
        client.tag_image(known, name)

    # Nothing is printed of what went well, as with podman and docker.
    return in_turn(names, "tagging", add, lambda name: None)
