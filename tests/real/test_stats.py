"""What containers use: as the kernel counts it, and as programs are seen to use it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest

from ocigrpc import Client
from ocigrpc.client import Stream
from ocigrpc.errors import OcigrpcError, Timeout
from ocigrpc.v1 import config_pb2, runtime_pb2, stats_pb2
from tests.bed.clients.limits import directories
from tests.bed.clients.refusal import refused
from tests.bed.hosts.host import booted_by_systemd
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService, with_controllers

MIB = 1 << 20
BUSY = "while :; do :; done"
# Without something to do afterwards, the shell would become sleep, and let go of it.
HOLDS_30_MB = "x=$(yes | head -c 30000000); echo; sleep 1000; true"


def stats(service: Service, container_id: str) -> stats_pb2.ContainerStats:
    return service.client.container_stats(container_id)


def listed(service: Service, **fields: object) -> list[str]:
    """The containers that have stats, of those that match a filter."""
    wanted = runtime_pb2.ContainerFilter(**fields)  # type: ignore[arg-type]
    return [each.container_id for each in service.client.list_container_stats(wanted)]


def watch(
    service: Service, interval_ms: int, timeout_s: float = LIMIT_S, **fields: object
) -> Stream[Sequence[stats_pb2.ContainerStats]]:
    wanted = runtime_pb2.ContainerFilter(**fields)  # type: ignore[arg-type]
    return service.client.watch_stats(wanted, interval_ms / 1000, timeout_s=timeout_s)


def run_limited(service: Service, script: str, **limits: int) -> str:
    """A started container with limits; its id."""
    config = service.config(script)
    config.resources.MergeFrom(
        config_pb2.LinuxContainerResources(**limits)  # type: ignore[arg-type]
    )
    request = runtime_pb2.CreateContainerRequest(config=config)
    container_id = service.client.create_container(request).container_id
    service.start_container(container_id)
    return container_id


def has_cgroup2(service: Service) -> bool:
    return any((root / "cgroup.controllers").exists() for root in service.host.cgroup_roots)


def test_cpu_time_of_a_busy_container_grows(any_service: Service) -> None:
    container_id = any_service.run(BUSY)
    first = stats(any_service, container_id)
    until(
        lambda: (
            stats(any_service, container_id).cpu.usage.ToNanoseconds()
            > first.cpu.usage.ToNanoseconds() + 200_000_000
        )
    )
    last = stats(any_service, container_id)
    assert last.cpu.user.ToNanoseconds() > 0
    parts_ns = last.cpu.user.ToNanoseconds() + last.cpu.system.ToNanoseconds()
    assert parts_ns == pytest.approx(last.cpu.usage.ToNanoseconds(), rel=0.2, abs=50_000_000)
    # Not more than all CPUs can give.
    passed_ns = last.read_at.ToNanoseconds() - first.read_at.ToNanoseconds()
    assert (
        last.cpu.usage.ToNanoseconds() - first.cpu.usage.ToNanoseconds()
        < passed_ns * 1.5 + 50_000_000
    )


def test_cpu_time_of_a_paused_container_stands_still(any_service: Service) -> None:
    container_id = any_service.run(BUSY)
    any_service.pause(container_id)
    first = stats(any_service, container_id).cpu.usage.ToNanoseconds()
    assert first > 0
    list(islice(watch(any_service, 100), 3))
    assert stats(any_service, container_id).cpu.usage.ToNanoseconds() == first


@with_controllers
def test_memory_of_a_program_that_allocates(any_service: Service) -> None:
    container_id = any_service.run(HOLDS_30_MB)
    until(lambda: any_service.output(container_id) == [""])
    # The kernel may be two seconds behind with all but the usage.
    until(lambda: stats(any_service, container_id).memory.rss_bytes >= 30_000_000)
    memory = stats(any_service, container_id).memory
    assert 30_000_000 <= memory.working_set_bytes <= memory.usage_bytes < 200_000_000


@with_controllers
def test_number_of_processes(any_service: Service) -> None:
    container_id = any_service.run("sleep 1000 & sleep 1000 & wait")
    until(lambda: stats(any_service, container_id).pids.current == 3)


@with_controllers
def test_limits_are_those_asked_for(any_service: Service) -> None:
    limited = run_limited(
        any_service, "exec sleep 1000", memory_limit_in_bytes=64 * MIB, pids_limit=33
    )
    found = stats(any_service, limited)
    assert (found.memory.limit_bytes, found.pids.limit) == (64 * MIB, 33)
    found = stats(any_service, any_service.run())
    assert found.memory.limit_bytes == -1
    # systemd gives every scope one of its own.
    assert found.pids.limit == -1 or any_service.host.name == "systemd"


@with_controllers
def test_a_quota_throttles_and_that_is_counted(any_service: Service) -> None:
    container_id = run_limited(any_service, BUSY, cpu_quota=10_000, cpu_period=100_000)
    until(lambda: stats(any_service, container_id).cpu.throttled_periods >= 3)
    cpu = stats(any_service, container_id).cpu
    assert cpu.periods >= cpu.throttled_periods
    # Each for most of the 90 ms that are left of a period.
    assert cpu.throttled.ToNanoseconds() > 100_000_000


@with_controllers
def test_a_process_that_is_killed_for_want_of_memory_is_counted(any_service: Service) -> None:
    # The kernel may take more than the largest: never the first one.
    victims = "echo 1000 > /proc/self/oom_score_adj; x=$(yes | head -c 100000000)"
    script = f"({victims}); echo; sleep 1000"
    # Without memory besides in swap, should there be any.
    container_id = run_limited(
        any_service,
        script,
        memory_limit_in_bytes=16 * MIB,
        memory_swap_limit_in_bytes=16 * MIB,
    )
    assert stats(any_service, container_id).memory.HasField("oom_kills")
    until(lambda: any_service.output(container_id) == [""])
    assert stats(any_service, container_id).memory.oom_kills >= 1


@with_controllers
def test_counters_are_those_of_the_cgroup_files(any_service: Service) -> None:
    container_id = any_service.run()
    before = cpu_time_ns(any_service, container_id)
    used = stats(any_service, container_id).cpu.usage.ToNanoseconds()
    assert before <= used <= cpu_time_ns(any_service, container_id)


def cpu_time_ns(service: Service, container_id: str) -> int:
    """As the file of either generation has it."""
    for directory in directories(service, container_id):
        if (directory / "cpuacct.usage").exists():
            return int((directory / "cpuacct.usage").read_text())
    (directory,) = directories(service, container_id)
    words = (directory / "cpu.stat").read_text().split()
    return int(words[words.index("usage_usec") + 1]) * 1000


def test_want_of_cpus_is_told_where_there_is_cgroup2(any_service: Service) -> None:
    container_id = any_service.run(f"{BUSY} & {BUSY} & {BUSY} & {BUSY}")
    if not has_cgroup2(any_service):
        assert not stats(any_service, container_id).HasField("cpu_pressure")
        return
    until(
        lambda: stats(any_service, container_id).cpu_pressure.some.total.ToNanoseconds() > 1_000_000
    )
    pressure = stats(any_service, container_id).cpu_pressure
    assert 0.0 <= pressure.some.avg10 <= 100.0
    assert stats(any_service, container_id).HasField("io_pressure")


def test_what_the_host_does_not_count_is_absent(any_service: Service) -> None:
    found = stats(any_service, any_service.run())
    has_them = any_service.host.name in ("native", "v1") or booted_by_systemd()
    assert found.HasField("memory") == has_them
    assert found.HasField("pids") == has_them
    assert found.cpu.HasField("throttled") == has_them
    assert found.cpu.HasField("usage")


def test_a_created_container_has_stats(any_service: Service) -> None:
    container_id = any_service.create(name="one", labels={"app": "web"}).container_id
    found = stats(any_service, container_id)
    assert (found.container_id, found.name, dict(found.labels)) == (
        container_id,
        "one",
        {"app": "web"},
    )
    created_ns = any_service.status(container_id).created_at.ToNanoseconds()
    assert found.read_at.ToNanoseconds() > created_ns


def test_stats_of_a_stopped_container_are_failed_precondition(any_service: Service) -> None:
    container_id = any_service.run("true")
    any_service.wait(container_id)
    with refused("FAILED_PRECONDITION", "WRONG_STATE") as refusal:
        stats(any_service, container_id)
    assert refusal.metadata["state"] == "stopped"


def test_stats_of_an_unknown_container_are_not_found(service: Service) -> None:
    with refused("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        stats(service, "nobody")


def test_a_list_leaves_out_the_stopped(service: Service) -> None:
    stopped = service.run("true")
    service.wait(stopped)
    running, created = service.run(labels={"app": "web"}), service.create().container_id
    assert listed(service) == [running, created]
    assert listed(service, label_selector={"app": "web"}) == [running]
    assert listed(service, id_prefix=created) == [created]
    assert listed(service, id_prefix=stopped) == []


def test_a_container_that_goes_meanwhile_is_left_out_of_the_list(any_service: Service) -> None:
    stays = any_service.run()
    for _ in range(3):
        goes = any_service.run()
        with ThreadPoolExecutor(1) as pool:
            removal = pool.submit(any_service.remove, goes, force=True)
            seen = [listed(any_service)]
            while not removal.done() or goes in seen[-1]:
                seen.append(listed(any_service))
            removal.result()
        assert {tuple(each) for each in seen} <= {(stays, goes), (stays,)}
        assert seen[-1] == [stays]


def test_watched_stats_come_at_an_interval_that_does_not_drift(service: Service) -> None:
    service.run(BUSY)
    moments = list(islice(watch(service, 100), 21))
    times_ms = [moment[0].read_at.ToNanoseconds() / 1e6 for moment in moments]
    since_first = [each - times_ms[0] for each in times_ms]
    # On a busy machine one or the other is late or left out, but the beat is kept.
    late_ms = [each % 100 for each in since_first[1:]]
    assert statistics.median(min(late, 100 - late) for late in late_ms) < 20
    assert 1990 <= since_first[-1] < 4000


def test_watched_stats_grow_and_show_containers_made_later(service: Service) -> None:
    with_app = watch(service, 100, label_selector={"app": "web"})
    assert list(next(with_app)) == []
    container_id = service.run(BUSY, labels={"app": "web"})
    found = [moment[0] for moment in islice(filter(has_stats, with_app), 3)]
    assert {each.container_id for each in found} == {container_id}
    assert found[0].cpu.usage.ToNanoseconds() < found[-1].cpu.usage.ToNanoseconds()
    service.kill(container_id)
    assert any(not moment for moment in with_app)


def has_stats(moment: Sequence[stats_pb2.ContainerStats]) -> bool:
    return bool(moment) and moment[0].cpu.usage.ToNanoseconds() > 0


@pytest.mark.parametrize("leave", ["cancel", "disconnect"])
def test_a_client_that_leaves_frees_its_thread_at_once(
    start_service: StartService, leave: str
) -> None:
    service = start_service(limits_stream_threads=1)
    with Client(service.client.address) as client:
        moments = client.watch_stats(interval_s=3600, timeout_s=LIMIT_S)
        next(moments)
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS"):
            next(watch(service, 100))
        if leave == "cancel":
            moments.close()
        else:
            client.close()
        assert until(lambda: can_watch(service)) < 2


def can_watch(service: Service) -> bool:
    try:
        with watch(service, 100) as moments:
            next(moments)
    except OcigrpcError:
        return False
    return True


def test_a_watch_ends_at_its_deadline(service: Service) -> None:
    with pytest.raises(Timeout):
        list(watch(service, 200, timeout_s=0.5))


@pytest.mark.parametrize("interval_ms", [-1000, 0, 99, 3_600_001])
def test_a_wrong_interval_is_refused(service: Service, interval_ms: int) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_INTERVAL") as refusal:
        next(watch(service, interval_ms))
    assert refusal.fields == ["interval"]


def test_without_an_interval_it_is_a_second(service: Service) -> None:
    service.run()
    request = runtime_pb2.WatchStatsRequest()
    messages = list(islice(service.wire.WatchStats(request, timeout=LIMIT_S), 2))
    first_ms, last_ms = (each.stats[0].read_at.ToMilliseconds() for each in messages)
    assert 900 < last_ms - first_ms < 1900
