"""The command ``exec``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ocigrpc.cli.container_names import CONTAINER, resolve
from ocigrpc.cli.failures import EXIT_BY_SIGNAL, EXIT_OURS, Failed
from ocigrpc.cli.programs import creation
from ocigrpc.cli.programs import terminal as terminals
from ocigrpc.cli.programs.relay import Relay
from ocigrpc.cli.programs.signals import Interrupted, Signals, leave
from ocigrpc.cli.progress import progress
from ocigrpc.cli.session import with_client

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.exec_pb2 import ExecExit, ExecResponse, ExecStart


@creation.adding(
    creation.INTERACTIVE,
    creation.TERMINAL,
    creation.ENV,
    creation.ENV_FILE,
    creation.WORKDIR,
    creation.USER,
)
@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("container", type=CONTAINER)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--detach", "-d", is_flag=True, help="End when it runs, and leave it to itself.")
@with_client
def exec_command(
    client: Client,
    container: str,
    command: tuple[str, ...],
    detach: bool,
    interactive: bool,
    terminal: bool,
    env: Sequence[tuple[str, str | None]],
    env_file: Sequence[dict[str, str]],
    workdir: str,
    user: str,
) -> int:
    """Run one more program in a running container, and end as it does.

    The exit status is as that of run. The program is killed when the command ends before it. With
    -d it has no input, its output goes nowhere, and the exit status is 0 once it runs.
    """
    from ocigrpc.v1.exec_pb2 import ExecProcess, ExecStart

    start = ExecStart(
        container_id=resolve(client, container),
        process=ExecProcess(
            command=command,
            env=creation.environment(env_file, env),
            working_dir=workdir,
            user=user,
        ),
        stdin=interactive and not detach,
        terminal=terminal,
        terminal_size=terminals.size() if terminal else None,
        detach=detach,
    )
    if detach:
        return _run_alone(client, start)
    try:
        return _run(client, start)
    except Interrupted as interrupted:
        return EXIT_BY_SIGNAL + interrupted.number


def _run_alone(client: Client, start: ExecStart) -> int:
    from ocigrpc.v1.exec_pb2 import ExecRequest

    with progress("starting"):
        for response in client.exec([ExecRequest(start=start)]):
            if response.HasField("started"):
                return 0
    raise Failed("the service did not say that the program has started", EXIT_OURS)


def _run(client: Client, start: ExecStart) -> int:
    from ocigrpc.v1.exec_pb2 import ExecRequest
    from ocigrpc.v1.terminal_pb2 import CloseStdin

    exits: list[ExecExit] = []

    def noting_the_exit(responses: Iterator[ExecResponse]) -> Iterator[ExecResponse]:
        for response in responses:
            if response.HasField("exit"):
                exits.append(response.exit)
            yield response

    end = ExecRequest(close_stdin=CloseStdin())
    with Signals() as signals, Relay(ExecRequest(start=start), end) as relay:
        relay.carry(noting_the_exit(client.exec(relay.requests())), signals, leave)
    if not exits:
        raise Failed("the service did not say how the program ended", EXIT_OURS)
    return exits[0].exit_code
