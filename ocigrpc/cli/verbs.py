"""The commands that change the state of containers, or wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ocigrpc.cli.container_names import (
    CONTAINER,
    containers_or_all,
    for_each,
    ids_in,
    resolve,
)
from ocigrpc.cli.failures import EXIT_OURS, complain
from ocigrpc.cli.parsed import Parsed, Seconds
from ocigrpc.cli.session import with_client

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.container_pb2 import ContainerState

# A year, as good as for ever.
_LONGEST_S = 365 * 86400


def _signal(text: str) -> str:
    # To the service no signal is the default one.
    if not text:
        raise ValueError("a signal has a name or a number")
    return text


@click.command("start")
@containers_or_all("created containers")
@with_client
def start(client: Client, containers: tuple[str, ...]) -> int:
    """Start the programs of created containers."""
    from ocigrpc.v1.container_pb2 import CONTAINER_STATE_CREATED

    names = containers or ids_in(client, [CONTAINER_STATE_CREATED])
    return for_each(client, names, "starting", client.start_container)


@click.command("pause")
@containers_or_all("running containers")
@with_client
def pause(client: Client, containers: tuple[str, ...]) -> int:
    """Freeze every process of containers."""
    from ocigrpc.v1.container_pb2 import CONTAINER_STATE_RUNNING

    names = containers or ids_in(client, [CONTAINER_STATE_RUNNING])
    return for_each(client, names, "pausing", client.pause_container)


@click.command("resume")
@containers_or_all("paused containers")
@with_client
def resume(client: Client, containers: tuple[str, ...]) -> int:
    """Let paused containers run on."""
    from ocigrpc.v1.container_pb2 import CONTAINER_STATE_PAUSED

    names = containers or ids_in(client, [CONTAINER_STATE_PAUSED])
    return for_each(client, names, "resuming", client.resume_container)


@click.command("stop")
@containers_or_all("containers that have not stopped")
@click.option(
    "--time",
    "--timeout",
    "-t",
    "timeout_s",
    type=Seconds(0, _LONGEST_S),
    metavar="SECONDS",
    help="How long the program may take after its stop signal, until it is killed."
    " Default: the service's setting.",
)
@with_client
def stop(client: Client, containers: tuple[str, ...], timeout_s: float | None) -> int:
    """End containers: the stop signal, and SIGKILL when the time is over."""
    names = containers or ids_in(client, _living())
    return for_each(client, names, "stopping", lambda each: client.stop_container(each, timeout_s))


@click.command("kill")
@containers_or_all("running and paused containers")
@click.option(
    "--signal",
    "-s",
    type=Parsed("signal", _signal),
    default="KILL",
    show_default=True,
    help="By name or number.",
)
@with_client
def kill(client: Client, containers: tuple[str, ...], signal: str) -> int:
    """Send a signal to the first process of containers."""
    names = containers or ids_in(client, _living()[1:])
    return for_each(client, names, "killing", lambda each: client.kill_container(each, signal))


@click.command("rm")
@containers_or_all("containers that are not running, with --force all")
@click.option("--force", "-f", is_flag=True, help="Kill the container first if it lives.")
@click.option("--volumes", "-v", is_flag=True, expose_value=False, help="Nothing: it has none.")
@with_client
def rm(client: Client, containers: tuple[str, ...], force: bool) -> int:
    """Remove containers and everything that was made for them."""
    from ocigrpc.v1 import container_pb2 as pb

    states = [] if force else [pb.CONTAINER_STATE_CREATED, pb.CONTAINER_STATE_STOPPED]
    names = containers or ids_in(client, states)
    return for_each(
        client, names, "removing", lambda each: client.remove_container(each, force=force)
    )


@click.command("wait")
@click.argument("containers", nargs=-1, required=True, type=CONTAINER)
@with_client
def wait(client: Client, containers: tuple[str, ...]) -> int:
    """Wait until containers have ended, and print their exit codes.

    The exit status is the exit code of the last container, 125 if that is unknown.
    """
    status = 0
    for container_id in [resolve(client, name) for name in containers]:
        ended = client.wait_container(container_id)
        if ended.HasField("exit_code"):
            status = ended.exit_code
            click.echo(status)
        else:
            status = EXIT_OURS
            complain(f"the exit code is unknown: {ended.message}")
            click.echo("unknown")
    return status


def _living() -> list[ContainerState]:
    from ocigrpc.v1 import container_pb2 as pb

    return [
        pb.CONTAINER_STATE_CREATED,
        pb.CONTAINER_STATE_RUNNING,
        pb.CONTAINER_STATE_PAUSED,
        pb.CONTAINER_STATE_UNKNOWN,
    ]
