"""Limits that are changed while a container lives: all that were asked for, or none."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocigrpc.host.cgroups.limits import page_sizes, shares_of_weight, weight_of_shares
from ocigrpc.v1 import config_pb2, runtime_pb2
from tests.bed.bundles.bundle import spec_json
from tests.bed.clients.limits import (
    EVERYTHING,
    MIB,
    NOTHING,
    files,
    files_of_everything,
    in_force,
    is_v2,
    same_limits,
    send_back,
    update,
)
from tests.bed.clients.refusal import refused
from tests.bed.hosts.host import booted_by_systemd, systemd_host
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.bed.services.serving import serving
from tests.real.conftest import StartService, with_controllers
from tests.real.test_stats import stats

NO_CPU = "0,999"
"""A cpuset that no group above has."""

on_v2 = pytest.mark.parametrize(
    "_service_of_kind", ["cgroup2-runc", "systemd-runc"], indirect=True, scope="module"
)
"""With both cgroup managers, where few controllers are, unless the host has them."""


def numbers(after: config_pb2.LinuxContainerResources) -> dict[str, object]:
    """What is answered, by names; numbers of 64 bits are text in JSON."""
    return {
        key: int(value)
        if isinstance(value, str) and value.lstrip("-").isdigit() and "cpuset" not in key
        else value
        for key, value in MessageToDict(after, preserving_proto_field_name=True).items()
    }


@with_controllers
def test_every_limit_is_changed_and_read_back(any_service: Service) -> None:
    container_id = any_service.run()
    after = update(any_service, container_id, **EVERYTHING)
    assert files_of_everything(any_service).items() <= files(any_service, container_id).items()
    assert EVERYTHING.items() <= numbers(after).items()
    assert in_force(any_service, container_id) == after


@with_controllers
def test_limits_of_a_config_are_answered_and_what_is_answered_can_be_sent_back(
    any_service: Service,
) -> None:
    config = any_service.config("exec sleep 1000")
    config.resources.CopyFrom(config_pb2.LinuxContainerResources(**EVERYTHING))  # type: ignore[arg-type]
    request = runtime_pb2.CreateContainerRequest(config=config)
    container_id = any_service.client.create_container(request).container_id
    after = in_force(any_service, container_id)
    before = files(any_service, container_id)
    assert EVERYTHING.items() <= numbers(after).items()
    held = files_of_everything(any_service)
    if any_service.host.name == "systemd":
        # crun 1.21 tells systemd of memory and swap where it asks for swap alone.
        assert int(before["memory.swap.max"]) in (64 * MIB, 128 * MIB)
        held = {name: text for name, text in held.items() if name != "memory.swap.max"}
    assert held.items() <= before.items()
    assert send_back(any_service, container_id, after) == after
    assert files(any_service, container_id) == before


@with_controllers
def test_only_what_is_set_is_changed(any_service: Service) -> None:
    container_id = any_service.run()
    before = numbers(update(any_service, container_id, **EVERYTHING))
    after = numbers(update(any_service, container_id, cpu_quota=20_000))
    assert after == {**before, "cpu_quota": 20_000}


@with_controllers
def test_every_limit_is_taken_away(any_service: Service) -> None:
    container_id = any_service.run()
    fresh, before = in_force(any_service, container_id), files(any_service, container_id)
    update(any_service, container_id, **EVERYTHING)
    after = update(any_service, container_id, cpu_period=100_000, **NOTHING)
    # systemd gives every scope a limit of its own.
    before["pids.max"] = "max"
    assert same_limits(any_service, before, files(any_service, container_id))
    for answer in (after, fresh):
        answer.ClearField("cpuset_cpus")
        answer.ClearField("cpuset_mems")
    fresh.pids_limit = -1
    assert after == fresh


EXAMPLES = 8 if booted_by_systemd() else 30
"""Fewer where they take ten times as long, mostly, and there are more kinds."""

SIZES_BYTES = st.integers(16 * MIB, 512 * MIB) | st.just(-1)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "cpu_shares": st.integers(2, 262_144),
        "cpu_quota": st.integers(1000, 10_000_000) | st.just(-1),
        "cpu_period": st.integers(1000, 1_000_000),
        "cpuset_cpus": st.sampled_from(["0", "0-1", "1", ""]),
        "memory_limit_in_bytes": SIZES_BYTES,
        "memory_swap_limit_in_bytes": SIZES_BYTES,
        "pids_limit": st.integers(10, 1 << 22) | st.just(-1),
    },
).filter(bool)


def is_answered(asked: dict[str, int | str], after: config_pb2.LinuxContainerResources) -> None:
    """What was asked for is in force, in what the kernel makes of it."""
    for name, value in asked.items():
        now = getattr(after, name)
        if name == "cpu_shares" and now != value:
            assert now == shares_of_weight(weight_of_shares(int(value)))
        elif name.startswith("memory") and value != -1:
            assert int(value) - 8192 < now <= int(value)
        elif value != "":
            assert now == value


@with_controllers
@pytest.mark.timeout(900)
def test_whatever_limits_are_answered_can_be_sent_back(any_service: Service) -> None:
    container_id = any_service.run()

    @given(CHANGES)
    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    def holds(asked: dict[str, int | str]) -> None:
        before = in_force(any_service, container_id)
        memory = int(asked.get("memory_limit_in_bytes", before.memory_limit_in_bytes))
        swap = int(asked.get("memory_swap_limit_in_bytes", before.memory_swap_limit_in_bytes))
        if memory == -1 and "memory_swap_limit_in_bytes" not in asked:
            swap = -1
        if {"memory_limit_in_bytes", "memory_swap_limit_in_bytes"} & asked.keys():
            asked = {**asked, "memory_limit_in_bytes": memory}
            if swap != -1 and (memory == -1 or memory > swap):
                swap = -1
            asked["memory_swap_limit_in_bytes"] = swap
        after = update(any_service, container_id, **asked)
        is_answered(asked, after)
        kept = {**numbers(before), **{name: numbers(after)[name] for name in asked}}
        if "cpu_shares" in asked:
            kept["cpu_weight"] = after.cpu_weight
        assert numbers(after) == kept
        held = files(any_service, container_id)
        assert send_back(any_service, container_id, after) == after
        assert in_force(any_service, container_id) == after
        assert files(any_service, container_id) == held

    holds()


@with_controllers
def test_memory_is_rounded_to_pages_and_the_answer_says_so(any_service: Service) -> None:
    container_id = any_service.run()
    after = update(any_service, container_id, memory_limit_in_bytes=64 * MIB + 1)
    assert after.memory_limit_in_bytes == 64 * MIB


@with_controllers
def test_a_weight_is_its_shares(any_service: Service) -> None:
    container_id = any_service.run()
    after = update(any_service, container_id, cpu_weight=10_000)
    assert (after.cpu_shares, after.cpu_weight) == (262_144, 10_000)
    after = update(any_service, container_id, cpu_shares=1024)
    assert after.cpu_weight == 39
    assert after.cpu_shares == (999 if is_v2(any_service) else 1024)


@with_controllers
def test_a_created_container_is_updated(any_service: Service) -> None:
    container_id = any_service.create().container_id
    assert update(any_service, container_id, pids_limit=44).pids_limit == 44
    any_service.start_container(container_id)
    assert in_force(any_service, container_id).pids_limit == 44


@with_controllers
def test_a_paused_container_stays_paused(any_service: Service) -> None:
    container_id = any_service.run()
    any_service.pause(container_id)
    assert update(any_service, container_id, cpu_weight=35, pids_limit=44).cpu_weight == 35
    assert any_service.state(container_id) == "paused"
    any_service.resume(container_id)
    assert any_service.state(container_id) == "running"
    assert in_force(any_service, container_id).cpu_weight == 35


@with_controllers
@pytest.mark.parametrize("name", ["cpuset_cpus", "cpuset_mems"])
def test_what_the_group_above_lacks_is_named_and_nothing_is_changed(
    any_service: Service, name: str
) -> None:
    container_id = any_service.run()
    before = files(any_service, container_id)
    with refused("INVALID_ARGUMENT", "NOT_AVAILABLE") as refusal:
        update(any_service, container_id, cpu_shares=777, pids_limit=44, **{name: NO_CPU})
    assert refusal.fields == [f"resources.{name}"]
    assert files(any_service, container_id) == before
    config = any_service.config("true")
    config.resources.CopyFrom(config_pb2.LinuxContainerResources(**{name: NO_CPU}))  # type: ignore[arg-type]
    with refused("INVALID_ARGUMENT", "NOT_AVAILABLE") as refusal:
        any_service.client.create_container(runtime_pb2.CreateContainerRequest(config=config))
    assert refusal.fields == [f"config.resources.{name}"]


@with_controllers
@pytest.mark.parametrize("how", ["memory_limit_in_bytes", "memory.max"])
def test_memory_below_what_is_used_is_refused_and_changes_nothing(
    any_service: Service, how: str
) -> None:
    wanted: dict[str, object] = {how: MIB} if how != "memory.max" else {"unified": {how: "1M"}}
    if "unified" in wanted and not is_v2(any_service):
        pytest.skip("a file of cgroup v2")
    # Without something to do afterwards, the shell would become sleep, and let go of it.
    container_id = any_service.run("x=$(yes | head -c 30000000); echo; sleep 1000; true")
    until(lambda: any_service.output(container_id) == [""], 10 * LIMIT_S)
    before = files(any_service, container_id)
    with refused("FAILED_PRECONDITION", "MEMORY_IN_USE") as refusal:
        update(any_service, container_id, cpu_shares=777, **wanted)
    assert int(refusal.metadata["usage_bytes"]) > 25_000_000
    assert refusal.metadata.get("restored", "true") == "true"
    assert files(any_service, container_id) == before
    assert any_service.state(container_id) == "running"


@with_controllers
def test_memory_that_the_kernel_can_free_is_no_reason_to_refuse(any_service: Service) -> None:
    # What is read and written stays in memory until somebody else needs it.
    container_id = any_service.run(
        "dd if=/dev/zero of=/tmp/cached bs=1M count=40; sync; echo; sleep 1000; true"
    )
    until(lambda: any_service.output(container_id) == [""], 10 * LIMIT_S)
    assert stats(any_service, container_id).memory.usage_bytes > 30 * MIB
    after = update(any_service, container_id, memory_limit_in_bytes=20 * MIB)
    assert after.memory_limit_in_bytes == 20 * MIB
    assert any_service.state(container_id) == "running"


@with_controllers
def test_more_memory_than_memory_and_swap_is_refused(any_service: Service) -> None:
    container_id = any_service.run()
    after = update(
        any_service,
        container_id,
        memory_limit_in_bytes=64 * MIB,
        memory_swap_limit_in_bytes=128 * MIB,
    )
    before = files(any_service, container_id)
    for wrong in ({"memory_limit_in_bytes": 256 * MIB}, {"memory_swap_limit_in_bytes": 32 * MIB}):
        with refused("FAILED_PRECONDITION", "MEMORY_ABOVE_SWAP"):
            update(any_service, container_id, pids_limit=44, **wrong)
        assert files(any_service, container_id) == before
    # Together it is fine; and one alone leaves the other.
    after = update(any_service, container_id, memory_limit_in_bytes=100 * MIB)
    assert after.memory_swap_limit_in_bytes == 128 * MIB
    after = update(any_service, container_id, memory_limit_in_bytes=-1)
    assert after.memory_limit_in_bytes == after.memory_swap_limit_in_bytes == -1
    with refused("FAILED_PRECONDITION", "MEMORY_ABOVE_SWAP"):
        update(any_service, container_id, memory_swap_limit_in_bytes=32 * MIB)


@with_controllers
def test_huge_pages_are_limited_or_the_field_is_named(any_service: Service) -> None:
    container_id = any_service.run()
    size = next(iter(page_sizes()), "2MB")
    limit = config_pb2.HugepageLimit(page_size=size, limit=0)
    if not any(
        each.page_size == size for each in in_force(any_service, container_id).hugepage_limits
    ):
        with refused("INVALID_ARGUMENT", "NOT_SUPPORTED") as refusal:
            update(any_service, container_id, pids_limit=44, hugepage_limits=[limit])
        assert refusal.fields == ["resources.hugepage_limits"]
        config = any_service.config("true")
        config.resources.hugepage_limits.append(limit)
        with refused("INVALID_ARGUMENT", "NOT_SUPPORTED") as refusal:
            any_service.client.create_container(runtime_pb2.CreateContainerRequest(config=config))
        assert refusal.fields == ["config.resources.hugepage_limits"]
        return
    for number in (0, page_sizes()[size] * 3, -1):
        after = update(
            any_service,
            container_id,
            hugepage_limits=[config_pb2.HugepageLimit(page_size=size, limit=number)],
        )
        assert [each.limit for each in after.hugepage_limits if each.page_size == size] == [number]
        assert send_back(any_service, container_id, after) == after
    with refused("INVALID_ARGUMENT", "NOT_SUPPORTED"):
        update(
            any_service, container_id, hugepage_limits=[config_pb2.HugepageLimit(page_size="3MB")]
        )


@with_controllers
def test_what_the_kernel_refuses_of_a_spec_is_typed(any_service: Service) -> None:
    spec = json.loads(spec_json(any_service.rootfs, ["true"]))
    spec["linux"]["resources"]["pids"] = {"limit": 1 << 40}
    request = runtime_pb2.CreateContainerRequest(spec_json=json.dumps(spec))
    with refused("FAILED_PRECONDITION", "LIMIT_REFUSED") as refusal:
        any_service.client.create_container(request)
    assert "pids.max" in refusal.metadata["output"]


@pytest.mark.parametrize(
    ("field", "reason", "limits"),
    [
        ("cpu_quota", "OUT_OF_RANGE", {"cpu_quota": 999}),
        ("cpu_shares", "OUT_OF_RANGE", {"cpu_shares": 1}),
        ("cpu_weight", "CONFLICT", {"cpu_shares": 1024, "cpu_weight": 1}),
        ("memory_limit_in_bytes", "OUT_OF_RANGE", {"memory_limit_in_bytes": -2}),
        ("pids_limit", "OUT_OF_RANGE", {"pids_limit": 1 << 23}),
        ("cpuset_cpus", "MALFORMED", {"cpuset_cpus": "one"}),
        ("oom_score_adj", "NOT_APPLICABLE", {"oom_score_adj": 5}),
        ('unified["cgroup.procs"]', "NOT_APPLICABLE", {"unified": {"cgroup.procs": "1"}}),
    ],
)
def test_a_wrong_limit_is_named_and_nothing_is_changed(
    service: Service, field: str, reason: str, limits: dict[str, object]
) -> None:
    container_id = service.run()
    before = files(service, container_id)
    with refused("INVALID_ARGUMENT", reason) as refusal:
        update(service, container_id, **{"pids_limit": 44, **limits})
    assert refusal.fields[0] == f"resources.{field}"
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
        with refused("FAILED_PRECONDITION", "LIMIT_REFUSED") as refusal:
            update(any_service, container_id, unified=wanted)
        assert refusal.metadata["restored"] == "true"
        assert files(any_service, container_id) == before


@on_v2
def test_a_controller_that_the_host_lacks_is_refused(any_service: Service) -> None:
    root = any_service.host.cgroup_roots[0]
    if "pids" in (root / "cgroup.controllers").read_text().split():
        pytest.skip("the host has them all")
    container_id = any_service.run()
    wanted: tuple[dict[str, object], ...] = (
        {"pids_limit": 44},
        {"cpu_shares": 1024},
        {"unified": {"memory.high": "1M"}},
    )
    for limits in wanted:
        with refused("INVALID_ARGUMENT", "NOT_SUPPORTED") as refusal:
            update(any_service, container_id, **limits)
        assert refusal.fields[0].startswith(f"resources.{next(iter(limits))}")


@on_v2
def test_files_that_move_and_kill_processes_are_no_limits(any_service: Service) -> None:
    container_id = any_service.run()
    for name in ("cgroup.procs", "cgroup.kill", "cgroup.freeze"):
        with refused("INVALID_ARGUMENT", "NOT_APPLICABLE"):
            update(any_service, container_id, unified={name: "1"})
    assert any_service.state(container_id) == "running"


@on_v2
def test_files_of_cgroup2_are_answered_and_can_be_sent_back(any_service: Service) -> None:
    container_id = any_service.run()
    after = update(any_service, container_id, unified={"cgroup.max.depth": "7"})
    assert send_back(any_service, container_id, after) == after
    after = update(any_service, container_id, unified={"cgroup.max.depth": "max"})
    assert dict(after.unified) == {"cgroup.max.depth": "max"}


def test_files_of_cgroup2_on_a_host_of_v1_are_refused_for_old_and_new_containers(
    service: Service,
) -> None:
    if is_v2(service):
        pytest.skip("the host has them")
    container_id, unified = service.run(), {"memory.high": "1000000"}
    with refused("INVALID_ARGUMENT", "NOT_APPLICABLE") as refusal:
        update(service, container_id, pids_limit=44, unified=unified)
    assert refusal.fields == ["resources.unified"]
    config = service.config("true")
    config.resources.unified.update(unified)
    with refused("INVALID_ARGUMENT", "NOT_APPLICABLE") as refusal:
        service.client.create_container(runtime_pb2.CreateContainerRequest(config=config))
    assert refusal.fields == ["config.resources.unified"]


FAILS_AFTER_UPDATE = """#!/bin/sh
case " $* " in *" update "*) runc "$@"; echo "$SAYS" >&2; exit 1;; esac
exec runc "$@"
"""


@pytest.mark.parametrize(
    ("says", "code", "reason"),
    [
        (
            "write /sys/fs/cgroup/x/pids.max: Invalid argument",
            "FAILED_PRECONDITION",
            "LIMIT_REFUSED",
        ),
        ("writing file `pids.max`: Invalid argument", "FAILED_PRECONDITION", "LIMIT_REFUSED"),
        ("no space for my own notes", "INTERNAL", "RUNTIME_FAILED"),
    ],
)
def test_limits_are_restored_when_the_runtime_fails(
    start_service: StartService, tmp_path: Path, says: str, code: str, reason: str
) -> None:
    script = tmp_path / "fails-after-update.sh"
    script.write_text(FAILS_AFTER_UPDATE.replace("$SAYS", says.replace("`", "\\`")))
    script.chmod(0o755)
    service = start_service(runtimes={"runc": {"path": str(script)}})
    container_id = service.run()
    before = files(service, container_id)
    with refused(code, reason) as refusal:
        update(service, container_id, **EVERYTHING)
    assert refusal.metadata["restored"] == "true"
    assert refusal.metadata["output"] == says
    assert same_limits(service, before, files(service, container_id))


@pytest.mark.node
@pytest.mark.skipif(not booted_by_systemd(), reason="a private systemd has no controllers")
def test_systemd_knows_the_limits_that_are_put_back(rootfs: Path, tmp_path: Path) -> None:
    script = tmp_path / "fails-after-update.sh"
    script.write_text(FAILS_AFTER_UPDATE.replace("$SAYS", "no"))
    script.chmod(0o755)
    settings = {"cgroup_manager": "systemd", "runtimes": {"runc": {"path": str(script)}}}
    with systemd_host() as host, serving(host, rootfs, **settings) as service:
        container_id = service.run()
        before = files(service, container_id)
        with refused("INTERNAL", "RUNTIME_FAILED") as refusal:
            update(service, container_id, **EVERYTHING)
        assert refusal.metadata["restored"] == "true"
        # With each property, systemd sets again all that it knows.
        unit = f"ocigrpc-container-{container_id}.scope"
        limit = ["systemctl", "set-property", "--runtime", unit, "MemoryHigh=1G"]
        subprocess.run(limit, check=True)
        before["memory.high"] = str(1 << 30)
        assert same_limits(service, before, files(service, container_id))


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
    return start_service(runtimes={"runc": {"path": str(script)}}, timeouts_verb_s=1)


@pytest.mark.node
def test_limits_are_restored_when_the_runtime_does_not_end(hanging: Service) -> None:
    container_id = hanging.run()
    before = files(hanging, container_id)
    with refused("DEADLINE_EXCEEDED", "RUNTIME_TIMEOUT") as refusal:
        update(hanging, container_id, **EVERYTHING)
    assert refusal.metadata["restored"] == "true"
    assert same_limits(hanging, before, files(hanging, container_id))


@pytest.mark.node
def test_limits_are_restored_when_the_client_leaves(hanging: Service) -> None:
    container_id = hanging.run()
    before = files(hanging, container_id)
    request = runtime_pb2.UpdateContainerResourcesRequest(
        container_id=container_id,
        resources=config_pb2.LinuxContainerResources(pids_limit=44, cpu_shares=700),
    )
    with pytest.raises(grpc.RpcError) as caught:
        hanging.wire.UpdateContainerResources(request, timeout=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    # Waits for its turn, behind the update that is given up.
    with refused("FAILED_PRECONDITION", "WRONG_STATE"):
        hanging.start_container(container_id)
    assert files(hanging, container_id) == before
    assert not list(Path(hanging.status(container_id).bundle_path).glob("resources-*"))
