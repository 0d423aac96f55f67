"""Talking to the first process of a container, until it ends or the user leaves."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import click

from ocigrpc.cli.failures import EXIT_OURS, complain
from ocigrpc.cli.parsed import Parsed
from ocigrpc.cli.programs import terminal, words
from ocigrpc.cli.programs.creation import adding
from ocigrpc.cli.programs.outages import is_outage, outlasting
from ocigrpc.cli.programs.relay import Relay
from ocigrpc.cli.programs.signals import Signals, leave
from ocigrpc.errors import ContainerNotFound, OcigrpcError, PreconditionFailed, WrongState

if TYPE_CHECKING:
    from ocigrpc.client import Client

# The longest that the service allows. As with podman, a pager or a pipe stops the program.
_BLOCK_LIMIT_S = 86_400

ATTACHING = adding(
    click.Option(
        ["--detach-keys"],
        default="ctrl-p,ctrl-q",
        show_default=True,
        type=Parsed("keys", words.keys),
        help="Leave a terminal with these, and let the container run. Empty: none.",
    ),
    click.Option(
        ["--sig-proxy/--no-sig-proxy", "is_proxy"],
        default=True,
        show_default=True,
        help="Send it the signals that this command gets, unless keys do.",
    ),
)


class Manner(NamedTuple):
    """How to talk to a container."""

    stdin: bool
    has_terminal: bool
    closes_stdin: bool
    """Whether the end of our input is that of the container's; a terminal gets Ctrl-D."""
    detach_keys: bytes
    is_proxy: bool


def talk(
    client: Client,
    container_id: str,
    manner: Manner,
    signals: Signals,
    begin: Callable[[], None] | None = None,
) -> None:
    """Relay until the container's output ends; ``begin`` is called when nothing can be missed.

    Raises ``Detached``, ``Interrupted``, and the failures of ``Relay.carry`` and of calls.
    """
    from google.protobuf.duration_pb2 import Duration

    from ocigrpc.v1.attach_pb2 import AttachRequest, AttachStart
    from ocigrpc.v1.terminal_pb2 import CloseStdin

    start = AttachStart(
        container_id=container_id,
        stdin=manner.stdin,
        stdout=True,
        stderr=True,
        terminal_size=terminal.size() if manner.has_terminal else None,
        block_timeout=Duration(seconds=_BLOCK_LIMIT_S),
    )
    end = None
    if manner.has_terminal:
        end = AttachRequest(stdin=b"\x04")
    elif manner.closes_stdin:
        end = AttachRequest(close_stdin=CloseStdin())
    relay = Relay(AttachRequest(start=start), end, detach_keys=manner.detach_keys)
    with relay:
        responses = client.attach(relay.requests())
        next(responses)
        if begin is not None:
            begin()
        is_proxy = manner.is_proxy and not relay.is_raw
        proxy = _Proxy(client, container_id)
        relay.carry(responses, signals, proxy if is_proxy else leave)


def see_through(
    client: Client,
    container_id: str,
    manner: Manner,
    signals: Signals,
    begin: Callable[[], None] | None = None,
) -> int:
    """Relay until the program's end, also when the service restarts; its exit status.

    ``begin`` and what is raised are as those of ``talk``.
    """
    from ocigrpc.v1 import container_pb2 as pb

    is_over = False
    while True:
        try:
            if not is_over:
                talk(client, container_id, manner, signals, begin)
            return exit_status(client, container_id)
        except OcigrpcError as error:
            if not is_outage(error):
                raise
        state = outlasting(lambda: client.container_status(container_id)).status.state
        is_over = state == pb.CONTAINER_STATE_STOPPED
        if state != pb.CONTAINER_STATE_CREATED:
            begin = None
            complain("the service was away: output may be missing here, the log has it")
        # The service has closed an input that ends with ours.
        manner = manner._replace(stdin=manner.stdin and not manner.closes_stdin)


class _Proxy:
    """Sends the signals of this process to a container, once that is started."""

    def __init__(self, client: Client, container_id: str) -> None:
        self._client = client
        self._container_id = container_id
        self._interrupts = 0

    def __call__(self, number: int) -> None:
        from ocigrpc.v1.container_pb2 import CONTAINER_STATE_CREATED

        self._interrupts += number == signal.SIGINT
        # A first process without a handler ignores SIGINT: whoever types Ctrl-C again means it.
        is_meant = number == signal.SIGINT and self._interrupts > 1
        # It may have ended meanwhile.
        with suppress(WrongState, PreconditionFailed, ContainerNotFound):
            status = outlasting(lambda: self._client.container_status(self._container_id)).status
            if status.state == CONTAINER_STATE_CREATED:
                # It would reach the runtime, which waits there with the program, and end it.
                leave(number)
            self._client.kill_container(self._container_id, "SIGKILL" if is_meant else str(number))


def exit_status(client: Client, container_id: str) -> int:
    """The exit code of a container's program, once it has one; 125 if that is unknown."""
    ended = client.wait_container(container_id)
    if ended.oom_killed:
        complain("the program was killed because memory ran out")
    if ended.HasField("exit_code"):
        return ended.exit_code
    complain(f"the exit code is unknown: {ended.message}")
    return EXIT_OURS
