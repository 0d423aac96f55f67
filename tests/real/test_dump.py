"""SIGUSR1: what a service is doing, in its log."""

from __future__ import annotations

import os
import re
import signal

from ocigrpc.v1 import runtime_pb2 as pb
from tests.bed.faults.runtimes import HANGS, Switches
from tests.bed.hosts.leaks import children, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService

# The place in the engine of a call that waits for an end.
_WAIT = re.compile(r"ocigrpc\.engine\.engine:\d+ wait\b")


def dumped(service: Service, kind: str) -> list[dict[str, object]]:
    return [each for each in service.events() if each["event"] == f"dump.{kind}"]


def test_a_hanging_runtime_is_seen_in_stacks_calls_and_containers(
    start_service: StartService, switches: Switches
) -> None:
    service = start_service(runtimes={"switched": {"path": str(switches.path)}})
    config = service.config("sleep 600")
    request = pb.CreateContainerRequest(
        container_id="one", config=config, runtime_handler="switched"
    )
    service.client.create_container(request)
    start = pb.StartContainerRequest(container_id="one")
    with switches.on("start", HANGS):
        call = service.wire.StartContainer.future(start, metadata=(("x-request-id", "stuck"),))
        switches.wait()
        os.kill(service.pid, signal.SIGUSR1)
        # It is logged last.
        until(lambda: dumped(service, "container") != [])
        call.cancel()
        until(lambda: list(children(service.pid)) == [])
    (container,) = dumped(service, "container")
    assert (container["container_id"], container["busy_with"]) == ("one", "start")
    (running,) = dumped(service, "call")
    assert (running["rpc"], running["request_id"]) == ("StartContainer", "stuck")
    stacks = [str(each["stack"]) for each in dumped(service, "threads")]
    assert any("ocigrpc.oci.runtime:" in each for each in stacks)
    # The innermost call is first.
    main = next(each for each in stacks if "ocigrpc.cli.main:" in each)
    assert main.index("wait_for_end") < main.index("ocigrpc.cli.main:")


def test_threads_at_the_same_place_are_one_line(start_service: StartService) -> None:
    service = start_service()
    wait = pb.WaitContainerRequest(container_id=service.run())
    calls = [service.wire.WaitContainer.future(wait) for _ in range(20)]
    until(lambda: _waiting(service) == len(calls))
    os.kill(service.pid, signal.SIGUSR1)
    until(lambda: len(dumped(service, "call")) == len(calls))
    waits = [each for each in dumped(service, "threads") if _WAIT.search(str(each["stack"]))]
    for call in calls:
        call.cancel()
    # Some may be on their way there.
    assert len(waits) < sum(int(str(each["count"])) for each in waits) <= len(calls)


def _waiting(service: Service) -> int:
    status = service.client.status()
    return status.streams["WaitContainer"]
