"""The command ``events``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from ocigrpc.cli.container_names import SHORT_ID
from ocigrpc.cli.failures import complain
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.containers import exit_words, moment, seconds
from ocigrpc.cli.views.filters import by_key, enum_name, labels_of
from ocigrpc.cli.views.moments import LAST_S, Moment
from ocigrpc.cli.views.output import as_object, json_line, output_option, write_lines

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.event_pb2 import ContainerEvent, EventFilter, EventGap

# Of 64 bits, with a sign.
_LAST_CURSOR = (1 << 63) - 1
# From the year 2001 on. Cursors are far larger, but for those that mean all events.
_FIRST_TIME_S = 1_000_000_000
_LINE = "{:<25}  {:<12}  {:<17}  {}"


class Beginning(click.ParamType[int | float]):
    """The type of ``--since``: a cursor, which is a whole number, or a moment."""

    name = "CURSOR|TIME|DURATION"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        """The cursor as an ``int``, or the moment as a ``float``. Raises a usage error."""
        text = str(value)
        if not text.isdecimal():
            return Moment().convert(text, param, ctx)
        if (cursor := int(text)) > _LAST_CURSOR:
            self.fail(f"{text} is no cursor: it is larger than any", param, ctx)
        return float(cursor) if _FIRST_TIME_S <= cursor <= LAST_S else cursor


@click.command("events")
@click.option(
    "--since",
    type=Beginning(),
    help="Begin after this cursor, or at this time; 10m is ten minutes ago, 0 all that are kept."
    " A number of ten to twelve digits is seconds since 1970."
    " Default: from now on.",
)
@click.option(
    "--filter",
    "-f",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only those with this container= (name, id, or its beginning), event= or"
    " label=KEY=VALUE. Several of one key: any of them; labels: all.",
)
@click.option("--no-stream", is_flag=True, help="End with the last that has happened.")
@output_option("table", "json")
@with_client
def events(
    client: Client,
    since: int | float | None,
    filters: Sequence[str],
    no_stream: bool,
    output: str,
) -> None:
    """Print what happens to containers, as it happens.

    JSON has one object a line, each with the cursor to continue after: --since CURSOR misses
    nothing. With filters, some lines have a cursor alone. What is gone for good is said on
    standard error.
    """
    given = by_key(filters, ("container", "event", "label"))
    wanted = _filter(given)
    last = client.status().events.last if no_stream else None
    after = since if isinstance(since, int) else None
    if isinstance(since, float) or (no_stream and since is None):
        after = 0
    from_s = since if isinstance(since, float) else 0.0
    if output == "table":
        write_lines([_LINE.format("TIME", "CONTAINER ID", "EVENT", "NAME")])
    for message in client.watch_events(after, wanted):
        if message.HasField("gap"):
            complain(_gap_words(message.gap, after or 0))
        found = [
            each
            for each in message.events
            if _is_of(each, given["container"]) and seconds(each.time) >= from_s
        ]
        if output == "json":
            cursors = [{**as_object(each), "cursor": str(each.sequence)} for each in found]
            write_lines(map(json_line, cursors or [{"cursor": str(message.cursor)}]))
        else:
            write_lines(map(_line, found))
        if last is not None and message.cursor >= last:
            return


def _filter(given: Mapping[str, Sequence[str]]) -> EventFilter:
    """What the service can choose by. Raises a usage error."""
    from ocigrpc.v1.event_pb2 import EventFilter, EventKind

    labels = labels_of(given["label"])
    kinds = [enum_name(word, EventKind.keys(), "event") for word in given["event"]]
    return EventFilter(label_selector=labels, kinds=kinds)


def _is_of(event: ContainerEvent, names: Sequence[str]) -> bool:
    """Whether an event is one of these containers, which may be gone, or yet to come."""
    return not names or any(
        name == event.name or event.container_id.startswith(name) for name in names
    )


def _gap_words(gap: EventGap, after: int) -> str:
    if gap.last < after:
        return f"{after} is no cursor of this service: these are the events from now on"
    return f"the events {gap.first} to {gap.last} are gone; 'ocigrpc ps -a' shows what there is"


def _line(event: ContainerEvent) -> str:
    from ocigrpc.v1.event_pb2 import EventKind

    words = EventKind.Name(event.kind).removeprefix("EVENT_KIND_").lower().replace("_", " ")
    if event.HasField("exit_status"):
        words += f" ({exit_words(event.exit_status)})"
        words += ", OOM" if event.exit_status.oom_killed else ""
    line = _LINE.format(moment(event.time), event.container_id[:SHORT_ID], words, event.name)
    return line.rstrip()
