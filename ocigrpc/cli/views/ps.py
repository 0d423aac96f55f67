"""The command ``ps``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ocigrpc.cli.progress import progress
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.containers import TITLES, color, fields
from ocigrpc.cli.views.filters import Filters
from ocigrpc.cli.views.output import output_option, write, write_lines
from ocigrpc.cli.views.table import Row, Table
from ocigrpc.cli.views.template import format_option, write_formatted

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.container_pb2 import ContainerSummary

_COLUMNS = ("ID", "Image", "Command", "Created", "Status", "Names")
# On a narrow terminal.
_GIVING = (TITLES["Command"], TITLES["Image"])
# What is listed unless more is asked for.
_LIVING = tuple(f"CONTAINER_STATE_{name}" for name in ("RUNNING", "PAUSED", "UNKNOWN"))


@click.command("ps")
@click.option("--all", "-a", "everyone", is_flag=True, help="Also created and stopped ones.")
@click.option("--quiet", "-q", is_flag=True, help="Print ids alone.")
@click.option("--no-trunc", "whole", is_flag=True, help="Print whole ids and longer commands.")
@click.option(
    "--filter",
    "-f",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only those with this id= (a pattern for its beginning), name= (a pattern for a part),"
    " status= (implies --all), label=KEY[=VALUE] or ancestor= (an image, by a name or an id)."
    " Several of one key: any of them; labels: all.",
)
@format_option(TITLES)
@output_option("table", "json", "yaml", "name")
@with_client
def ps(
    client: Client,
    everyone: bool,
    quiet: bool,
    whole: bool,
    filters: Sequence[str],
    template: str | None,
    output: str,
) -> None:
    """List containers, oldest first.

    Without --all those that run or are paused, and those whose state can't be determined.
    """
    if template in ("json", "table"):
        output = template
        template = None
    if [quiet, template is not None, output != "table"].count(True) > 1:
        raise click.UsageError("--quiet, --format and --output exclude each other.")
    wanted = Filters(filters)
    with progress("listing containers"):
        found = list(_found(client, wanted, everyone=everyone))
    now_s = time.time()
    values = [fields(each, each.command_line, now_s, whole=whole) for each in found]
    if output in ("json", "yaml"):
        write(output, found)
    elif output == "name":
        write_lines(each.name or each.container_id for each in found)
    elif quiet:
        write_lines(str(each["ID"]) for each in values)
    elif template is not None:
        write_formatted(template, TITLES, values)
    else:
        rows = [
            Row([str(value[name]) for name in _COLUMNS], color(each))
            for each, value in zip(found, values, strict=True)
        ]
        Table([TITLES[name] for name in _COLUMNS], rows, gives=_GIVING).write()


def _found(client: Client, wanted: Filters, *, everyone: bool) -> Iterator[ContainerSummary]:
    """The containers that are wanted, as they come."""
    from ocigrpc.v1.runtime_pb2 import ContainerFilter

    wanted.look_up(client)
    states = wanted.states() or ([] if everyone else _LIVING)
    return filter(wanted.matches, client.list_containers(ContainerFilter(states=states)))
