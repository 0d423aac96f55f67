"""The commands ``save`` and ``load``: images as archives, which other programs have as well."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, BinaryIO

import click

from ocigrpc.cli.backup import new_file
from ocigrpc.cli.failures import Failed
from ocigrpc.cli.images.image_names import IMAGE, resolve
from ocigrpc.cli.progress import progress
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.filters import ALGORITHM
from ocigrpc.cli.views.output import write_lines
from ocigrpc.errors import InvalidArgument

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.image_pb2 import ImageSummary

_PIECE_BYTES = 256 << 10


@click.command("save")
@click.argument("image", type=IMAGE)
@click.option(
    "--output",
    "-o",
    "path",
    type=click.Path(dir_okay=False),
    help="The archive, which gets its name when it is whole. Default: standard output.",
)
@click.option("--force", "-f", is_flag=True, help="Replace it, if it exists.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["docker-archive", "oci-archive"]),
    default="docker-archive",
    show_default=True,
    help="The form: what docker saves, or an OCI layout.",
)
@click.option("--quiet", "-q", is_flag=True, expose_value=False, help="Nothing: it says nothing.")
@with_client
def save(client: Client, image: str, path: str | None, force: bool, form: str) -> None:
    """Save an image as an archive, with its name if it is named by that.

    What standard output gets is whole if the exit status is 0.
    """
    # Imported here, since it loads protobuf.
    from ocigrpc.v1 import image_pb2 as pb

    if path is None and sys.stdout.isatty():
        raise click.UsageError("An archive is not for a terminal: redirect it, or use --output.")
    forms = {"docker-archive": pb.ARCHIVE_FORMAT_DOCKER, "oci-archive": pb.ARCHIVE_FORMAT_OCI}
    with client.save_image(resolve(client, image), forms[form]) as pieces:
        if path is None:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            return
        with progress(f"saving {image}"), new_file(os.path.realpath(path), force) as saved:
            for piece in pieces:
                saved.write(piece)


@click.command("load")
@click.option(
    "--input",
    "-i",
    "path",
    type=click.Path(exists=True, dir_okay=False),
    help="The archive. Default: standard input.",
)
@click.option("--name", default="", help="What the image is called, instead of its own names.")
@click.option("--quiet", "-q", is_flag=True, help="Print names alone.")
@with_client
def load(client: Client, path: str | None, name: str, quiet: bool) -> None:
    """Load the images of an archive: of 'save' of docker and podman, or an OCI layout.

    It may be compressed by gzip, bzip2, xz or zstd.
    """
    if path is None and sys.stdin.isatty():
        raise click.UsageError("An archive does not come from a terminal: name it with --input.")
    with (
        open(path, "rb") if path is not None else nullcontext(sys.stdin.buffer) as archive,
        progress(f"loading {path or 'the archive'}"),
    ):
        loaded = _loaded(client, archive, name, path or "standard input")
    names = [each for image in loaded for each in image.names or [ALGORITHM + image.image_id]]
    write_lines(each if quiet else f"Loaded image: {each}" for each in names)


def _loaded(client: Client, archive: BinaryIO, name: str, place: str) -> Sequence[ImageSummary]:
    """The images of an archive. Raises ``Failed`` if it is none."""
    try:
        return client.load_image(_pieces(archive), name).images
    except InvalidArgument as error:
        if error.reason != "ARCHIVE_MALFORMED":
            raise
        problem = error.violations[0].description
        raise Failed(f"{place} is no archive of images: {problem}") from None


def _pieces(archive: BinaryIO) -> Iterator[bytes]:
    while piece := archive.read(_PIECE_BYTES):
        yield piece
