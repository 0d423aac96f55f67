"""The command ``rmi``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ocigrpc.cli.container_names import SHORT_ID
from ocigrpc.cli.failures import EXIT_OURS, Failed, complain
from ocigrpc.cli.images.image_names import IMAGE, resolve
from ocigrpc.cli.in_turn import in_turn
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.output import write_lines
from ocigrpc.errors import OcigrpcError
from ocigrpc.image_errors import ImageNotFound
from ocigrpc.oci.images.reference import image_id_of

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.image_pb2 import RemoveImageResponse

# As podman has them; a graver one counts.
_STATUSES = {"IMAGE_NOT_FOUND": 1, "IMAGE_IN_USE": 2}

# Containers that a line names.
_SHOWN = 4


@click.command("rmi")
@click.argument("images", nargs=-1, type=IMAGE)
@click.option("--all", "-a", "everything", is_flag=True, help="All images, with all names.")
@click.option(
    "--force",
    "-f",
    is_flag=True,
    help="Of an id, take all names, and so the image; it is no failure if an image is not there.",
)
@click.option("--ignore", "-i", is_flag=True, help="It is no failure if an image is not there.")
@with_client
def rmi(
    client: Client, images: tuple[str, ...], everything: bool, force: bool, ignore: bool
) -> int:
    """Remove names of images, and with its last name the image.

    An image that is named by its id must have one name, or none, unless --force takes all. One that
    containers use is only untagged: it is deleted with the last of them.

    The exit status is 1 if an image is not there, 2 if other programs have containers of one, and
    125 for other failures.
    """
    if everything == bool(images):
        raise click.UsageError("Name images, or use --all, not both.")

    # Of all images, one may have gone meanwhile.
    may_be_gone = everything or force or ignore
    removed: list[RemoveImageResponse] = []

    def remove(name: str) -> None:
        removed.clear()
        try:
            image = resolve(client, name)
        except ImageNotFound:
            if not may_be_gone:
                raise
        else:
            is_id = bool(image_id_of(image))
            removed.append(client.remove_image(image, all_names=everything or (force and is_id)))

    names = images or [each.image_id for each in client.list_images()]
    return in_turn(names, "removing", remove, lambda name: _print(removed), _status_of)


def _print(removed: Sequence[RemoveImageResponse]) -> None:
    for each in removed:
        write_lines(f"Untagged: {name}" for name in each.untagged)
        if each.container_ids:
            complain(_in_use_words(each))
        elif each.image_id:
            write_lines([f"Deleted: {each.image_id}"])


def _in_use_words(removed: RemoveImageResponse) -> str:
    shown = [each[:SHORT_ID] for each in removed.container_ids[:_SHOWN]]
    shown += ["..."] * (len(removed.container_ids) > _SHOWN)
    image_id = removed.image_id[:SHORT_ID]
    return f"image {image_id} is deleted with the last container of it: {', '.join(shown)}"


def _status_of(failure: OcigrpcError | Failed) -> int:
    reason = failure.reason if isinstance(failure, OcigrpcError) else ""
    return _STATUSES.get(reason, EXIT_OURS)
