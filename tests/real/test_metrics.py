"""The metrics of a service: what Prometheus reads, and that it always gets an answer."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest

from ocigrpc.cli.daemon.metrics_page import CLIENTS_LIMIT
from ocigrpc.v1 import runtime_pb2
from tests.bed.clients.exec import exec_sync, shell
from tests.bed.clients.metrics import Metrics, Samples, key_of
from tests.bed.clients.refusal import refused
from tests.bed.documents import OPERATING, fences
from tests.bed.faults.runtimes import HANGS, Switches
from tests.bed.hosts.disks import FailingDisk, disk
from tests.bed.hosts.host import native
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.real.conftest import StartService, serving, used

EAT = "exec tail /dev/zero"

CURL, CURL_SOCKET = (
    text for language, text in fences(OPERATING) if language == "sh" and "curl -s" in text
)

RawCall: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"


@pytest.fixture(scope="module")
def _served(rootfs: Path, switches: Switches) -> Iterator[Service]:
    runtimes = {"switched": {"path": str(switches.path)}}
    settings = {"metrics_address": "127.0.0.1:0", "limits_stream_threads": 2}
    with native() as host, serving(host, rootfs, runtimes=runtimes, **settings) as service:
        yield service


@pytest.fixture
def service(_served: Service) -> Iterator[Service]:
    with used(_served):
        yield _served


@pytest.fixture
def metrics(service: Service) -> Metrics:
    return Metrics(service)


def counted(before: Samples, after: Samples, name: str) -> dict[str, float]:
    """How far a metric with one label has risen, by the values of that."""
    return {
        dict(key[1]).popitem()[1]: value - before.get(key, 0)
        for key, value in after.items()
        if key[0] == name and value > before.get(key, 0)
    }


def test_a_life_is_counted_call_by_call_and_phase_by_phase(
    service: Service, metrics: Metrics
) -> None:
    before = metrics.samples()
    container_id = service.create("exit 3").container_id
    assert metrics.containers("created") == 1
    service.start_container(container_id)
    service.wait(container_id)
    assert metrics.containers("stopped") == 1
    service.remove(container_id)
    after = metrics.samples()
    for method in ("CreateContainer", "StartContainer", "WaitContainer", "RemoveContainer"):
        key = key_of("ocigrpc_call_duration_seconds_count", method=method, code="OK")
        assert after[key] - before.get(key, 0) == 1
    phases = counted(before, after, "ocigrpc_create_phase_duration_seconds_count")
    assert phases == dict.fromkeys(["spawn", "cgroup", "monitor", "sync"], 1)
    assert all(metrics.containers(state) == 0 for state in ("created", "running", "stopped"))


def test_the_runs_of_a_runtime_are_counted_by_its_name_and_verb(
    service: Service, metrics: Metrics
) -> None:
    def runs(verb: str) -> float:
        return metrics.value("ocigrpc_runtime_runs_total", runtime="switched", verb=verb)

    before = {verb: runs(verb) for verb in ("create", "start", "exec", "delete")}
    container_id = service.run(runtime_handler="switched")
    exec_sync(service, container_id, shell("true"))
    service.remove(container_id, force=True)
    assert all(runs(verb) == before[verb] + 1 for verb in before)


@pytest.mark.parametrize(
    ("how", "script"), [("0", "exit 0"), ("other", "exit 7"), ("oom", EAT), ("signal", "")]
)
def test_an_exit_is_counted_in_its_class(
    service: Service, metrics: Metrics, how: str, script: str
) -> None:
    before = metrics.exits(how)
    config = service.config(script or "exec sleep 1000")
    config.resources.memory_limit_in_bytes = 32 << 20
    config.resources.memory_swap_limit_in_bytes = 32 << 20
    request = runtime_pb2.CreateContainerRequest(config=config)
    container_id = service.client.create_container(request).container_id
    service.start_container(container_id)
    if not script:
        service.kill(container_id)
    service.wait(container_id)
    # A wait ends a moment before the end is counted.
    until(lambda: metrics.exits(how) == before + 1)


def test_a_lost_monitor_and_the_exit_that_nobody_knows_then_are_counted(
    service: Service, metrics: Metrics
) -> None:
    lost = metrics.value("ocigrpc_monitors_lost_total")
    unknown = metrics.exits("unknown", "monitor_lost")
    container_id = service.run()
    os.kill(service.monitor_pid(container_id), signal.SIGKILL)
    until(lambda: metrics.value("ocigrpc_monitors_lost_total") == lost + 1)
    service.kill(container_id)
    until(lambda: metrics.exits("unknown", "monitor_lost") == unknown + 1)


def test_a_call_beyond_the_limit_is_counted_as_refused(service: Service, metrics: Metrics) -> None:
    container_id = service.run()
    request = runtime_pb2.WaitContainerRequest(container_id=container_id)
    waits = [service.wire.WaitContainer.future(request, timeout=LIMIT_S) for _ in range(2)]
    until(lambda: metrics.value("ocigrpc_calls_running", budget="WaitContainer") == 2)
    assert metrics.value("ocigrpc_calls_limit", budget="WaitContainer") == 2
    before = metrics.value("ocigrpc_calls_refused_total", budget="WaitContainer")
    with refused("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS"):
        service.wait(container_id)
    assert metrics.value("ocigrpc_calls_refused_total", budget="WaitContainer") == before + 1
    assert metrics.calls("WaitContainer", "RESOURCE_EXHAUSTED") >= 1
    service.remove(container_id, force=True)
    for wait in waits:
        wait.exception(timeout=LIMIT_S)
    until(lambda: metrics.value("ocigrpc_calls_running", budget="WaitContainer") == 0)


def test_no_client_can_add_a_value_of_a_label(service: Service, metrics: Metrics) -> None:
    before = metrics.calls("unknown", "UNIMPLEMENTED")
    for name in ("Invented1", "Invented2"):
        with refused("UNIMPLEMENTED"):
            call: RawCall = service.channel.unary_unary(f"/ocigrpc.v1.RuntimeService/{name}")
            call(b"", timeout=LIMIT_S)
    assert metrics.calls("unknown", "UNIMPLEMENTED") == before + 2
    container_id = service.run(name="invented")
    text = metrics.text()
    assert "nvented" not in text
    assert container_id not in text


def test_events_the_store_and_descriptors_are_shown(service: Service, metrics: Metrics) -> None:
    with service.client.watch_events(timeout_s=LIMIT_S) as watch:
        next(watch)
        assert metrics.value("ocigrpc_event_followers") == 1
        service.run()
        until(lambda: metrics.value("ocigrpc_event_lag") == 0)
        assert metrics.value("ocigrpc_events_kept") >= 2
    until(lambda: metrics.value("ocigrpc_event_followers") == 0)
    assert metrics.value("ocigrpc_store_bytes") > 0
    assert metrics.value("ocigrpc_store_owed_writes") == 0
    assert 0 < metrics.value("process_open_fds") < metrics.value("process_max_fds")


def test_a_runtime_that_hangs_delays_no_answer(
    service: Service, metrics: Metrics, switches: Switches
) -> None:
    container_id = service.create(runtime_handler="switched").container_id
    with switches.on("start", HANGS):
        request = runtime_pb2.StartContainerRequest(container_id=container_id)
        start = service.wire.StartContainer.future(request, timeout=LIMIT_S)
        switches.wait()
        assert metrics.containers("created") == 1
        assert metrics.value("ocigrpc_calls_running", budget="StartContainer") == 1
        start.cancel()
        until(lambda: metrics.value("ocigrpc_calls_running", budget="StartContainer") == 0)


def test_a_disk_that_hangs_delays_no_answer(rootfs: Path, tmp_path: Path) -> None:
    hanging = FailingDisk(tmp_path / "image", tmp_path / "disk")
    settings = {"root_dir": hanging.path / "root", "metrics_address": "127.0.0.1:0"}
    with (
        hanging.mounted(),
        native() as host,
        serving(host, rootfs, **settings) as service,
    ):
        metrics = Metrics(service)
        container_id = service.run()
        with hanging.hanging():
            request = runtime_pb2.PauseContainerRequest(container_id=container_id)
            pause = service.wire.PauseContainer.future(request, timeout=LIMIT_S)
            until(lambda: metrics.value("ocigrpc_calls_running", budget="PauseContainer") == 1)
            assert metrics.containers("running") + metrics.containers("paused") == 1
            assert not pause.done()
        pause.exception(timeout=LIMIT_S)
        service.remove(container_id, force=True)


def test_what_a_full_disk_keeps_from_being_stored_is_shown_as_owed(
    rootfs: Path, tmp_path: Path
) -> None:
    settings = {"root_dir": tmp_path / "disk/root", "metrics_address": "127.0.0.1:0"}
    with (
        disk(tmp_path / "disk") as small,
        native() as host,
        serving(host, rootfs, **settings) as service,
    ):
        metrics = Metrics(service)
        ending = [service.run() for _ in range(8)]
        with small.full():
            for container_id in ending:
                service.kill(container_id)
            until(lambda: metrics.value("ocigrpc_store_owed_writes") > 0)
        until(lambda: metrics.value("ocigrpc_store_owed_writes") == 0)


def test_silent_clients_delay_no_answer_until_there_are_too_many(metrics: Metrics) -> None:
    port = int(metrics.url.split(":")[2].partition("/")[0])
    with ExitStack() as stack:

        def connect() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", port)))

        # A client has its answer a moment before its place is free again.
        for _ in range(CLIENTS_LIMIT - 2):
            connect()
        assert metrics.text()
        until(lambda: closed(connect()))
    until(lambda: answers(metrics))


def answers(metrics: Metrics) -> bool:
    try:
        return bool(metrics.text())
    except OSError:
        return False


def closed(connection: socket.socket) -> bool:
    """Whether it is closed at the other end at once."""
    connection.settimeout(0.1)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_the_documented_command_prints_the_metrics(metrics: Metrics) -> None:
    command = CURL.replace("http://127.0.0.1:9477/metrics", metrics.url)
    assert command != CURL
    printed = subprocess.run(
        ["bash", "-euc", command], capture_output=True, text=True, timeout=LIMIT_S, check=True
    ).stdout
    assert re.search(r"^ocigrpc_build_info\{", printed, re.MULTILINE)


def shown_at(path: Path) -> str:
    """What the documented command prints of the metrics at a socket."""
    command = CURL_SOCKET.replace("/run/ocigrpc/metrics.sock", str(path))
    assert command != CURL_SOCKET
    return subprocess.run(
        ["bash", "-euc", command], capture_output=True, text=True, timeout=LIMIT_S, check=True
    ).stdout


@pytest.fixture
def at_socket(start_service: StartService, tmp_path: Path) -> Callable[..., tuple[Service, Path]]:
    """Starts a service that serves metrics at a socket."""
    tmp_path.chmod(0o711)
    path = tmp_path / "metrics.sock"

    def start(**settings: object) -> tuple[Service, Path]:
        return start_service(metrics_address=f"unix://{path}", **settings), path

    return start


def test_a_socket_has_its_permissions_and_is_removed_at_the_end(
    at_socket: Callable[..., tuple[Service, Path]],
) -> None:
    service, path = at_socket(metrics_mode="0640", metrics_group="4711")
    assert re.search(r"^ocigrpc_build_info\{", shown_at(path), re.MULTILINE)
    assert stat.filemode(path.stat().st_mode) == "srw-r-----"
    assert path.stat().st_gid == 4711
    assert list(path.parent.iterdir()) == [path]
    assert listening(service.pid) == []
    service.end()
    assert not path.exists()


def test_a_socket_that_a_killed_service_has_left_is_replaced(
    at_socket: Callable[..., tuple[Service, Path]],
) -> None:
    service, path = at_socket()
    service.die()
    assert path.is_socket()
    service.start()
    assert "ocigrpc_build_info" in shown_at(path)


def unread(path: Path) -> list[float]:
    """Its status without the time of the last access, which a probe for a listener changes."""
    found = path.stat()
    return [*found[: stat.ST_ATIME], found.st_mtime_ns, found.st_ctime_ns]


@pytest.mark.parametrize(
    ("make", "reason"),
    [(Path.touch, "SOCKET_PATH_TAKEN"), (Path.mkdir, "SOCKET_PATH_TAKEN"), (None, "SOCKET_IN_USE")],
)
def test_what_is_not_a_socket_of_ours_is_left_alone(
    rootfs: Path, tmp_path: Path, make: Callable[[Path], None] | None, reason: str
) -> None:
    path = tmp_path / "metrics.sock"
    with native() as host, socket.socket(socket.AF_UNIX) as other:
        if make:
            make(path)
        else:
            other.bind(str(path))
            other.listen()
        before = unread(path)
        line = Service(host, tmp_path, rootfs, metrics_address=f"unix://{path}").refusal()
        assert (line["reason"], line["path"]) == (reason, str(path))
        assert unread(path) == before


def test_an_address_that_is_taken_is_named(rootfs: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, native() as host:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = Service(host, tmp_path, rootfs, metrics_address=address).refusal()
    assert (line["reason"], line["address"]) == ("ADDRESS_UNUSABLE", address)


def test_a_service_without_an_address_listens_on_no_port(start_service: StartService) -> None:
    service = start_service()
    assert not [each for each in service.events() if each["event"] == "metrics.served"]
    assert listening(service.pid) == []


def listening(pid: int) -> list[str]:
    """The sockets of TCP at which a process listens, as the kernel lists them; proc_net(5)."""
    held = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return [line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in held]
