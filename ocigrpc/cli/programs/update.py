"""The command ``update``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import click

from ocigrpc.cli.container_names import CONTAINER, for_each
from ocigrpc.cli.programs.creation import adding
from ocigrpc.cli.programs.limits import LIMIT_OPTIONS, LimitOptions, resources_of
from ocigrpc.cli.session import with_client

if TYPE_CHECKING:
    from ocigrpc.client import Client


@adding(*LIMIT_OPTIONS)
@click.command("update")
@click.argument("containers", nargs=-1, required=True, type=CONTAINER)
@with_client
def update(client: Client, containers: tuple[str, ...], **limits: Unpack[LimitOptions]) -> int:
    """Change limits of containers; those that are not named stay as they are."""
    resources = resources_of(limits)
    if resources is None:
        raise click.UsageError("A limit is needed.", click.get_current_context())

    def change(container_id: str) -> None:
        client.update_container_resources(container_id, resources)

    return for_each(client, containers, "updating", change)
