"""The command ``system df``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from ocigrpc.cli.images.entries import TITLES as IMAGE_TITLES
from ocigrpc.cli.images.entries import entries
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.containers import TITLES as CONTAINER_TITLES
from ocigrpc.cli.views.containers import fields
from ocigrpc.cli.views.output import output_option, write
from ocigrpc.cli.views.table import Row, Table
from ocigrpc.cli.views.template import format_option, write_formatted
from ocigrpc.cli.views.words import size

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.image_pb2 import ImageFsInfoResponse

TITLES: Mapping[str, str] = {
    "Type": "TYPE",
    "Total": "TOTAL",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
    "Free": "FREE",
}
"""The fields, by the names that podman has for them; ``Free`` is what their disk has left."""

_IMAGE_COLUMNS = (
    *("Repository", "Tag", "ID", "Created", "Size", "SharedSize", "UniqueSize", "Containers"),
)
_CONTAINER_COLUMNS = ("ID", "Image", "Command", "Created", "Status", "Names")


@click.command("df")
@click.option(
    "--verbose",
    "-v",
    is_flag=True,
    help="A line for each name of an image, and for each container.",
)
@format_option(TITLES)
@output_option("table", "json", "yaml")
@with_client
def df(client: Client, verbose: bool, template: str | None, output: str) -> None:
    """Print what images and their containers take on their disk, and what of it is not in use.

    Each layer counts once. A container is counted once the service has measured what it has
    written, and is not in use when it has ended. JSON is the ImageFsInfoResponse of the API.
    """
    if template in ("json", "table"):
        output, template = template, None
    if [verbose, template is not None, output != "table"].count(True) > 1:
        raise click.UsageError("--verbose, --format and --output exclude each other.")
    info = client.image_fs_info()
    if verbose:
        _images(client).write()
        click.echo()
        _containers(client, info).write()
        return
    if output != "table":
        write(output, info)
    elif template is not None:
        write_formatted(template, TITLES, _fields(client, info))
    else:
        rows = [Row([str(each[name]) for name in TITLES]) for each in _fields(client, info)]
        Table(list(TITLES.values()), rows).write()


def _fields(client: Client, info: ImageFsInfoResponse) -> Sequence[Mapping[str, object]]:
    from ocigrpc.v1.container_pb2 import CONTAINER_STATE_STOPPED

    containers = client.list_containers()
    ended = {each.container_id for each in containers if each.state == CONTAINER_STATE_STOPPED}
    layers = {each.container_id: each.used.bytes for each in info.writable_layers}
    unused_bytes = sum(used for container_id, used in layers.items() if container_id in ended)
    free = size(info.available.bytes)
    return [
        _row("Images", info.image_count, info.image_bytes, info.reclaimable_bytes, free),
        _row("Containers", len(layers), sum(layers.values()), unused_bytes, free),
    ]


def _row(
    kind: str, total: int, all_bytes: int, unused_bytes: int, free: str
) -> Mapping[str, object]:
    share = round(100 * unused_bytes / all_bytes) if all_bytes else 0
    return {
        "Type": kind,
        "Total": total,
        "Size": size(all_bytes),
        "Reclaimable": f"{size(unused_bytes)} ({share}%)",
        "Free": free,
    }


def _images(client: Client) -> Table:
    now_s = time.time()
    values = [each.fields(now_s, whole=False) for each in entries(client.list_images())]
    rows = [Row([str(value[name]) for name in _IMAGE_COLUMNS]) for value in values]
    titles = [IMAGE_TITLES[name] for name in _IMAGE_COLUMNS]
    return Table(titles, rows, gives=(IMAGE_TITLES["Repository"],))


def _containers(client: Client, info: ImageFsInfoResponse) -> Table:
    """Those that have a layer which can be written to; of one that is not measured, no size."""
    now_s = time.time()
    layers = {each.container_id: each for each in info.writable_layers}
    rows = []
    for container in client.list_containers():
        if (layer := layers.get(container.container_id)) is not None:
            values = fields(container, container.command_line, now_s, whole=False)
            shown = [str(values[name]) for name in _CONTAINER_COLUMNS]
            rows.append(Row([*shown, size(layer.used.bytes) if layer.HasField("used") else ""]))
    titles = [*(CONTAINER_TITLES[name] for name in _CONTAINER_COLUMNS), "SIZE"]
    gives = (CONTAINER_TITLES["Command"], CONTAINER_TITLES["Image"])
    return Table(titles, rows, gives=gives)
