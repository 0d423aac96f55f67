"""What the service holds open: little for a container, nothing of a call that has ended."""

from __future__ import annotations

import os
import queue
import resource
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from ocigrpc.errors import CannotRun, ContainerNotFound, OcigrpcError, WrongState
from ocigrpc.host.descriptors import PER_CONTAINER
from ocigrpc.v1 import attach_pb2, config_pb2, event_pb2, exec_pb2, log_pb2, runtime_pb2
from tests.bed.clients.exec import Talk, exec_sync, shell
from tests.bed.clients.logs import responses
from tests.bed.faults.scarcity import LASTING, descriptors_below
from tests.bed.hosts.host import Host, native
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.services.service import Service
from tests.bed.services.serving import serving
from tests.real.conftest import StartService, crun_host

CONTAINERS = 12
WAITS = 40

ONCE = 4
"""Room for what the service opens when it first needs it, and keeps."""

SOFT, HARD = 256, 1024

ROUNDS = 8
"""Of every kind of call: what one kind leaves behind is more than there is room for."""


def held(service: Service) -> Counter[str]:
    """What the service holds open, by kind."""
    found: Counter[str] = Counter()
    for entry in os.scandir(f"/proc/{service.pid}/fd"):
        with suppress(FileNotFoundError):
            found[os.path.basename(os.readlink(entry)).partition(":[")[0]] += 1
    return found


def expect_held(service: Service, before: Counter[str], more: int = 0) -> None:
    """Wait until it holds no more than that, and some."""
    most = before.total() + more + ONCE
    try:
        until(lambda: held(service).total() <= most)
    except Exception:
        pytest.fail(f"{held(service) - before} more than before, of {more + ONCE}")


def waits(service: Service) -> int:
    """How many calls of WaitContainer wait now."""
    status = service.client.status()
    return status.streams["WaitContainer"]


