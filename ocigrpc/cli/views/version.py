"""The command ``version``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ocigrpc import __version__
from ocigrpc.cli.progress import progress
from ocigrpc.cli.session import session
from ocigrpc.cli.views.output import output_option, write, write_lines
from ocigrpc.errors import OcigrpcError

if TYPE_CHECKING:
    from ocigrpc.v1.runtime_pb2 import VersionResponse


@click.command("version")
@output_option("text", "json", "yaml")
def version(output: str) -> None:
    """Print the versions of this command, of the service, and of the programs that it runs.

    Without a service, its own version, and exit status 1.
    """
    try:
        with progress("asking the service"), session().connect() as client:
            service = client.version()
    except OcigrpcError:
        _write(output, None)
        raise
    _write(output, service)


def _write(output: str, service: VersionResponse | None) -> None:
    if output != "text":
        found: dict[str, object] = {"client": {"version": __version__, "runtime_api_version": "v1"}}
        write(output, found | ({"service": service} if service else {}))
        return
    lines = [f"client:   {__version__}"]
    if service:
        lines.append(f"service:  {service.runtime_version}, API {service.runtime_api_version}")
        lines.append(f"monitor:  {service.conmon_version or 'missing'}")
        lines += [
            f"runtime:  {each.version or 'missing'}, as {each.name} at {each.path}"
            for each in service.runtime_handlers
        ]
    write_lines(lines)
