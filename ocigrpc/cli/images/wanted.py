"""The images that ``run`` and ``create`` make containers of, pulled if need be."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import click

from ocigrpc.cli.failures import Failed, complain, said
from ocigrpc.cli.images.auth import auth_of
from ocigrpc.cli.images.entries import platform_words
from ocigrpc.cli.images.image_names import resolve
from ocigrpc.cli.images.pull import PlatformName, pulled
from ocigrpc.errors import OcigrpcError
from ocigrpc.image_errors import ImageNotFound

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.image_pb2 import Platform

ALWAYS, MISSING, NEVER, NEWER = "always", "missing", "never", "newer"


class PullOptions(TypedDict):
    """The values of ``PULL_OPTIONS``."""

    pull: str
    platform: Platform | None
    authfile: str | None
    quiet: bool


PULL_OPTIONS = (
    click.Option(
        ["--pull"],
        type=click.Choice([MISSING, ALWAYS, NEVER, NEWER]),
        default=MISSING,
        show_default=True,
        help="When to pull IMAGE. newer: as always; if that fails, the one that is there is used.",
    ),
    click.Option(
        ["--platform"],
        type=PlatformName(),
        metavar="OS/ARCH[/VARIANT]",
        help="What IMAGE is to be for. Default: the service's node.",
    ),
    click.Option(
        ["--authfile"],
        type=click.Path(exists=True, dir_okay=False),
        help="A file with logins for registries. Default: as `pull` has it.",
    ),
    click.Option(["--quiet", "-q"], is_flag=True, help="Show nothing of a pull."),
)


def wanted_image(client: Client, text: str, options: PullOptions) -> str:
    """A name or an id that the service knows, of an image that is there.

    Raises ``ImageNotFound``, ``Failed`` for one of another platform that may not be pulled, and
    what keeps it from being pulled.
    """
    pull = options["pull"]
    if pull in (MISSING, NEVER):
        try:
            return _there(client, text, options["platform"])
        except (ImageNotFound, _OfOther):
            if pull == NEVER:
                raise
    try:
        # Its id: by then, the name may be another image's.
        return _pulled(client, text, options)
    except OcigrpcError as error:
        if pull != NEWER:
            raise
        try:
            image = _there(client, text, options["platform"])
        except (ImageNotFound, _OfOther):
            raise error from None
        complain(f"{said(error)}; the image that is there is used")
        return image


class _OfOther(Failed):
    """An image is there, and is not for the platform that is wanted."""


def _there(client: Client, text: str, platform: Platform | None) -> str:
    """The image that is there. Raises ``ImageNotFound`` and ``_OfOther``."""
    known = resolve(client, text)
    if platform is None:
        return known
    image = client.image_status(known).image
    own = image.platform
    fits = (own.os, own.architecture) == (platform.os, platform.architecture)
    if not fits or platform.variant not in ("", own.variant):
        raise _OfOther(f"image {text!r} is for {platform_words(own)}")
    return image.image_id


def _pulled(client: Client, text: str, options: PullOptions) -> str:
    auth = auth_of(None, options["authfile"])
    messages = client.pull_image(text, platform=options["platform"], auth=auth)
    return pulled(messages, quiet=options["quiet"])
