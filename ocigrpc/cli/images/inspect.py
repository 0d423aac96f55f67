"""The commands ``image inspect``, ``image exists`` and ``history``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ocigrpc.cli.failures import EXIT_FAILED
from ocigrpc.cli.images.entries import TITLES, Entry
from ocigrpc.cli.images.image_names import IMAGE, resolve
from ocigrpc.cli.in_turn import in_turn
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.containers import seconds
from ocigrpc.cli.views.output import output_option, write
from ocigrpc.cli.views.table import Row, Table
from ocigrpc.cli.views.template import format_option, write_formatted
from ocigrpc.cli.views.words import ago, cut, size
from ocigrpc.image_errors import ImageNotFound

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.image_pb2 import ImageStatusResponse

_COMMAND_COLUMNS = 60
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


@click.command("exists")
@click.argument("image", type=IMAGE)
@with_client
def exists(client: Client, image: str) -> int:
    """Exit with 0 if an image is there, and with 1 if it is not; print nothing.

    The exit status is 125 if that can't be found out.
    """
    try:
        resolve(client, image)
    except ImageNotFound:
        return EXIT_FAILED
    return 0


@click.command("history")
@click.argument("image", type=IMAGE)
@click.option("--no-trunc", "whole", is_flag=True, help="Print whole commands.")
@output_option("table", "json", "yaml")
@with_client
def history(client: Client, image: str, whole: bool, output: str) -> None:
    """Print how an image was built, the last step first."""
    found = client.image_status(resolve(client, image))
    if output != "table":
        write(output, list(reversed(found.history)))
        return
    # Each step but the empty ones has made a layer.
    layers = iter(found.layers)
    rows = list[Row]()
    for step in found.history:
        layer = None if step.empty_layer else next(layers, None)
        made = step.created_by if whole else cut(step.created_by, _COMMAND_COLUMNS)
        built = ago(time.time() - seconds(step.created_at)) if step.HasField("created_at") else ""
        taken = size(layer.size_bytes) if layer is not None else "0 B"
        rows.append(Row([built, made, taken, step.comment]))
    titles = ["CREATED", "CREATED BY", "SIZE", "COMMENT"]
    Table(titles, rows[::-1], gives=("CREATED BY",)).write()
