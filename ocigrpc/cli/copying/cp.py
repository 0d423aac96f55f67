"""The command ``cp``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ocigrpc.cli.container_names import resolve
from ocigrpc.cli.copying.places import (
    InContainer,
    Kind,
    Local,
    Place,
    Ways,
    archive_from_stdin,
    archive_to_stdout,
)
from ocigrpc.cli.failures import Failed
from ocigrpc.cli.progress import progress
from ocigrpc.cli.session import with_client

if TYPE_CHECKING:
    from ocigrpc.client import Client

_STREAM = "-"

# As podman takes them, whose option has a value.
_VALUES = {
    f"{option}={value}": flag
    for option in ("-a", "--archive")
    for value, flag in (("true", "--archive"), ("false", "--no-archive"))
}


class _Cp(click.Command):
    """A command whose option ``--archive`` may have a value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [_VALUES.get(each, each) for each in args])


@click.command("cp", cls=_Cp)
@click.argument("source", metavar="SRC", type=click.Path(allow_dash=True))
@click.argument("target", metavar="DST", type=click.Path(allow_dash=True))
@click.option(
    "--archive/--no-archive",
    "-a",
    default=True,
    show_default=True,
    help="Give what is copied into a container to the user of its program; without it, owners"
    " stay the same numbers.",
)
@click.option("--follow-link", "-L", is_flag=True, help="Copy what a link at SRC leads to.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Let directories replace other files, and other files directories.",
)
@with_client
def cp(
    client: Client, source: str, target: str, archive: bool, follow_link: bool, overwrite: bool
) -> None:
    """Copy files into or out of a container, or between two.

    One of SRC and DST, or both, is CONTAINER:PATH. With '-' as the other one, it is a tar archive
    on standard input or output.

    If DST is a directory, what is copied gets its own name in it; a SRC that ends with '/.' stands
    for the content of a directory. Otherwise DST is its new name. What is copied out belongs to the
    caller, and devices are left out.
    """
    ways = Ways(follow_link, archive, overwrite)
    places = {each: _place(client, each) for each in (source, target) if each != _STREAM}
    if not any(isinstance(each, InContainer) for each in places.values()):
        raise click.UsageError("One of SRC and DST is CONTAINER:PATH.")
    if target == _STREAM:
        archive_to_stdout(places[source], ways)
    elif source == _STREAM:
        _unpack_stdin(places[target], ways)
    else:
        with progress(f"copying {source}"):
            _copy(places[source], places[target], ways)


def _unpack_stdin(target: Place, ways: Ways) -> None:
    directory, kind = target.target()
    if kind is not Kind.DIRECTORY:
        raise Failed(f"{target} is not a directory, as it has to be for an archive")
    target.write(directory, archive_from_stdin(), ways)


def _copy(source: Place, target: Place, ways: Ways) -> None:
    is_directory = source.source_kind(ways) is Kind.DIRECTORY
    directory, kind = target.target()
    name = source.own_name()
    if kind is not Kind.DIRECTORY:
        if is_directory and kind is Kind.OTHER:
            raise Failed(f"{source} is a directory, and {target} is not")
        if directory.endswith("/") and not is_directory:
            raise Failed(f"the directory {target} does not exist")
        above, _, name = directory.rstrip("/").rpartition("/")
        directory = above or "/"
    target.write(directory, source.read(name, ways), ways)


def _place(client: Client, text: str) -> Place:
    """The place that an argument names: as in docker, a path of one's own may begin with "./"."""
    name, colon, path = text.partition(":")
    if not colon or not name or "/" in name or name.startswith("."):
        return Local(text)
    path = path if path.startswith("/") else f"/{path}"
    return InContainer(client, name, resolve(client, name), path)
