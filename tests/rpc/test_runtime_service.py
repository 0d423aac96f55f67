"""Every RPC: what the engine is called with, and what the client is answered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

import ocigrpc
from ocigrpc.engine.model.record import ContainerFilter
from ocigrpc.engine.model.values import (
    BundleSource,
    CreateRequest,
    ExitStatus,
    Provenance,
    State,
)
from ocigrpc.settings.values import MonitorLostPolicy
from ocigrpc.v1 import config_pb2, container_pb2
from ocigrpc.v1 import runtime_pb2 as v1
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub as Stub
from tests.rpc.fake_engine import VIEW, FakeEngine, view_of


def test_version_names_the_service_and_the_programs_it_drives(stub: Stub) -> None:
    assert stub.Version(v1.VersionRequest()) == v1.VersionResponse(
        runtime_name="ocigrpc",
        runtime_version=ocigrpc.__version__,
        runtime_api_version="v1",
        conmon_version="conmon version 2.1.6",
        runtime_handlers=[
            v1.RuntimeHandlerVersion(name="runc", path="/usr/bin/runc", version="1.1")
        ],
    )


def test_status_gives_the_conditions_in_order_and_the_settings(
    stub: Stub, engine: FakeEngine
) -> None:
    answer = stub.Status(v1.StatusRequest())
    assert list(answer.conditions) == [
        v1.Condition(type="RuntimeReady", status=v1.CONDITION_STATUS_TRUE),
        v1.Condition(
            type="MonitorReady",
            status=v1.CONDITION_STATUS_FALSE,
            reason="ConmonBroken",
            message="install conmon",
        ),
    ]
    assert MessageToDict(answer.settings) == engine.effective_settings()


def test_a_failed_condition_is_seen_in_json_that_omits_defaults(stub: Stub) -> None:
    failed = MessageToDict(stub.Status(v1.StatusRequest()))["conditions"][1]
    assert failed["status"] == "CONDITION_STATUS_FALSE"


def test_status_counts_containers_streams_and_events(stub: Stub) -> None:
    answer = stub.Status(v1.StatusRequest())
    assert answer.uptime.ToNanoseconds() == 90_000_000_001
    assert answer.containers == v1.ContainerCounts(total=3, running=2, stopped=1, limit=100)
    assert answer.events == v1.EventCounts(kept=5, first=11, last=15)
    assert answer.store_bytes == 4096
    assert not answer.streams


def test_create_may_start_as_well(stub: Stub, engine: FakeEngine) -> None:
    request = v1.CreateContainerRequest(bundle_path="/b", container_id="c1", start=True)
    stub.CreateContainer(request)
    (asked,) = engine.calls
    assert (asked[0], asked[2:]) == ("create", ("start",))


def test_a_list_has_the_short_form_of_each(stub: Stub, engine: FakeEngine) -> None:
    engine.views = [view_of(command_line="sleep 1000")]
    (listed,) = stub.ListContainers(v1.ListContainersRequest()).containers
    assert listed == container_pb2.ContainerSummary(
        container_id="c1",
        name="web",
        state=container_pb2.CONTAINER_STATE_RUNNING,
        pid=4711,
        created_at=Timestamp(seconds=1, nanos=1),
        started_at=Timestamp(seconds=2, nanos=2),
        labels={"tier": "front"},
        runtime_handler="crun",
        command_line="sleep 1000",
        monitor_lost=True,
    )


def test_create_hands_over_the_whole_request_and_gives_id_and_pid(
    stub: Stub, engine: FakeEngine
) -> None:
    same: dict[str, Any] = {
        "container_id": "c1",
        "name": "web",
        "runtime_handler": "crun",
        "stdin": True,
        "terminal": True,
        "log_path": "/var/log/c1.log",
        "log_size_max_bytes": 4096,
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
        "cgroup_parent": "/machines",
        "no_pivot": True,
    }
    answer = stub.CreateContainer(
        v1.CreateContainerRequest(
            bundle_path="/b",
            stop_signal="SIGINT",
            monitor_lost_policy=container_pb2.MONITOR_LOST_POLICY_KILL,
            **same,
        )
    )
    assert answer == v1.CreateContainerResponse(container_id="c1", pid=4711)
    [(_, request)] = engine.calls
    assert request == CreateRequest(
        source=BundleSource("/b"),
        stop_signal="2",
        monitor_lost_policy=MonitorLostPolicy.KILL,
        **same,
    )


def test_create_without_an_id_gives_the_one_made(stub: Stub) -> None:
    config = config_pb2.ContainerConfig(rootfs_path="/", command=["true"])
    answer = stub.CreateContainer(v1.CreateContainerRequest(config=config))
    assert answer.container_id == "made"


@pytest.mark.parametrize(
    ("rpc", "request_", "asked"),
    [
        ("StartContainer", v1.StartContainerRequest(container_id="c1"), ("start", "c1")),
        ("PauseContainer", v1.PauseContainerRequest(container_id="c1"), ("pause", "c1")),
        ("ResumeContainer", v1.ResumeContainerRequest(container_id="c1"), ("resume", "c1")),
        ("StopContainer", v1.StopContainerRequest(container_id="c1"), ("stop", "c1", None)),
        (
            "StopContainer",
            v1.StopContainerRequest(container_id="c1", timeout={"nanos": 500_000_000}),
            ("stop", "c1", 0.5),
        ),
        ("StopContainer", v1.StopContainerRequest(container_id="c", timeout={}), ("stop", "c", 0)),
        ("KillContainer", v1.KillContainerRequest(container_id="c1"), ("kill", "c1", 9, False)),
        (
            "KillContainer",
            v1.KillContainerRequest(container_id="c1", signal="HUP", all=True),
            ("kill", "c1", 1, True),
        ),
        ("RemoveContainer", v1.RemoveContainerRequest(container_id="c"), ("remove", "c", False)),
        (
            "RemoveContainer",
            v1.RemoveContainerRequest(container_id="c1", force=True),
            ("remove", "c1", True),
        ),
    ],
)
def test_verb_calls_the_engine_and_answers_empty(
    stub: Stub,
    engine: FakeEngine,
    rpc: str,
    request_: object,
    asked: tuple[object, ...],
) -> None:
    answer = getattr(stub, rpc)(request_)
    assert answer.ByteSize() == 0
    assert engine.calls == [asked]


def test_container_status_answers_everything_known(stub: Stub) -> None:
    answer = stub.ContainerStatus(v1.ContainerStatusRequest(container_id="c1"))
    assert answer.status == container_pb2.ContainerStatus(
        container_id="c1",
        name="web",
        state=container_pb2.CONTAINER_STATE_RUNNING,
        pid=4711,
        created_at=Timestamp(seconds=1, nanos=1),
        started_at=Timestamp(seconds=2, nanos=2),
        log_path="/var/log/c1.log",
        labels={"tier": "front"},
        annotations={"note": "kept"},
        runtime_handler="crun",
        bundle_path="/run/ocigrpc/c1/bundle",
        cgroup_path="/ocigrpc/c1",
        terminal=True,
        stdin=True,
        monitor_lost=True,
        monitor_lost_policy=container_pb2.MONITOR_LOST_POLICY_KILL,
        runtime_state="thawing",
        message="not sure",
    )
    assert answer.restart_safe
    assert not answer.HasField("spec")
    assert answer.resources == config_pb2.LinuxContainerResources(pids_limit=33)
    assert not answer.status.HasField("exit_status")
    assert not answer.info


def test_verbose_container_status_adds_the_runtimes_own_state(stub: Stub) -> None:
    answer = stub.ContainerStatus(v1.ContainerStatusRequest(container_id="c1", verbose=True))
    assert dict(answer.info) == {"state": "{}", "monitor_pid": "12"}


@pytest.mark.parametrize("state", State)
def test_every_state_has_its_word(stub: Stub, engine: FakeEngine, state: State) -> None:
    engine.view = msgspec.structs.replace(VIEW, state=state)
    answer = stub.ContainerStatus(v1.ContainerStatusRequest(container_id="c1"))
    word = container_pb2.ContainerState.Name(answer.status.state)
    assert word == f"CONTAINER_STATE_{state.name}"


def test_list_hands_over_the_filter(stub: Stub, engine: FakeEngine) -> None:
    stub.ListContainers(
        v1.ListContainersRequest(
            filter=v1.ContainerFilter(
                id_prefix="c",
                name="web",
                states=[
                    container_pb2.CONTAINER_STATE_PAUSED,
                    container_pb2.CONTAINER_STATE_UNKNOWN,
                ],
                label_selector={"tier": "front"},
            )
        )
    )
    states = frozenset({State.PAUSED, State.UNKNOWN})
    assert engine.calls == [("list", ContainerFilter("c", "web", states, {"tier": "front"}))]


def test_list_without_a_filter_is_of_all(stub: Stub, engine: FakeEngine) -> None:
    engine.views = [VIEW, view_of(container_id="c2")]
    answer = stub.ListContainers(v1.ListContainersRequest())
    assert [each.container_id for each in answer.containers] == ["c1", "c2"]
    assert engine.calls == [("list", ContainerFilter())]


def test_wait_answers_how_it_ended(stub: Stub, engine: FakeEngine) -> None:
    engine.exit_status = ExitStatus(
        Provenance.EXIT_FILE, 3_000_000_003, exit_code=137, signal=9, oom_killed=True
    )
    answer = stub.WaitContainer(v1.WaitContainerRequest(container_id="c1"))
    assert answer.exit_status == container_pb2.ExitStatus(
        exit_code=137,
        signal=9,
        finished_at=Timestamp(seconds=3, nanos=3),
        oom_killed=True,
        provenance=container_pb2.EXIT_PROVENANCE_EXIT_FILE,
    )


def test_exit_code_zero_is_not_absent(stub: Stub, engine: FakeEngine) -> None:
    engine.exit_status = ExitStatus(Provenance.EXIT_FILE, 3, exit_code=0)
    answer = stub.WaitContainer(v1.WaitContainerRequest(container_id="c1"))
    assert answer.exit_status.HasField("exit_code")
    assert not answer.exit_status.HasField("signal")


@pytest.mark.parametrize("provenance", set(Provenance) - {Provenance.EXIT_FILE})
def test_unknown_exit_code_is_absent_with_a_reason(
    stub: Stub, engine: FakeEngine, provenance: Provenance
) -> None:
    engine.exit_status = ExitStatus(provenance, 3, message="why")
    answer = stub.WaitContainer(v1.WaitContainerRequest(container_id="c1"))
    assert not answer.exit_status.HasField("exit_code")
    word = container_pb2.ExitProvenance.Name(answer.exit_status.provenance)
    assert word == f"EXIT_PROVENANCE_{provenance.name}"
    assert answer.exit_status.message == "why"
