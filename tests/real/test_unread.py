"""Clients that do not read hold up nobody else: neither other clients nor the end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from ocigrpc.service.methods import SERVICE_NAME
from tests.bed.clients.followers import unread
from tests.bed.hosts.usage import usage_of
from tests.real.conftest import StartService
from tests.rpc.running import SERVICE_UNKNOWN, SERVING, check, watch

HEALTH = "grpc.health.v1.Health/Watch"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
EVENTS = f"{SERVICE_NAME}/WatchEvents"

# A third of the time that calls have to finish, which is 30 s.
END_LIMIT_S = 10.0


def test_a_watch_of_health_at_a_read_only_socket_delays_no_check(
    start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(readonly_socket_path=tmp_path / "ro")
    with unread(tmp_path / "ro", HEALTH, 3):
        assert check(service.channel).status == SERVING
        assert check(service.channel, SERVICE_NAME).status == SERVING
        changes = watch(service.channel)
        assert next(changes).status == SERVING
        changes.cancel()


@pytest.mark.parametrize(
    ("rpc", "request_"),
    [
        (HEALTH, HealthCheckRequest()),
        (REFLECTION, ServerReflectionRequest(list_services="*")),
        (EVENTS, None),
    ],
)
def test_a_stream_that_is_not_read_delays_the_end_for_a_moment(
    start_service: StartService, rpc: str, request_: HealthCheckRequest | None
) -> None:
    service = start_service()
    message = request_.SerializeToString() if request_ is not None else b""
    with unread(service.directory / "socket", rpc, 3, message):
        began_s = time.monotonic()
        service.end()
        assert time.monotonic() - began_s < END_LIMIT_S


def test_such_a_stream_ends_because_the_service_does(start_service: StartService) -> None:
    service = start_service(log_calls="all")
    with unread(service.directory / "socket", EVENTS):
        service.end()
    (line,) = [each for each in service.events() if each.get("rpc") == "WatchEvents"]
    assert line["reason"] == "SHUTTING_DOWN"


def test_no_name_that_was_watched_is_kept(start_service: StartService) -> None:
    service = start_service()

    def watch_names(count: int) -> None:
        for number in range(count):
            changes = watch(service.channel, f"{number}{'x' * 3_000_000}")
            assert next(changes).status == SERVICE_UNKNOWN
            changes.cancel()

    watch_names(8)
    before = usage_of(service.pid).rss
    watch_names(50)
    assert usage_of(service.pid).rss - before < 64 << 10
