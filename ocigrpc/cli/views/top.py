"""The command ``top``."""

from __future__ import annotations

import itertools
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ocigrpc.cli.container_names import CONTAINER, resolve
from ocigrpc.cli.failures import Failed
from ocigrpc.cli.parsed import Seconds
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.live import show
from ocigrpc.cli.views.output import output_option, write
from ocigrpc.cli.views.table import Row, Table
from ocigrpc.cli.views.words import clock, size

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.process_pb2 import Process

_TITLES = ("USER", "PID", "PPID", "TIME", "RSS", "COMMAND")


@click.command("top")
@click.argument("container", type=CONTAINER)
@click.option("--no-stream", is_flag=True, help="Print them as they are now, and end.")
@click.option(
    "--interval",
    "-i",
    "interval_s",
    type=Seconds(0.1, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time from one look to the next.",
)
@output_option("table", "json", "yaml")
@with_client
def top(client: Client, container: str, no_stream: bool, interval_s: float, output: str) -> None:
    """Show the processes of a container, by their ids on the host, until you interrupt it.

    Where standard output is no terminal, they are printed once.

    TIME is minutes and seconds on all CPUs, RSS memory in use with shared pages.
    """
    container_id = resolve(client, container)
    looks = _looks(client, container_id, interval_s)
    first = next(looks, None)
    if first is None:
        raise Failed(f"container {container!r} has no processes")
    if output != "table":
        write(output, first)
    elif no_stream or not sys.stdout.isatty():
        _table(first).write()
    else:
        show(map(_table, itertools.chain([first], looks)))


def _looks(client: Client, container_id: str, interval_s: float) -> Iterator[Sequence[Process]]:
    """The processes, at an interval, until there are none."""
    while processes := list(client.list_processes(container_id)):
        yield processes
        time.sleep(interval_s)


def _table(processes: Sequence[Process]) -> Table:
    rows = [
        Row(
            [
                each.user or str(each.uid),
                str(each.pid),
                str(each.parent_pid),
                clock(each.cpu_time.ToNanoseconds() / 1e9),
                size(each.rss_bytes),
                shlex.join(each.command),
            ]
        )
        for each in processes
    ]
    return Table(_TITLES, rows, gives=("COMMAND",))
