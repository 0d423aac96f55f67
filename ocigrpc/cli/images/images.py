"""The command ``images``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from ocigrpc.cli.images.entries import ORDERS, TITLES, Filters, entries
from ocigrpc.cli.images.image_names import IMAGE
from ocigrpc.cli.progress import progress
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.output import output_option, write, write_lines
from ocigrpc.cli.views.table import Row, Table
from ocigrpc.cli.views.template import format_option, write_formatted

if TYPE_CHECKING:
    from ocigrpc.client import Client

_COLUMNS = ("Repository", "Tag", "ID", "Created", "Size")
_COLUMNS_WITH_DIGESTS = ("Repository", "Tag", "Digest", "ID", "Created", "Size")


@click.command("images")
@click.argument("names", nargs=-1, metavar="[NAME]...", type=IMAGE)
@click.option(
    "--all", "-a", expose_value=False, is_flag=True, help="Nothing: all are always shown."
)
@click.option("--quiet", "-q", is_flag=True, help="Print ids alone.")
@click.option("--digests", is_flag=True, help="Also the digests of the manifests.")
@click.option("--no-trunc", "whole", is_flag=True, help="Print whole ids.")
@click.option(
    "--filter",
    "-f",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only those with this reference= (as NAME) or label=KEY[=VALUE], that are dangling=true"
    " (have no name) or false, or were built before= or since= another image, or until= a time."
    " Several references: any of them; of all else: all.",
)
@click.option(
    "--sort",
    "order",
    type=click.Choice(list(ORDERS)),
    help="By the newest, or else the first or the smallest. Default: those that came last first.",
)
@format_option(TITLES)
@output_option("table", "json", "yaml", "name")
@with_client
def images(
    client: Client,
    names: tuple[str, ...],
    quiet: bool,
    digests: bool,
    whole: bool,
    filters: tuple[str, ...],
    order: str | None,
    template: str | None,
    output: str,
) -> None:
    """List images, a line for each of their names; those that came last first.

    NAME is a name, with or without its registry and its tag, a pattern with '*', or the beginning
    of an id.
    """
    if template in ("json", "table"):
        output, template = template, None
    if [quiet, template is not None, output != "table"].count(True) > 1:
        raise click.UsageError("--quiet, --format and --output exclude each other.")
    wanted = Filters(filters)
    with progress("listing images"):
        wanted.look_up(client)
        found = filter(wanted.matches, client.list_images(wanted.asked()))
        chosen = list(entries(found, [*names, *wanted.references]))
    if order:
        chosen.sort(key=ORDERS[order])
    values = [each.fields(time.time(), whole=whole) for each in chosen]
    if output in ("json", "yaml"):
        write(output, list({each.image.image_id: each.image for each in chosen}.values()))
    elif output == "name":
        write_lines(each.name or each.image.image_id for each in chosen)
    elif quiet:
        write_lines(dict.fromkeys(str(each["ID"]) for each in values))
    elif template is not None:
        write_formatted(template, TITLES, values)
    else:
        columns = _COLUMNS_WITH_DIGESTS if digests else _COLUMNS
        rows = [Row([str(value[name]) for name in columns]) for value in values]
        Table([TITLES[name] for name in columns], rows, gives=(TITLES["Repository"],)).write()
