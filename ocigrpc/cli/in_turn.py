"""Something done with each of several names, whatever becomes of those before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext

import click

from ocigrpc.cli.failures import EXIT_FAILED, Failed, complain, explain
from ocigrpc.cli.progress import progress
from ocigrpc.cli.session import session
from ocigrpc.errors import OcigrpcError


def _status_of(failure: OcigrpcError | Failed) -> int:
    return failure.status if isinstance(failure, Failed) else EXIT_FAILED


def in_turn(
    names: Iterable[str],
    doing: str | None,
    act: Callable[[str], None],
    done: Callable[[str], None] = click.echo,
    status_of: Callable[[OcigrpcError | Failed], int] = _status_of,
) -> int:
    """Do ``act`` with each name, and then print it, or do ``done`` with it; the exit status.

    ``doing`` is for people who wait, as in "stopping"; None if ``act`` shows that itself. A name
    that it can't be done with is complained about, and the others get their turn; the largest
    ``status_of`` a failure is that of all.
    """
    status = 0
    for name in names:
        try:
            with progress(f"{doing} {name}") if doing else nullcontext():
                act(name)
        except OcigrpcError as error:
            explain(error, debug=session().debug)
            status = max(status, status_of(error))
        except Failed as failure:
            complain(failure.message)
            status = max(status, status_of(failure))
        else:
            done(name)
    return status
