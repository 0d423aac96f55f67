"""Images as people name them: by name, by id, or by the unique beginning of an id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from ocigrpc.cli.container_names import COMPLETION_PATIENCE_S, SHORT_ID, only_one
from ocigrpc.cli.session import Session
from ocigrpc.cli.views.filters import begins
from ocigrpc.errors import OcigrpcError
from ocigrpc.image_errors import ImageNotFound

if TYPE_CHECKING:
    from ocigrpc.client import Client


class ImageName(click.ParamType[str]):
    """The type of an argument that names an image; the shell completes it."""

    name = "image"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names and ids that begin so; none when no service answers."""
        try:
            with Session.of(ctx.find_root().params).connect(COMPLETION_PATIENCE_S) as client:
                images = list(client.list_images())
        except (OcigrpcError, click.UsageError, OSError):
            return []
        words = [name for each in images for name in each.names or [each.image_id[:SHORT_ID]]]
        words += [each.image_id for each in images if incomplete]
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


IMAGE = ImageName()


class ImageFirst(ImageName):
    """The type of arguments of which the first names an image, unless there is another source."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The same for the first; nothing for what is for the program."""
        given = ctx.params
        if given.get(param.name or "") or given.get("rootfs") or given.get("bundle"):
            return []
        return super().shell_complete(ctx, param, incomplete)


def resolve(client: Client, text: str) -> str:
    """A name or an id that the service knows, for what a user calls an image.

    Raises ``ImageNotFound``, ``Failed`` for the beginning of several ids.
    """
    try:
        client.image_status(text)
    except ImageNotFound as error:
        image_id = _id_that_begins(client, text)
        if not image_id:
            raise error from None
        return image_id
    return text


def _id_that_begins(client: Client, text: str) -> str:
    ids = (each.image_id for each in client.list_images())
    return only_one(text, (each for each in ids if begins(each, text)))
