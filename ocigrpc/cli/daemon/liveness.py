"""Proves to the init system that the service works: it calls itself, and reads its store."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import grpc
from grpc_health.v1 import health_pb2

from ocigrpc.cli.daemon.notify import notify
from ocigrpc.engine.model.values import State
from ocigrpc.errors import OcigrpcError
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

log = get_logger()

_Check: TypeAlias = (
    "grpc.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]"
)

# The shares of the time that the init system waits: of a round, and of the pause before the
# next if it has failed.
_ROUND, _PAUSE = 1 / 4, 1 / 20
_RECONNECT_MS = 1000
# How long the last round may take when the service ends.
_END_TIMEOUT_S = 5.0


@contextmanager
def watched(address: str, states: Callable[[Deadline], Iterable[State]]) -> Iterator[None]:
    """In the block, ping the init system after each round in which the service has worked.

    A round is a health check at ``address``, one of the service's own, and ``states``, which
    reads the store and returns the states of all containers; their number is its status. It
    fails when it takes longer than a quarter of the time that the init system waits for a ping.
    The next one is as long after it, or soon if it has failed, so that the service may once be
    too slow. Without a watchdog, there is none; see sd_watchdog_enabled(3).
    """
    timeout_s = _watchdog_s()
    if not timeout_s:
        yield
        return
    ending = threading.Event()
    arguments = (address, states, timeout_s, ending)
    thread = threading.Thread(target=_watch, args=arguments, name="liveness", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        # A round that hangs must not delay the end.
        thread.join(_END_TIMEOUT_S)


def _watchdog_s() -> float:
    """How long the init system waits for a ping; 0 if it does not wait for any."""
    wanted = os.environ.get("WATCHDOG_PID", "")
    if wanted and wanted != str(os.getpid()):
        return 0.0
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0


def _watch(
    address: str,
    states: Callable[[Deadline], Iterable[State]],
    timeout_s: float,
    ending: threading.Event,
) -> None:
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        # Later rounds must not fail because one could not connect.
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),
    ]
    with grpc.insecure_channel(address, options) as channel:
        check: _Check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        while not ending.is_set():
            worked = _round(check, states, Deadline(timeout_s * _ROUND))
            ending.wait(timeout_s * (_ROUND if worked else _PAUSE))


def _round(
    check: _Check, states: Callable[[Deadline], Iterable[State]], deadline: Deadline
) -> bool:
    """Ping the init system if the service works; whether it does."""
    try:
        _call(check, deadline)
        counted = _counted(states(deadline))
    except grpc.RpcError as error:
        log.warning("liveness.failed", code=error.code().name, error=error.details())
    except OcigrpcError as error:
        log.warning("liveness.failed", reason=error.reason, error=error.message)
    except Exception:
        log.error("liveness.failed", reason="UNEXPECTED", exc_info=True)
    else:
        notify(f"WATCHDOG=1\nSTATUS=Ready; {counted}")
        return True
    return False


def _call(check: _Check, deadline: Deadline) -> None:
    """Raise ``grpc.RpcError`` unless the service answers."""
    try:
        check(health_pb2.HealthCheckRequest(), timeout=deadline.remaining_s())
    except grpc.RpcError as error:
        # That is an answer as well: clients have all threads, as they may, and the thread that
        # takes their calls has given it. While that one hangs, grpc's core refuses calls by itself
        # once thousands wait, but as CANCELLED.
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise


def _counted(states: Iterable[State]) -> str:
    numbers = Counter(states)
    parts = [f"{numbers[state]} {state.value}" for state in State if numbers[state]]
    return f"containers: {', '.join(parts) or 'none'}"
