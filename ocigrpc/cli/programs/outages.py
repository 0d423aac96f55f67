"""Going on with a service that was away for a moment, as it is when it restarts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ocigrpc.cli.progress import progress
from ocigrpc.errors import Cancelled, OcigrpcError, Recovering, ShuttingDown
from ocigrpc.waiting import Deadline

_T = TypeVar("_T")

# A restart takes a second or two, and systemd begins it a second after the end.
_LIMIT_S = 10.0
_PAUSE_S = 0.2


def is_outage(error: OcigrpcError) -> bool:
    """Whether a call failed because the service is away, and may work when it is back."""
    # Imported here, since it loads gRPC.
    from ocigrpc.client import Unreachable

    # We cancel nothing that we wait for: a service that ends does, with streams.
    return isinstance(error, Unreachable | ShuttingDown | Recovering | Cancelled)


def outlasting(call: Callable[[], _T]) -> _T:
    """What a call returns, which is repeated for some seconds while the service is away."""
    try:
        return call()
    except OcigrpcError as error:
        if not is_outage(error):
            raise
    with progress("waiting for the service"):
        return _repeated(call, Deadline(_LIMIT_S))


def _repeated(call: Callable[[], _T], deadline: Deadline) -> _T:
    while True:
        time.sleep(_PAUSE_S)
        try:
            return call()
        except OcigrpcError as error:
            if not is_outage(error) or not deadline.remaining_s():
                raise
