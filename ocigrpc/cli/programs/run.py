"""The commands ``run`` and ``create``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import click

from ocigrpc.cli.failures import EXIT_BY_SIGNAL, complain, said
from ocigrpc.cli.images.image_names import ImageFirst
from ocigrpc.cli.programs.attaching import ATTACHING, Manner, see_through
from ocigrpc.cli.programs.creation import CREATING, CreateOptions, creation
from ocigrpc.cli.programs.outages import outlasting
from ocigrpc.cli.programs.relay import Detached
from ocigrpc.cli.programs.signals import Interrupted, Signals
from ocigrpc.cli.progress import progress
from ocigrpc.cli.session import with_client
from ocigrpc.errors import OcigrpcError

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.runtime_pb2 import CreateContainerRequest

# What follows the name of the program is for the program.
_SETTINGS = {"allow_interspersed_args": False}

# How long a removal may take at the end; whoever waits for that can't interrupt it.
_REMOVE_LIMIT_S = 15.0


@ATTACHING
@CREATING
@click.command("run", context_settings=_SETTINGS)
@click.argument("command", nargs=-1, type=ImageFirst(), metavar="[IMAGE] [COMMAND]...")
@click.option("--detach", "-d", is_flag=True, help="Print its id, and leave it to itself.")
@click.option("--rm", "remove", is_flag=True, help="Remove it at the end, whichever that is.")
@with_client
def run(
    client: Client,
    command: tuple[str, ...],
    detach: bool,
    remove: bool,
    detach_keys: bytes,
    is_proxy: bool,
    **options: Unpack[CreateOptions],
) -> int:
    """Run a program in a new container, and end as it does.

    Without --rootfs and --bundle the first word is the IMAGE that the container is made of; without
    a COMMAND it runs what the image says.

    The exit status is the program's, 128+N if signal N ended it; 126 or 127 if it can't be run or
    is not found, and 125 for other failures.

    Signals are sent to the program; the second SIGINT kills it. With -i and -t the keys are, and a
    signal ends the command alone. A container outlives a command that is ended or detached from;
    with --rm it lives as long as the command, unless that is detached from or killed by SIGKILL.
    With -d and --rm the service removes it when it has ended.
    """
    request = creation(client, command, options)
    if detach:
        request.auto_remove = remove
        return _run_alone(client, request)
    request.stdin_once = request.stdin and not request.terminal
    manner = Manner(
        stdin=request.stdin,
        has_terminal=request.terminal,
        closes_stdin=request.stdin_once,
        detach_keys=detach_keys,
        is_proxy=is_proxy,
    )
    try:
        return _run_attached(client, request, manner, remove)
    except Interrupted as interrupted:
        return EXIT_BY_SIGNAL + interrupted.number


def _run_alone(client: Client, request: CreateContainerRequest) -> int:
    request.start = True
    try:
        with progress("starting"):
            client.create_container(request)
    except (OcigrpcError, KeyboardInterrupt):
        # It may wait to be started, and would never end.
        if request.auto_remove:
            _remove(client, request)
        raise
    click.echo(request.container_id)
    return 0


def _run_attached(
    client: Client, request: CreateContainerRequest, manner: Manner, remove: bool
) -> int:
    is_kept = not remove
    with Signals() as signals:
        # Two blocks, since a signal may come just before it would be ignored.
        try:
            try:
                return _to_the_end(client, request, manner, signals)
            except Detached:
                is_kept = True
                if remove:
                    complain(f"detached: {request.container_id} is not removed at its end")
                return 0
            finally:
                signals.ignore()
        finally:
            if not is_kept:
                _remove(client, request)


def _to_the_end(
    client: Client, request: CreateContainerRequest, manner: Manner, signals: Signals
) -> int:
    container_id = request.container_id
    with progress("creating"):
        client.create_container(request)
    if request.bundle_path:
        made = client.container_status(container_id).status
        manner = manner._replace(has_terminal=made.terminal)
    return see_through(
        client, container_id, manner, signals, lambda: client.start_container(container_id)
    )


def _remove(client: Client, request: CreateContainerRequest) -> None:
    """Remove the container, or say that it is left: a failure before this is what counts."""
    container_id = request.container_id
    try:
        outlasting(
            lambda: client.remove_container(container_id, force=True, timeout_s=_REMOVE_LIMIT_S)
        )
    except OcigrpcError as error:
        complain(f"container {request.name or container_id} is not removed: {said(error)}")


@CREATING
@click.command("create", context_settings=_SETTINGS)
@click.argument("command", nargs=-1, type=ImageFirst(), metavar="[IMAGE] [COMMAND]...")
@click.option("--rm", "remove", is_flag=True, help="Have it removed when it has ended.")
@with_client
def create(
    client: Client, command: tuple[str, ...], remove: bool, **options: Unpack[CreateOptions]
) -> None:
    """Create a container that is ready to start, and print its id."""
    request = creation(client, command, options)
    request.auto_remove = remove
    with progress("creating"):
        client.create_container(request)
    click.echo(request.container_id)
