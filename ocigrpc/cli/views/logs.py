"""The command ``logs``."""

from __future__ import annotations

import itertools
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ocigrpc.cli.container_names import CONTAINER, resolve
from ocigrpc.cli.failures import complain
from ocigrpc.cli.parsed import Parsed
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.moments import Moment

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from ocigrpc.client import Client
    from ocigrpc.v1.log_pb2 import ContainerLogsResponse, LogLine, LogStream

_MOST_LINES = (1 << 63) - 1


def _number_of_lines(text: str) -> int | None:
    """A number of lines, of which no log has more than a request can ask for; None for all."""
    if text in ("all", "-1"):
        return None
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a number of lines, or all")
    return min(int(text), _MOST_LINES)


@click.command("logs")
@click.argument("container", type=CONTAINER)
@click.option("--follow", "-f", is_flag=True, help="Go on until the container has ended.")
@click.option(
    "--tail",
    "-n",
    type=Parsed("N", _number_of_lines),
    default="all",
    show_default=True,
    help="Begin with this many of the last lines; of a line over 8 KiB each part of that counts.",
)
@click.option("--timestamps", "-t", is_flag=True, help="Print when each line was written.")
@click.option("--since", type=Moment(), help="Only lines from then on; 10m is ten minutes ago.")
@click.option("--until", type=Moment(), help="Only lines before then.")
@with_client
def logs(
    client: Client,
    container: str,
    follow: bool,
    tail: int | None,
    timestamps: bool,
    since: float | None,
    until: float | None,
) -> None:
    """Print what a container has written: to standard output and standard error, as it did."""
    pages = client.container_logs(
        resolve(client, container),
        follow=follow,
        tail_lines=tail,
        since_s=since,
        until_s=until,
    )
    printer = Printer(timestamps=timestamps)
    for page in pages:
        printer.print(page)


class Printer:
    """Prints lines as they were written: the bytes of each stream to the same one."""

    def __init__(self, *, timestamps: bool) -> None:
        self._timestamps = timestamps
        # Streams whose last line goes on in the next.
        self._unfinished: set[LogStream] = set()

    def print(self, page: ContainerLogsResponse) -> None:
        """Print some lines, and on standard error what is missing before them."""
        from ocigrpc.v1.log_pb2 import LOG_STREAM_STDERR

        if page.gap:
            complain("lines are missing here: the log was rotated before they were read")
        if page.skipped_lines:
            complain(
                f"lines of the log that are not in its format are left out: {page.skipped_lines}"
            )
        for stream, lines in itertools.groupby(page.lines, lambda line: line.stream):
            target = sys.stderr.buffer if stream == LOG_STREAM_STDERR else sys.stdout.buffer
            target.write(b"".join(map(self._text, lines)))
            # Otherwise lines of the other stream would overtake them.
            target.flush()

    def _text(self, line: LogLine) -> bytes:
        begins = line.stream not in self._unfinished
        stamp = f"{_stamp(line.time)} ".encode() if self._timestamps and begins else b""
        if line.partial:
            self._unfinished.add(line.stream)
            return stamp + line.content
        self._unfinished.discard(line.stream)
        return stamp + line.content + b"\n"


def _stamp(timestamp: Timestamp) -> str:
    moment = datetime.fromtimestamp(timestamp.seconds, UTC).replace(tzinfo=None)
    return f"{moment.isoformat()}.{timestamp.nanos:09}Z"
