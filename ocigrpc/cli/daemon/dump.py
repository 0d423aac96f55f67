"""What the service is doing, in its log: for somebody who thinks that it is stuck."""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from traceback import walk_stack
from types import FrameType

from ocigrpc.engine.engine import Engine
from ocigrpc.log import get_logger
from ocigrpc.rpc.server import Server

log = get_logger()

# Names that a line has of threads which are at the same place.
_NAMES = 8


def dump_threads() -> None:
    """Log the stacks of all threads, the innermost call first; equal ones are one line."""
    names: Mapping[int | None, str] = {each.ident: each.name for each in threading.enumerate()}
    at: defaultdict[Sequence[str], list[str]] = defaultdict(list)
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            at[_stack(frame)].append(names.get(ident, str(ident)))
    for stack, found in sorted(at.items(), key=lambda each: len(each[1])):
        threads = sorted(found)[:_NAMES]
        # A warning, since somebody who asks wants it at most levels.
        log.warning("dump.threads", count=len(found), threads=threads, stack=stack)


def dump(engine: Engine, server: Server) -> None:
    """Log the stacks, the calls that are running, and the verbs that containers are busy with.

    It waits for no lock, of which one may be why somebody asks.
    """
    dump_threads()
    now_ns = time.perf_counter_ns()
    for call in server.running():
        log.warning(
            "dump.call",
            rpc=call.method.name,
            request_id=call.request_id,
            listener=call.listener.address,
            running_ms=(now_ns - call.began_ns) // 1_000_000,
            left_s=call.deadline.remaining_s(),
        )
    for container_id, verb in sorted(engine.busy().items()):
        log.warning("dump.container", container_id=container_id, busy_with=verb)


def _stack(frame: FrameType) -> Sequence[str]:
    return tuple(
        f"{each.f_globals.get('__name__')}:{line} {each.f_code.co_name}"
        for each, line in walk_stack(frame)
    )
