"""Limits that are changed while a container lives: all that were asked for, or none."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from ocigrpc.v1 import config_pb2, runtime_pb2
from tests.real.conftest import StartService
from tests.real.limits_client import EVERYTHING, FILES, MIB, files, update
from tests.real.refusal import refused
from tests.real.remains import until
from tests.real.service import Service

NO_CPU = "0,999"
"""A cpuset that any kernel refuses, but only after what the runtimes set before it."""

on_v1 = pytest.mark.parametrize(
    "_service_of_kind", ["native-runc", "native-crun"], indirect=True, scope="module"
)
"""With both runtimes, where every controller is."""

on_v2 = pytest.mark.parametrize(
    "_service_of_kind", ["cgroup2-runc", "systemd-runc"], indirect=True, scope="module"
)
"""With both cgroup managers, where few controllers are."""


@on_v1
def test_every_limit_is_changed_and_read_back(any_service: Service) -> None:
    container_id = any_service.run()
    told = update(any_service, container_id, **EVERYTHING)
    assert FILES.items() <= files(any_service, container_id).items()
    numbers = MessageToDict(told, preserving_proto_field_name=True)
    assert numbers == {
        key: value if isinstance(value, str) else str(value) for key, value in EVERYTHING.items()
    }


@on_v1
def test_only_what_is_set_is_changed(any_service: Service) -> None:
    container_id = any_service.run()
    update(any_service, container_id, **EVERYTHING)
    told = update(any_service, container_id, cpu_quota=20_000)
    assert told.cpu_quota == 20_000
    assert told.cpu_shares == 512
    changed = files(any_service, container_id).items() - FILES.items()
    assert ("cpu.cfs_quota_us", "20000") in changed
    assert {name for name, _ in changed} & FILES.keys() == {"cpu.cfs_quota_us"}


def test_limits_are_removed(service: Service) -> None:
    # With runc: crun 1.8 writes another number for -1, which cgroup v1 refuses.
    container_id = service.run()
    update(service, container_id, **EVERYTHING)
    told = update(
        service,
        container_id,
        cpu_quota=-1,
        memory_limit_in_bytes=(1 << 63) - 1,
        memory_swap_limit_in_bytes=-1,
    )
    assert told.cpu_quota == told.memory_limit_in_bytes == told.memory_swap_limit_in_bytes == -1


@on_v1
def test_memory_is_rounded_to_pages_and_the_answer_says_so(any_service: Service) -> None:
    container_id = any_service.run()
    told = update(any_service, container_id, memory_limit_in_bytes=64 * MIB + 1)
    assert told.memory_limit_in_bytes == 64 * MIB


@on_v1
def test_a_created_container_is_updated(any_service: Service) -> None:
    container_id = any_service.create().container_id
    assert update(any_service, container_id, pids_limit=44).pids_limit == 44
    any_service.start_container(container_id)
    assert files(any_service, container_id)["pids.max"] == "44"


@on_v1
def test_a_paused_container_stays_paused(any_service: Service) -> None:
    container_id = any_service.run()
    any_service.pause(container_id)
    assert update(any_service, container_id, cpu_shares=900, pids_limit=44).cpu_shares == 900
    assert any_service.state(container_id) == "paused"
    any_service.resume(container_id)
    assert any_service.state(container_id) == "running"
    assert files(any_service, container_id)["cpu.shares"] == "900"


@on_v1
def test_what_the_kernel_refuses_changes_nothing(any_service: Service) -> None:
    container_id = any_service.run()
    before = files(any_service, container_id)
    with refused("INTERNAL", "RUNTIME_FAILED") as refusal:
        update(any_service, container_id, cpu_shares=777, pids_limit=44, cpuset_cpus=NO_CPU)
    assert refusal.metadata["restored"] == "true"
    assert files(any_service, container_id) == before


@on_v1
def test_memory_below_what_is_used_is_refused_and_changes_nothing(any_service: Service) -> None:
    # Without something to do afterwards, the shell would become sleep, and let go of it.
    container_id = any_service.run("x=$(yes | head -c 30000000); echo; sleep 1000; true")
    until(lambda: any_service.output(container_id) == [""])
    before = files(any_service, container_id)
    with refused("INTERNAL", "RUNTIME_FAILED") as refusal:
        update(any_service, container_id, cpu_shares=777, memory_limit_in_bytes=MIB)
    assert refusal.metadata["restored"] == "true"
    assert files(any_service, container_id) == before
    assert any_service.state(container_id) == "running"


@on_v1
def test_a_paused_container_stays_paused_when_the_kernel_refuses(any_service: Service) -> None:
    container_id = any_service.run()
    any_service.pause(container_id)
    with refused("INTERNAL", "RUNTIME_FAILED"):
        update(any_service, container_id, cpu_shares=777, cpuset_cpus=NO_CPU)
    assert any_service.state(container_id) == "paused"


@pytest.mark.parametrize(
    ("field", "reason", "limits"),
    [
        ("cpu_quota", "OUT_OF_RANGE", {"cpu_quota": 999}),
        ("cpu_shares", "OUT_OF_RANGE", {"cpu_shares": 1}),
        ("memory_limit_in_bytes", "OUT_OF_RANGE", {"memory_limit_in_bytes": -1}),
        ("cpuset_cpus", "MALFORMED", {"cpuset_cpus": "one"}),
        ("oom_score_adj", "NOT_APPLICABLE", {"oom_score_adj": 5}),
        ("unified", "NOT_APPLICABLE", {"unified": {"memory.high": "1000000"}}),
    ],
)
def test_a_wrong_limit_is_named_and_nothing_is_changed(
    service: Service, field: str, reason: str, limits: dict[str, object]
) -> None:
    container_id = service.run()
    before = files(service, container_id)
    with refused("INVALID_ARGUMENT", reason) as refusal:
        update(service, container_id, pids_limit=44, **limits)
    assert refusal.fields == [f"resources.{field}"]
    assert files(service, container_id) == before


def test_an_update_of_nothing_is_refused(service: Service) -> None:
    container_id = service.run()
    with refused("INVALID_ARGUMENT", "REQUIRED") as refusal:
        update(service, container_id)
    assert refusal.fields == ["resources"]


def test_update_of_a_stopped_container_is_failed_precondition(any_service: Service) -> None:
    container_id = any_service.run("true")
    any_service.wait(container_id)
    with refused("FAILED_PRECONDITION", "WRONG_STATE") as refusal:
        update(any_service, container_id, pids_limit=44)
    assert refusal.metadata["state"] == "stopped"


def test_update_of_an_unknown_container_is_not_found(service: Service) -> None:
    with refused("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        update(service, "nobody", pids_limit=44)


@on_v2
def test_files_of_cgroup2_are_changed_and_read_back(any_service: Service) -> None:
    container_id = any_service.run()
    any_service.pause(container_id)
    wanted = {"cgroup.max.depth": "7", "cgroup.max.descendants": "100"}
    assert dict(update(any_service, container_id, unified=wanted).unified) == wanted
    assert wanted.items() <= files(any_service, container_id).items()
    assert any_service.state(container_id) == "paused"


@on_v2
def test_what_the_kernel_refuses_of_cgroup2_changes_nothing(any_service: Service) -> None:
    container_id = any_service.run()
    before = files(any_service, container_id)
    wanted = {"cgroup.max.depth": "7", "cgroup.max.descendants": "bad"}
    # runc sets them in any order, so that the good one is not always set before.
    for _ in range(5):
        with refused("INTERNAL", "RUNTIME_FAILED") as refusal:
            update(any_service, container_id, unified=wanted)
        assert refusal.metadata["restored"] == "true"
        assert files(any_service, container_id) == before


@on_v2
def test_a_controller_that_the_host_lacks_is_refused(any_service: Service) -> None:
    container_id = any_service.run()
    with refused("INTERNAL", "RUNTIME_FAILED") as refusal:
        update(any_service, container_id, pids_limit=44)
    assert "pids.max" in refusal.metadata["output"]
    assert refusal.metadata["restored"] == "true"


@on_v2
def test_files_that_move_and_kill_processes_are_no_limits(any_service: Service) -> None:
    container_id = any_service.run()
    for name in ("cgroup.procs", "cgroup.kill", "cgroup.freeze"):
        with refused("INVALID_ARGUMENT", "NOT_APPLICABLE"):
            update(any_service, container_id, unified={name: "1"})
    assert any_service.state(container_id) == "running"


HANGS_AFTER_UPDATE = """#!/bin/sh
case " $* " in *" update "*) runc "$@"; exec sleep 1000;; esac
exec runc "$@"
"""


@pytest.fixture
def hanging(start_service: StartService, tmp_path: Path) -> Service:
    """A service whose runtime changes all limits, and then does not end."""
    script = tmp_path / "hangs-after-update.sh"
    script.write_text(HANGS_AFTER_UPDATE)
    script.chmod(0o755)
    return start_service(runtimes={"runc": {"path": str(script)}}, verb_timeout_s=1)


def test_limits_are_restored_when_the_runtime_does_not_end(hanging: Service) -> None:
    container_id = hanging.run()
    before = files(hanging, container_id)
    with refused("DEADLINE_EXCEEDED", "RUNTIME_TIMEOUT") as refusal:
        update(hanging, container_id, **EVERYTHING)
    assert refusal.metadata["restored"] == "true"
    assert files(hanging, container_id) == before


def test_limits_are_restored_when_the_client_leaves(hanging: Service) -> None:
    container_id = hanging.run()
    before = files(hanging, container_id)
    request = runtime_pb2.UpdateContainerResourcesRequest(
        container_id=container_id,
        resources=config_pb2.LinuxContainerResources(pids_limit=44, cpu_shares=700),
    )
    with pytest.raises(grpc.RpcError) as caught:
        hanging.rpc.UpdateContainerResources(request, timeout=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    # Waits for its turn, behind the update that is given up.
    with refused("FAILED_PRECONDITION", "WRONG_STATE"):
        hanging.start_container(container_id)
    assert files(hanging, container_id) == before
    assert not list(Path(hanging.status(container_id).bundle_path).glob("resources-*"))
