"""The command ``attach``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ocigrpc.cli.container_names import CONTAINER, resolve
from ocigrpc.cli.failures import EXIT_BY_SIGNAL
from ocigrpc.cli.programs.attaching import ATTACHING, Manner, see_through
from ocigrpc.cli.programs.relay import Detached
from ocigrpc.cli.programs.signals import Interrupted, Signals
from ocigrpc.cli.session import with_client

if TYPE_CHECKING:
    from ocigrpc.client import Client


@ATTACHING
@click.command("attach")
@click.argument("container", type=CONTAINER)
@click.option("--no-stdin", is_flag=True, help="Send it no input.")
@with_client
def attach(
    client: Client, container: str, no_stdin: bool, detach_keys: bytes, is_proxy: bool
) -> int:
    """Connect with the program of a container, and end as it does.

    The exit status is as that of run. The end of the input is not passed on, but typed as Ctrl-D at
    a terminal. A signal that is not sent to the program, and the detach keys, leave it running;
    signals are not sent before it is started.
    """
    status = client.container_status(resolve(client, container)).status
    manner = Manner(
        stdin=status.stdin and not no_stdin,
        has_terminal=status.terminal,
        closes_stdin=False,
        detach_keys=detach_keys,
        is_proxy=is_proxy,
    )
    try:
        with Signals() as signals:
            return see_through(client, status.container_id, manner, signals)
    except Detached:
        return 0
    except Interrupted as interrupted:
        return EXIT_BY_SIGNAL + interrupted.number
