"""The command ``inspect``."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ocigrpc.cli.container_names import CONTAINER, for_each
from ocigrpc.cli.session import with_client
from ocigrpc.cli.views.containers import TITLES, fields
from ocigrpc.cli.views.output import output_option, write
from ocigrpc.cli.views.template import format_option, write_formatted

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.runtime_pb2 import ContainerStatusResponse

# The fields of the answer, beside those that ps has.
_PARTS = ("status", "spec", "resources", "restart_safe", "info")


@click.command("inspect")
@click.argument("containers", nargs=-1, required=True, type=CONTAINER)
@click.option("--verbose", "-v", is_flag=True, help="Also what the OCI runtime says; slower.")
@format_option([*TITLES, *_PARTS], "-f")
@output_option("json", "yaml")
@with_client
def inspect(
    client: Client,
    containers: tuple[str, ...],
    verbose: bool,
    template: str | None,
    output: str,
) -> int:
    """Print all that is known of containers, as a list of ContainerStatusResponse of the API.

    Templates reach what is inside it by dots, as in '{{.status.log_path}}'.
    """
    if template == "json":
        template = None
    if template is not None and output != "json":
        raise click.UsageError("--format and --output exclude each other.")
    found: list[ContainerStatusResponse] = []

    def look(container_id: str) -> None:
        found.append(client.container_status(container_id, verbose=verbose))

    status = for_each(client, containers, "inspecting", look, lambda name: None)
    if template is None:
        write(output, found)
    else:
        titles = {**TITLES, **{part: part.upper() for part in _PARTS}}
        write_formatted(template, titles, map(_values, found))
    return status


def _values(found: ContainerStatusResponse) -> Mapping[str, object]:
    command = shlex.join(found.spec.command)
    parts = {name: getattr(found, name) for name in _PARTS}
    return {**fields(found.status, command, time.time(), whole=True), **parts}