def test_a_container_takes_four_descriptors_while_it_lives_and_none_afterwards(
    any_service: Service,
) -> None:
    service = any_service
    service.remove(service.run(), force=True)
    before = held(service)
    ids = [service.run() for _ in range(CONTAINERS)]
    for _ in range(3):
        assert {each.container_id for each in service.containers()} == set(ids)
    for container_id in ids[: CONTAINERS // 2]:
        service.pause(container_id)
        assert service.state(container_id) == "paused"
    expect_held(service, before, PER_CONTAINER * CONTAINERS)
    for container_id in ids:
        service.stop(container_id, 0)
    assert {service.state(each) for each in ids} == {"stopped"}
    expect_held(service, before)


def test_a_wait_takes_no_descriptor(service: Service) -> None:
    container_id = service.run()
    request = runtime_pb2.WaitContainerRequest(container_id=container_id)
    before = held(service)
    calls = [service.wire.WaitContainer.future(request, timeout=LIMIT_S) for _ in range(WAITS)]
    until(lambda: waits(service) == WAITS)
    expect_held(service, before)
    for call in calls[1:]:
        call.cancel()
    until(lambda: waits(service) == 1)
    service.stop(container_id, 0)
    assert calls[0].result().exit_status.exit_code == 137
    expect_held(service, before)


def test_what_runs_already_goes_on_while_no_more_can_be_opened(service: Service) -> None:
    container_id = service.run("read a; exit 7", stdin=True)
    request = runtime_pb2.WaitContainerRequest(container_id=container_id)
    ended = service.wire.WaitContainer.future(request, timeout=LIMIT_S)
    talk = Talk(service, container_id, "echo up; while read a; do echo $a; done", stdin=True)
    talk.read(lambda: b"up" in talk.stdout)
    start = attach_pb2.AttachStart(container_id=container_id, stdin=True)
    requests: queue.Queue[attach_pb2.AttachRequest | None] = queue.Queue()
    requests.put(attach_pb2.AttachRequest(start=start))
    attached = service.client.attach(iter(requests.get, None), timeout_s=LIMIT_S)
    next(attached)
    with descriptors_below(service, LASTING):
        for number in range(20):
            talk.type(b"%d\n" % number)
            talk.read(lambda number=number: b"\n%d\n" % number in talk.stdout)  # type: ignore[misc]
        requests.put(attach_pb2.AttachRequest(stdin=b"end\n"))
        assert list(attached) == []
    requests.put(None)
    assert ended.result().exit_status.exit_code == 7
    talk.hang_up()


def test_containers_found_again_take_no_more(start_service: StartService) -> None:
    service = start_service()
    before = held(service)
    for _ in range(CONTAINERS):
        service.run()
    service.end()
    service.start()
    assert len(service.containers(states=["CONTAINER_STATE_RUNNING"])) == CONTAINERS
    expect_held(service, before, PER_CONTAINER * CONTAINERS)


def test_without_the_collector_no_call_leaves_a_descriptor(start_service: StartService) -> None:
    service = start_service()
    service.end()
    service.start("tests.bed.faults.uncollected")
    calls = Calls(service)
    calls.every(10)
    before = held(service)
    for round_number in range(ROUNDS):
        calls.every(round_number * 7)
    expect_held(service, before)


def test_without_the_collector_a_hundred_clients_of_attach_leave_nothing(
    start_service: StartService,
) -> None:
    service = start_service()
    service.end()
    service.start("tests.bed.faults.uncollected")
    calls = Calls(service)
    calls.attach()
    before = held(service)
    for _ in range(100):
        calls.attach()
    expect_held(service, before)


class Calls:
    """Calls of every kind, to the end, refused, left in the middle, and cut off anywhere."""

    def __init__(self, service: Service) -> None:
        self._service = service
        chatter = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"
        self._id = service.run(chatter, stdin=True)

    def every(self, milliseconds: int) -> None:
        """One of each kind; those that are cut off, after so long."""
        for call in (self.attach, self.exec, self.exec_sync, self.read, self.live, self.fail):
            call()
        for cut_off in self._cut_off_calls():
            with suppress(grpc.RpcError):
                cut_off(0.001 + milliseconds / 1000)

    def attach(self) -> None:
        """A client of Attach that leaves after some output."""
        start = attach_pb2.AttachStart(container_id=self._id, stdin=True, stdout=True)
        requests = [attach_pb2.AttachRequest(start=start)]
        with self._service.client.attach(requests, timeout_s=LIMIT_S) as stream:
            for _ in range(2):
                next(stream)

    def exec(self) -> None:
        """Clients of Exec that stay to the end, and that leave."""
        talk = Talk(self._service, self._id, "read a; echo $a", stdin=True)
        talk.type(b"said\n")
        talk.read_all()
        assert talk.stdout == b"said\n"
        for fields in ({"terminal": True}, {"stdin": True}):
            talk = Talk(self._service, self._id, "echo up; exec sleep 1000", **fields)
            talk.read(lambda talk=talk: b"up" in talk.stdout)  # type: ignore[misc]
            talk.leave()

    def exec_sync(self) -> None:
        """Programs that end, that take too long, and that there are not."""
        assert exec_sync(self._service, self._id, shell("exit 3")).exit.exit_code == 3
        for program in (shell("exec sleep 1000"), exec_pb2.ExecProcess(command=["none"])):
            with pytest.raises(OcigrpcError):
                exec_sync(self._service, self._id, program, timeout_s=0.2)

    def read(self) -> None:
        """Streams that are left, and answers."""
        client = self._service.client
        logs = responses(self._service, self._id, follow=True)
        events = client.watch_events(timeout_s=LIMIT_S)
        stats = client.watch_stats(timeout_s=LIMIT_S)
        for stream in (logs, events, stats):
            next(stream)
            stream.close()
        assert list(responses(self._service, self._id))
        client.container_stats(self._id)
        self._service.status(self._id)
        client.status()

    def live(self) -> None:
        """A whole life."""
        service = self._service
        container_id = service.run()
        service.pause(container_id)
        service.resume(container_id)
        service.stop(container_id, 0)
        assert service.wait(container_id).exit_code == 137
        service.remove(container_id)

    def fail(self) -> None:
        """Calls that are refused, by us and by the runtime."""
        with pytest.raises(ContainerNotFound):
            self._service.status("none")
        with pytest.raises(WrongState):
            self._service.start_container(self._id)
        with pytest.raises(CannotRun):
            self._service.create_command("/none")

    def _cut_off_calls(self) -> list[Callable[[float], object]]:
        """Calls that get so many seconds."""
        rpc, container_id = self._service.wire, self._id
        process = shell("exec sleep 1000")
        attach = attach_pb2.AttachStart(container_id=container_id, stdout=True)
        start = exec_pb2.ExecStart(container_id=container_id, process=process, terminal=True)
        program = exec_pb2.ExecSyncRequest(container_id=container_id, process=process)
        config = config_pb2.ContainerConfig(
            rootfs_path=str(self._service.rootfs), command=["sleep", "1000"]
        )
        create = runtime_pb2.CreateContainerRequest(config=config, name="cut-off")
        wait = runtime_pb2.WaitContainerRequest(container_id=container_id)
        logs = log_pb2.ContainerLogsRequest(container_id=container_id, follow=True)
        listing = runtime_pb2.ListContainersRequest()
        return [
            lambda s: list(rpc.Attach(iter([attach_pb2.AttachRequest(start=attach)]), timeout=s)),
            lambda s: list(rpc.Exec(iter([exec_pb2.ExecRequest(start=start)]), timeout=s)),
            lambda s: rpc.ExecSync(program, timeout=s),
            lambda s: rpc.WaitContainer(wait, timeout=s),
            lambda s: list(rpc.ContainerLogs(logs, timeout=s)),
            lambda s: list(rpc.WatchEvents(event_pb2.WatchEventsRequest(), timeout=s)),
            lambda s: list(rpc.WatchStats(runtime_pb2.WatchStatsRequest(), timeout=s)),
            lambda s: rpc.ListContainers(listing, timeout=s),
            lambda s: rpc.CreateContainer(create, timeout=s),
            lambda _: self._remove("cut-off"),
        ]

    def _remove(self, name: str) -> None:
        """Remove the container of a name, if it came to be."""
        for container_id in self._service.ids(name=name):
            self._service.remove(container_id, force=True)


def limited(host: Host) -> Host:
    """The host, with a limit of open files for what runs there."""
    return Host(host.name, host.cgroup_roots, ("prlimit", f"--nofile={SOFT}:{HARD}"))


@pytest.mark.parametrize(("containers", "wanted"), [(129, 1032), (10_000, 44_096)])
def test_more_containers_than_the_limit_carries_are_refused_with_what_they_want(
    rootfs: Path, tmp_path: Path, containers: int, wanted: int
) -> None:
    with native() as host:
        service = Service(limited(host), tmp_path, rootfs, limits_containers=containers)
        line = service.refusal()
    assert (line["reason"], line["key"]) == ("OPEN_FILES_LIMIT", "limits.containers")
    assert (line["wanted"], line["limit"], line["carried"]) == (str(wanted), str(HARD), "128")


@pytest.mark.parametrize("containers", [0, 128])
def test_as_many_containers_as_the_limit_carries_are_taken(rootfs: Path, containers: int) -> None:
    with native() as host, serving(limited(host), rootfs, limits_containers=containers) as service:
        status = service.client.status()
        assert status.settings.fields["limits"].struct_value["containers"] == 128


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_what_the_service_starts_has_the_limit_that_it_was_started_with(
    rootfs: Path, runtime: str
) -> None:
    make_host = native if runtime == "runc" else crun_host
    with make_host() as host:
        argv = ("prlimit", f"--nofile={SOFT}:{HARD}", *host.prefix)
        limited_host = Host(host.name, host.cgroup_roots, argv)
        with serving(limited_host, rootfs, default_runtime=runtime) as service:
            container_id = service.run()
            monitor = service.monitor_pid(container_id)
            assert resource.prlimit(monitor, resource.RLIMIT_NOFILE) == (SOFT, HARD)
            # runc 1.1.5 raises its own, and passes that on.
            limits = [[SOFT, HARD], [HARD, HARD]] if runtime == "runc" else [[SOFT, HARD]]
            ask = "ulimit -Sn; ulimit -Hn"
            assert [int(each) for each in service.output_of(ask)] in limits
            output = exec_sync(service, container_id, shell(ask)).stdout
            assert [int(each) for each in output.split()] in limits
