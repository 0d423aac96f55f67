"""Has health checks follow what the service can do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ocigrpc.errors import OcigrpcError
from ocigrpc.log import get_logger
from ocigrpc.rpc.server import Server
from ocigrpc.waiting import Deadline

log = get_logger()

_INTERVAL_S = 1.0

# How long a look may wait for what has the store. A disk that stalls for a moment is slow, and
# likely to do so again, but what clients want is done.
_LOOK_LIMIT_S = 5.0

# How many looks in a row have to find that all works after one did not, so that the answer does
# not change again and again, and clients with it.
_STEADY_LOOKS = 5

# How long the last look may take when the service ends.
_END_LIMIT_S = 1.0


@contextmanager
def followed_health(server: Server, require_serving: Callable[[Deadline], None]) -> Iterator[None]:
    """In the block, health checks are answered NOT_SERVING while ``require_serving`` raises.

    And until it has not for some seconds.
    """
    ending = threading.Event()
    arguments = (server, require_serving, ending)
    thread = threading.Thread(target=_follow, args=arguments, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        # If the disk hangs, it must not delay the end.
        thread.join(_END_LIMIT_S)


def _follow(
    server: Server, require_serving: Callable[[Deadline], None], ending: threading.Event
) -> None:
    serves, worked = True, 0
    while not ending.wait(_INTERVAL_S):
        did, works = serves, False
        try:
            require_serving(Deadline(_LOOK_LIMIT_S))
            works = True
        except OcigrpcError as error:
            if did:
                log.warning("health.not_serving", reason=error.reason, error=error.message)
        except Exception:
            if did:
                log.error("health.not_serving", reason="UNEXPECTED", exc_info=True)
        worked = worked + 1 if works else 0
        serves = works and (did or worked >= _STEADY_LOOKS)
        if serves and not did:
            log.info("health.serving")
        if serves != did:
            server.show_health(serving=serves)
