"""The command ``image inspect``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ocigrpc.cli.images.entries import TITLES, Entry
from ocigrpc.cli.images.image_names import IMAGE, resolve
from ocigrpc.cli.in_turn import in_turn
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.output import output_option, write
from ocigrpc.cli.views.template import format_option, write_formatted

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.image_pb2 import ImageStatusResponse

# The fields of the answer, beside those that images has.
_PARTS = ("image", "config", "layers", "history", "author")


@click.command("inspect")
@click.argument("images", nargs=-1, required=True, type=IMAGE)
@format_option([*TITLES, *_PARTS], "-f")
@output_option("json", "yaml")
@with_client
def inspect(client: Client, images: tuple[str, ...], template: str | None, output: str) -> int:
    """Print all that is known of images, as a list of ImageStatusResponse of the API.

    Templates reach what is inside it by dots, as in '{{.config.cmd}}'.
    """
    if template == "json":
        template = None
    if template is not None and output != "json":
        raise click.UsageError("--format and --output exclude each other.")
    found: list[ImageStatusResponse] = []

    def look(name: str) -> None:
        found.append(client.image_status(resolve(client, name)))

    status = in_turn(images, "inspecting", look, lambda name: None)
    if template is None:
        write(output, found)
    else:
        titles = {**TITLES, **{part: part.upper() for part in _PARTS}}
        write_formatted(template, titles, map(_values, found))
    return status


def _values(found: ImageStatusResponse) -> Mapping[str, object]:
    entry = Entry(found.image, next(iter(found.image.names), ""))
    parts = {name: getattr(found, name) for name in _PARTS}
    return {**entry.fields(time.time(), whole=True), **parts}
