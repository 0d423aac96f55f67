"""The command ``image prune``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from ocigrpc.cli import amounts
from ocigrpc.cli.parsed import Parsed
from ocigrpc.cli.progress import progress
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.filters import by_key, labels_of
from ocigrpc.cli.views.moments import moment_of
from ocigrpc.cli.views.output import write_lines
from ocigrpc.cli.views.words import size

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.image_pb2 import PruneImagesRequest


def _wanted_bytes(text: str) -> int:
    if (wanted := amounts.size(text)) < 1:
        raise ValueError(f"{text!r} is no size, such as 10g")
    return wanted


@click.command("prune")
@click.option("--all", "-a", "everything", is_flag=True, help="Also images with names.")
@click.option("--force", "-f", is_flag=True, help="Do not ask.")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only those that came and were used until= a time, or a time ago as in 24h, and have"
    " label=KEY=VALUE. Labels: all.",
)
@click.option(
    "--until-free",
    "until_free_bytes",
    type=Parsed("size", _wanted_bytes),
    default=None,
    metavar="SIZE",
    help="No more than it takes to have so much free on their disk, as in 10g.",
)
@click.option("--dry-run", is_flag=True, help="Remove nothing, and print what would be removed.")
@with_client
def prune(
    client: Client,
    everything: bool,
    force: bool,
    filters: Sequence[str],
    until_free_bytes: int | None,
    dry_run: bool,
) -> None:
    """Remove images that no container uses, first those that were last wanted the longest ago.

    It prints their ids, and the bytes of the layers that went with them. Images that the service's
    settings pin stay.
    """
    wanted = request_with(by_key(filters, ("until", "label")))
    wanted.all, wanted.dry_run = everything, dry_run
    wanted.until_free_bytes = until_free_bytes or 0
    if not (force or dry_run):
        _ask("unused images" if everything else "unused images without a name")
    with progress("removing images"):
        pruned = client.prune_images(wanted)
    total = f"Total reclaimed space: {size(pruned.reclaimed_bytes)}"
    write_lines([*(each.image_id for each in pruned.images), total])


def request_with(given: Mapping[str, Sequence[str]]) -> PruneImagesRequest:
    """The request with these filters, all of which must hold. Raises a usage error."""
    # Imported here, since it loads protobuf.
    from ocigrpc.v1.image_pb2 import PruneImagesRequest

    request = PruneImagesRequest(label_selector=labels_of(given["label"]))
    now_s = time.time()
    try:
        ages_s = [now_s - moment_of(text, now_s) for text in given["until"]]
    except ValueError as error:
        raise click.UsageError(f"--filter: {error}") from None
    if ages_s:
        request.older_than.FromNanoseconds(round(max(0.0, *ages_s) * 1e9))
    return request


def _ask(what: str) -> None:
    """Ask whether to remove them. Raises ``Abort`` for a no."""
    if not sys.stdin.isatty():
        raise click.UsageError("--force is needed where there is no terminal to ask.")
    click.confirm(f"Remove all {what}?", abort=True, err=True)
