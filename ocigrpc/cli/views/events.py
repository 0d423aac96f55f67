"""The command ``events``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from ocigrpc.cli.container_names import SHORT_ID
from ocigrpc.cli.failures import complain
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.containers import exit_words, moment, seconds
from ocigrpc.cli.views.filters import begins, by_key, enum_name, is_meant, labels_of
from ocigrpc.cli.views.moments import LAST_S, Moment
from ocigrpc.cli.views.output import as_object, json_line, output_option, write_lines
from ocigrpc.errors import InvalidArgument
from ocigrpc.image_errors import ImageNotFound

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.event_pb2 import ContainerEvent, EventFilter, EventGap

# Of 64 bits, with a sign.
_LAST_CURSOR = (1 << 63) - 1
# From the year 2001 on. Cursors are far larger, but for those that mean all events.
_FIRST_TIME_S = 1_000_000_000
_LINE = "{:<25}  {:<9}  {:<12}  {:<17}  {}"
_KEYS = ("type", "container", "image", "event", "label")


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
    help="Only those with this type= (container or image), container= (name, id, or its"
    " beginning), image= (the same, or a pattern), event=, or label=KEY=VALUE of a container."
    " Several of one key: any of them; labels: all.",
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
    """Print what happens to containers and images, as it happens.

    JSON has one object a line, each with the cursor to continue after: --since CURSOR misses
    nothing. With filters, some lines have a cursor alone. What is gone for good is said on
    standard error.
    """
    given = by_key(filters, _KEYS)
    wanted = _filter(given)
    objects = _Objects(client, given["container"], given["image"])
    last = client.status().events.last if no_stream else None
    after = since if isinstance(since, int) else None
    if isinstance(since, float) or (no_stream and since is None):
        after = 0
    from_s = since if isinstance(since, float) else 0.0
    if output == "table":
        write_lines([_LINE.format("TIME", "TYPE", "ID", "EVENT", "NAME")])
    for message in client.watch_events(after, wanted):
        if message.HasField("gap"):
            complain(_gap_words(message.gap, after or 0))
        found = [
            each for each in message.events if objects.has(each) and seconds(each.time) >= from_s
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
    from ocigrpc.v1.event_pb2 import EventFilter, EventKind, ObjectKind

    labels = labels_of(given["label"])
    kinds = [enum_name(word, EventKind.keys(), "event") for word in given["event"]]
    objects = {enum_name(word, ObjectKind.keys(), "type") for word in given["type"]}
    if given["container"] and given["image"]:
        raise click.UsageError("--filter: container= and image= exclude each other.")
    for key in ("container", "image"):
        if given[key]:
            only = enum_name(key, ObjectKind.keys(), "type")
            if objects - {only}:
                raise click.UsageError(f"--filter: {key}= and another type= exclude each other.")
            objects = {only}
    # The service's own default is containers alone.
    objects = objects or set(ObjectKind.keys()[1:])
    return EventFilter(label_selector=labels, kinds=kinds, objects=sorted(objects))


class _Objects:
    """The containers or images that are wanted, which may be gone, or yet to come."""

    def __init__(self, client: Client, containers: Sequence[str], images: Sequence[str]) -> None:
        self._containers = containers
        self._images = images
        self._image_ids = set[str]()
        for name in images:
            with suppress(ImageNotFound, InvalidArgument):
                self._image_ids.add(client.image_status(name).image.image_id)

    def has(self, event: ContainerEvent) -> bool:
        """Whether an event is of one of them; the next ones come in their order."""
        if self._containers:
            return any(
                name == event.name or event.container_id.startswith(name)
                for name in self._containers
            )
        return not self._images or self._has_image(event)

    def _has_image(self, event: ContainerEvent) -> bool:
        if any(begins(event.image_id, each) for each in self._images):
            return True
        if any(is_meant(event.name, each) for each in self._images):
            self._image_ids.add(event.image_id)
            return True
        # When it is removed it has no name any more.
        return not event.name and event.image_id in self._image_ids


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
    kind, object_id = "container", event.container_id
    if event.image_id:
        kind, object_id = "image", event.image_id
    return _LINE.format(moment(event.time), kind, object_id[:SHORT_ID], words, event.name).rstrip()
