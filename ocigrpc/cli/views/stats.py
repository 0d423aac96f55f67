"""The command ``stats``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from ocigrpc.cli.container_names import CONTAINER, SHORT_ID, resolve
from ocigrpc.cli.failures import Failed
from ocigrpc.cli.parsed import Seconds
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.live import show
from ocigrpc.cli.views.output import as_object, json_line, output_option, write_lines
from ocigrpc.cli.views.table import Row, Table
from ocigrpc.cli.views.words import size

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.stats_pb2 import ContainerStats

_TITLES = ("CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "BLOCK I/O", "PIDS")
# For one look: long enough to see what share of a CPU is used.
_GLANCE_S = 0.5
_ABSENT = "--"


class _Look(NamedTuple):
    """What a container uses, and how much of one CPU since the look before; None at the first."""

    stats: ContainerStats
    cpu_percent: float | None


@click.command("stats")
@click.argument("containers", nargs=-1, type=CONTAINER)
@click.option("--all", "-a", "everyone", is_flag=True, help="Also stopped ones, which use nothing.")
@click.option("--no-stream", is_flag=True, help="Print what they use now, and end.")
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
@output_option("table", "json")
@with_client
def stats(
    client: Client,
    containers: tuple[str, ...],
    everyone: bool,
    no_stream: bool,
    interval_s: float,
    output: str,
) -> None:
    """Show what containers use, by default all that live, until you interrupt it.

    Memory is without the pages of files that the kernel can reclaim, CPU % of one CPU. JSON has a
    line for each container and look.
    """
    if everyone and containers:
        raise click.UsageError("Name containers, or use --all, not both.")
    wanted = {resolve(client, name): name for name in containers}
    moments = client.watch_stats(interval_s=_GLANCE_S if no_stream else interval_s)
    looks = _looks(_with_stopped(client, moments) if everyone else _chosen(moments, wanted))
    if no_stream:
        looks = itertools.islice(looks, 1, 2)
    if output == "json":
        for moment in looks:
            found = ({**as_object(each.stats), "cpu_percent": each.cpu_percent} for each in moment)
            write_lines(map(json_line, found))
    elif no_stream:
        _table(next(looks)).write()
    else:
        show(map(_table, looks))


def _chosen(
    moments: Iterable[Sequence[ContainerStats]], wanted: Mapping[str, str]
) -> Iterator[Sequence[ContainerStats]]:
    """The moments with the wanted containers, which are names by ids; with all, if there are none.

    Raises ``Failed`` if one of them does not live at first.
    """
    found: set[str] = set()
    for moment in moments:
        found |= {each.container_id for each in moment}
        if missing := [name for each, name in wanted.items() if each not in found]:
            raise Failed(f"container {missing[0]!r} has stopped: it uses nothing")
        yield [each for each in moment if not wanted or each.container_id in wanted]


def _with_stopped(
    client: Client, moments: Iterable[Sequence[ContainerStats]]
) -> Iterator[Sequence[ContainerStats]]:
    """The moments with every container; of those that have stopped there are only the names."""
    # Imported here, since it loads protobuf.
    from ocigrpc.v1.stats_pb2 import ContainerStats

    for moment in moments:
        used = {each.container_id: each for each in moment}
        yield [
            used.get(each.container_id)
            or ContainerStats(container_id=each.container_id, name=each.name)
            for each in client.list_containers()
        ]


def _looks(moments: Iterable[Sequence[ContainerStats]]) -> Iterator[Sequence[_Look]]:
    before: dict[str, ContainerStats] = {}
    for moment in moments:
        yield [_Look(each, _cpu_percent(before.get(each.container_id), each)) for each in moment]
        before = {each.container_id: each for each in moment}


def _cpu_percent(before: ContainerStats | None, now: ContainerStats) -> float | None:
    if before is None or not (before.cpu.HasField("usage") and now.cpu.HasField("usage")):
        return None
    passed_ns = now.read_at.ToNanoseconds() - before.read_at.ToNanoseconds()
    used_ns = now.cpu.usage.ToNanoseconds() - before.cpu.usage.ToNanoseconds()
    return round(100 * used_ns / passed_ns, 2) if passed_ns > 0 else None


def _table(moment: Sequence[_Look]) -> Table:
    return Table(_TITLES, [Row(_cells(each)) for each in moment])


def _cells(look: _Look) -> Sequence[str]:
    stats = look.stats
    memory, io, pids = stats.memory, stats.io, stats.pids
    used = memory.working_set_bytes if memory.HasField("working_set_bytes") else None
    limit = memory.limit_bytes if memory.HasField("limit_bytes") else None
    share = 100 * used / limit if used is not None and limit and limit > 0 else None
    return [
        stats.container_id[:SHORT_ID],
        stats.name,
        _percent(look.cpu_percent),
        f"{_size(used)} / {_size(limit)}",
        _percent(share),
        f"{size(io.read_bytes)} / {size(io.write_bytes)}" if stats.HasField("io") else _ABSENT,
        str(pids.current) if pids.HasField("current") else _ABSENT,
    ]


def _percent(share: float | None) -> str:
    return _ABSENT if share is None else f"{share:.2f}%"


def _size(amount: int | None) -> str:
    if amount is None:
        return _ABSENT
    return "unlimited" if amount < 0 else size(amount)
