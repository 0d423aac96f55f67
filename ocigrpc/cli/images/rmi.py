"""The command ``rmi``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ocigrpc.cli.images.image_names import IMAGE, resolve
from ocigrpc.cli.in_turn import in_turn
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.output import write_lines

if TYPE_CHECKING:
    from ocigrpc.client import Client


@click.command("rmi")
@click.argument("images", nargs=-1, type=IMAGE)
@click.option("--all", "-a", "everything", is_flag=True, help="All images, with all names.")
@click.option("--force", "-f", is_flag=True, help="Take all names of the image, and so all of it.")
@with_client
def rmi(client: Client, images: tuple[str, ...], everything: bool, force: bool) -> int:
    """Remove names of images, and with its last name the image.

    An image that is named by its id must have one name, or none, unless --force takes all.
    """
    if everything == bool(images):
        raise click.UsageError("Name images, or use --all, not both.")

    lines: list[str] = []

    def remove(name: str) -> None:
        removed = client.remove_image(resolve(client, name), all_names=force or everything)
        lines[:] = [f"Untagged: {each}" for each in removed.untagged]
        if removed.image_id:
            lines.append(f"Deleted: {removed.image_id}")

    names = images or [each.image_id for each in client.list_images()]
    return in_turn(names, "removing", remove, lambda name: write_lines(lines))
