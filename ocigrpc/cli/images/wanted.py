"""The images that ``run`` and ``create`` make containers of, pulled if need be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ocigrpc.cli.images.auth import auth_of
from ocigrpc.cli.images.image_names import resolve
from ocigrpc.cli.images.pull import pulled
from ocigrpc.image_errors import ImageNotFound

if TYPE_CHECKING:
    from ocigrpc.client import Client

ALWAYS, MISSING, NEVER = "always", "missing", "never"

PULL = click.Option(
    ["--pull"],
    type=click.Choice([MISSING, ALWAYS, NEVER]),
    default=MISSING,
    show_default=True,
    help="When to pull IMAGE, with the logins that `pull` would use.",
)


def wanted_image(client: Client, text: str, pull: str) -> str:
    """A name or an id that the service knows, of an image that is there.

    Raises ``ImageNotFound``, and what keeps it from being pulled.
    """
    if pull != ALWAYS:
        try:
            return resolve(client, text)
        except ImageNotFound:
            if pull == NEVER:
                raise
    # Its id: a short name may have been that of another registry than the service looks at.
    return pulled(client.pull_image(text, auth=auth_of(None, None)), quiet=False)
