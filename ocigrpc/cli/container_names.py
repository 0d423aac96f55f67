"""Containers as people name them: by name, by id, or by the unique beginning of an id."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from ocigrpc.cli.failures import Failed, call_it
from ocigrpc.cli.in_turn import in_turn
from ocigrpc.cli.session import Session
from ocigrpc.errors import ContainerNotFound, OcigrpcError

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.container_pb2 import ContainerState

# Ids that the message about an ambiguous one shows, each in its short form.
_SHOWN = 4
# Of a person who completes a word.
COMPLETION_PATIENCE_S = 1.0
SHORT_ID = 12


class ContainerName(click.ParamType[str]):
    """The type of an argument that names a container; the shell completes it."""

    name = "container"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names and ids that begin so; none when no service answers."""
        try:
            with Session.of(ctx.find_root().params).connect(COMPLETION_PATIENCE_S) as client:
                containers = list(client.list_containers())
        except (OcigrpcError, click.UsageError, OSError):
            return []
        words = [each.name or each.container_id[:SHORT_ID] for each in containers]
        words += [each.container_id for each in containers if incomplete]
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


CONTAINER = ContainerName()


def resolve(client: Client, text: str) -> str:
    """The id of the container that ``text`` names. Raises ``ContainerNotFound``, ``Failed``."""
    try:
        container_id = client.container_status(text).status.container_id
    except ContainerNotFound as error:
        container_id = _id_that_begins(client, text)
        if not container_id:
            raise error from None
    call_it(container_id, text)
    return container_id


def _id_that_begins(client: Client, text: str) -> str:
    """The only id that begins so; empty if there is none. Raises ``Failed`` for several."""
    # Imported here, since it loads gRPC.
    from ocigrpc.v1.runtime_pb2 import ContainerFilter

    beginning = client.list_containers(ContainerFilter(id_prefix=text)) if text else iter(())
    return only_one(text, (each.container_id for each in beginning))


def only_one(text: str, ids: Iterable[str]) -> str:
    """The only one of the ids that begin with ``text``, or "". Raises ``Failed`` for several."""
    first = list(islice(ids, _SHOWN + 1))
    if len(first) > 1:
        shown = ", ".join(
            [each[:SHORT_ID] for each in first[:_SHOWN]] + ["..."] * (len(first) > _SHOWN)
        )
        raise Failed(f"{text!r} is the beginning of several ids: {shown}")
    return first[0] if first else ""


def for_each(
    client: Client,
    names: Iterable[str],
    doing: str,
    act: Callable[[str], None],
    done: Callable[[str], None] = click.echo,
) -> int:
    """Do something with the id of each container, and then print its name, or do ``done`` with it.

    The exit status; see :func:`in_turn`.
    """
    return in_turn(names, doing, lambda name: act(resolve(client, name)), done)


def containers_or_all(what: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Arguments that name containers, or ``--all`` for all those that are ``what``.

    The command gets ``containers``, which is empty for all.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(command)
        def run(*, containers: tuple[str, ...], everyone: bool, **options: object) -> int:
            if everyone == bool(containers):
                raise click.UsageError("Name containers, or use --all, not both.")
            return command(containers=containers, **options)

        option = click.option("--all", "-a", "everyone", is_flag=True, help=f"All {what}.")
        return click.argument("containers", nargs=-1, type=CONTAINER)(option(run))

    return decorate


def ids_in(client: Client, states: Sequence[ContainerState]) -> Sequence[str]:
    """The ids of all containers in one of these states; in any, without states."""
    from ocigrpc.v1.runtime_pb2 import ContainerFilter

    wanted = ContainerFilter(states=states)
    return [each.container_id for each in client.list_containers(wanted)]
