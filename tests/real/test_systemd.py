"""Scopes of a real systemd, and a system bus that hangs, lies or is not there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from jeepney import DBusAddress

from ocigrpc.errors import Cancelled, CgroupFailed, Timeout
from ocigrpc.host.cgroups import systemd
from ocigrpc.host.dbus import connect
from ocigrpc.waiting import Deadline
from tests.bed.hosts.host import Host, systemd_host

pytestmark = pytest.mark.node

LIMIT_S = 20.0
SLICE = "ocigrpc-test.slice"
UNIT = "ocigrpc-test-one.scope"
MANAGER = DBusAddress(
    "/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager"
)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with systemd_host() as host:
        yield host


@pytest.fixture
def _bus(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's system bus as the one of this process."""
    (cgroups,) = host.cgroup_roots
    run = str(cgroups).removesuffix("/sys/fs/cgroup") + "/run"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={run}/dbus/system_bus_socket")


@dataclass
class Started:
    """A program on the host, and its pid as the host numbers it."""

    process: subprocess.Popen[bytes]
    pid: int


@pytest.fixture
def start(host: Host) -> Iterator[Callable[..., Started]]:
    with ExitStack() as stack:

        def start(script: str = "exec sleep 1000") -> Started:
            process = subprocess.Popen(
                host.command(["sh", "-c", f"echo $$; {script}"]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            Deadline(LIMIT_S).wait(process.stdout.fileno())
            return Started(process, int(process.stdout.readline()))

        yield start
        systemd.stop_scope(UNIT, Deadline(LIMIT_S))


def directory(host: Host, unit: str = UNIT) -> Path:
    return Path(str(host.cgroup_roots[0]) + systemd.scope_path(SLICE, unit))


def unit_property(unit: str, interface: str, name: str) -> object:
    with connect(Deadline(LIMIT_S)) as bus:
        (path,) = bus.call(MANAGER, "GetUnit", "s", unit)
        properties = DBusAddress(path, MANAGER.bus_name, "org.freedesktop.DBus.Properties")
        (variant,) = bus.call(
            properties, "Get", "ss", f"org.freedesktop.systemd1.{interface}", name
        )
        assert isinstance(variant, tuple)
        return variant[1]


@pytest.mark.usefixtures("_bus")
def test_ping_tells_the_version(host: Host) -> None:
    output = subprocess.check_output(host.command(["systemctl", "--version"]), text=True)
    assert systemd.ping(Deadline(LIMIT_S)).split(".")[0] == output.split()[1]


@pytest.mark.usefixtures("_bus")
def test_a_scope_has_the_process_in_its_cgroup_when_start_returns(
    host: Host, start: Callable[..., Started]
) -> None:
    assert not systemd.scope_active(UNIT, Deadline(LIMIT_S))
    started = start()
    systemd.start_scope(UNIT, [started.pid], SLICE, Deadline(LIMIT_S))
    assert systemd.scope_active(UNIT, Deadline(LIMIT_S))
    cgroup = host.command(["tail", "-n1", f"/proc/{started.pid}/cgroup"])
    output = subprocess.check_output(cgroup, text=True).strip()
    assert output == f"0::{systemd.scope_path(SLICE, UNIT)}"
    assert unit_property(UNIT, "Scope", "Delegate") is True
    assert unit_property(UNIT, "Unit", "CollectMode") == "inactive-or-failed"


@pytest.mark.usefixtures("_bus")
def test_a_scope_that_is_there_is_not_started_again(start: Callable[..., Started]) -> None:
    systemd.start_scope(UNIT, [start().pid], SLICE, Deadline(LIMIT_S))
    with pytest.raises(CgroupFailed) as caught:
        systemd.start_scope(UNIT, [start().pid], SLICE, Deadline(LIMIT_S))
    assert caught.value.reason == "SCOPE_EXISTS"
    assert caught.value.metadata["unit"] == UNIT


@pytest.mark.usefixtures("_bus")
def test_a_scope_of_a_process_that_ended_fails(host: Host, start: Callable[..., Started]) -> None:
    started = start("exit 0")
    started.process.wait(LIMIT_S)
    with pytest.raises(CgroupFailed) as caught:
        systemd.start_scope(UNIT, [started.pid], SLICE, Deadline(LIMIT_S))
    assert caught.value.reason == "SCOPE_FAILED"
    assert not directory(host).exists()


@pytest.mark.usefixtures("_bus")
def test_a_scope_that_systemd_can_not_make_fails(host: Host, start: Callable[..., Started]) -> None:
    systemd.start_scope(UNIT, [start().pid], SLICE, Deadline(LIMIT_S))
    limit = directory(host).parent / "cgroup.max.descendants"
    limit.write_text("1")
    with pytest.raises(CgroupFailed) as caught:
        systemd.start_scope("ocigrpc-test-two.scope", [start().pid], SLICE, Deadline(LIMIT_S))
    limit.write_text("max")
    assert caught.value.reason == "SCOPE_FAILED"
    assert caught.value.metadata["result"] == "failed"


@pytest.mark.usefixtures("_bus")
@pytest.mark.parametrize("end", ["exit 0", "exit 7", "kill -SEGV $$", "kill -KILL $$"])
def test_a_scope_is_collected_however_its_process_ends(
    host: Host, start: Callable[..., Started], end: str
) -> None:
    started = start(f"read go; {end}")
    systemd.start_scope(UNIT, [started.pid], SLICE, Deadline(LIMIT_S))
    with connect(Deadline(LIMIT_S)) as bus:
        bus.match("type='signal',member='UnitRemoved'")
        bus.call(MANAGER, "Subscribe")
        assert started.process.stdin is not None
        started.process.stdin.close()
        bus.signal("UnitRemoved", lambda body: body[0] == UNIT)
    assert not systemd.scope_active(UNIT, Deadline(LIMIT_S))
    assert not directory(host).exists()


@pytest.mark.usefixtures("_bus")
def test_stop_takes_all_of_a_scope_by_force(host: Host, start: Callable[..., Started]) -> None:
    started = start("trap '' TERM; read go; setsid sleep 1000 & setsid sleep 1000")
    systemd.start_scope(UNIT, [started.pid], SLICE, Deadline(LIMIT_S))
    assert started.process.stdin is not None
    started.process.stdin.write(b"\n")
    started.process.stdin.flush()
    systemd.stop_scope(UNIT, Deadline(LIMIT_S))
    assert started.process.wait(LIMIT_S) == -signal.SIGKILL
    assert not systemd.scope_active(UNIT, Deadline(LIMIT_S))
    assert not directory(host).exists()


@pytest.mark.usefixtures("_bus")
def test_stop_of_an_unknown_scope_is_fine() -> None:
    systemd.stop_scope("ocigrpc-test-unknown.scope", Deadline(LIMIT_S))
    assert not systemd.scope_active("ocigrpc-test-unknown.scope", Deadline(LIMIT_S))


@pytest.mark.usefixtures("_bus")
def test_a_scope_is_stopped_after_those_it_is_before(start: Callable[..., Started]) -> None:
    container = "ocigrpc-test-container.scope"
    systemd.start_scope(UNIT, [start().pid], SLICE, Deadline(LIMIT_S), before=[container])
    systemd.start_scope(container, [start().pid], SLICE, Deadline(LIMIT_S))
    # Stopping is in the reverse order of starting: systemd.unit(5), Before=.
    after = unit_property(container, "Unit", "After")
    systemd.stop_scope(container, Deadline(LIMIT_S))
    assert isinstance(after, list)
    assert UNIT in after


@pytest.mark.usefixtures("_bus")
def test_many_scopes_at_once(start: Callable[..., Started]) -> None:
    units = [f"ocigrpc-test-{number}.scope" for number in range(8)]
    pids = [start().pid for _ in units]
    failures: list[BaseException] = []

    def live(unit: str, pid: int) -> None:
        try:
            systemd.start_scope(unit, [pid], SLICE, Deadline(LIMIT_S))
            systemd.stop_scope(unit, Deadline(LIMIT_S))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=live, args=each) for each in zip(units, pids, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert failures == []
    assert not any(systemd.scope_active(unit, Deadline(LIMIT_S)) for unit in units)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A busybox that sleeps, in the test's slice."""
    (tmp_path / "rootfs/bin").mkdir(parents=True)
    busybox = tmp_path / "rootfs/bin/busybox"
    busybox.write_bytes(Path("/bin/busybox").read_bytes())
    busybox.chmod(0o755)
    subprocess.run(["runc", "spec"], cwd=tmp_path, check=True)
    config = tmp_path / "config.json"
    spec = msgspec.json.decode(config.read_bytes())
    spec["process"] |= {"args": ["/bin/busybox", "sleep", "1000"], "terminal": False}
    spec["linux"]["cgroupsPath"] = f"{SLICE}:ocigrpc-test:one"
    config.write_bytes(msgspec.json.encode(spec))
    return tmp_path


def test_runc_with_systemd_cgroups_lives_on_this_host(host: Host, bundle: Path) -> None:
    out = bundle / "out"

    def runc(*arguments: str) -> str:
        # Into a file: the container would keep the write end of a pipe open.
        with out.open("w") as stdout:
            argv = host.command(["runc", "--systemd-cgroup", *arguments])
            subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=stdout, check=True)
        return out.read_text()

    runc("create", "--bundle", str(bundle), "one")
    try:
        assert directory(host, "ocigrpc-test-one.scope").is_dir()
        runc("start", "one")
        runc("pause", "one")
        assert msgspec.json.decode(runc("state", "one"))["status"] == "paused"
        assert (directory(host) / "cgroup.freeze").read_text() == "1\n"
    finally:
        runc("delete", "--force", "one")
    assert not directory(host).exists()


CALLS: Sequence[Callable[[Deadline], object]] = (
    lambda deadline: systemd.start_scope(UNIT, [os.getpid()], SLICE, deadline),
    lambda deadline: systemd.stop_scope(UNIT, deadline),
    lambda deadline: systemd.scope_active(UNIT, deadline),
    systemd.ping,
)
each_call = pytest.mark.parametrize("call", CALLS, ids=["start", "stop", "active", "ping"])


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A bus that listens, and so lets clients connect, but never says a word."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "bus"))
        server.listen(0)
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/bus")
        yield server


@each_call
@pytest.mark.usefixtures("silent")
def test_a_bus_that_never_answers_is_a_timeout(call: Callable[[Deadline], object]) -> None:
    with pytest.raises(Timeout):
        call(Deadline(0.1))


@pytest.mark.usefixtures("silent")
def test_a_bus_that_never_answers_lets_the_caller_go() -> None:
    deadline = Deadline(LIMIT_S)
    threading.Timer(0.05, deadline.cancel).start()
    with pytest.raises(Cancelled):
        systemd.ping(deadline)


def test_a_bus_with_a_full_backlog_is_a_timeout(silent: socket.socket) -> None:
    with ExitStack() as stack:
        refused = 0
        while not refused:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            refused = client.connect_ex(silent.getsockname())
        with pytest.raises(Timeout):
            systemd.ping(Deadline(0.1))


@pytest.mark.parametrize(
    "output",
    [b"", b"REJECTED EXTERNAL\r\n", b"x" * 10000, b"OK 0123\r\n", b"OK 0123\r\nl\xff\xff\xff"],
)
def test_a_bus_that_talks_nonsense_and_hangs_up_is_unreachable(
    silent: socket.socket, output: bytes
) -> None:
    def serve() -> None:
        client, _ = silent.accept()
        with client:
            client.sendall(output)
            client.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(CgroupFailed) as caught:
        systemd.ping(Deadline(LIMIT_S))
    thread.join(LIMIT_S)
    assert caught.value.reason == "BUS_UNREACHABLE"


def test_a_bus_that_authenticates_and_falls_silent_is_a_timeout(silent: socket.socket) -> None:
    def serve() -> None:
        client, _ = silent.accept()
        with client:
            client.sendall(b"OK 0123\r\n")
            # Until the client has gone.
            while client.recv(4096):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(Timeout):
        systemd.start_scope(UNIT, [os.getpid()], SLICE, Deadline(0.1))
    thread.join(LIMIT_S)
    assert not thread.is_alive()


@each_call
def test_a_missing_bus_is_unreachable(
    call: Callable[[Deadline], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    with pytest.raises(CgroupFailed) as caught:
        call(Deadline(LIMIT_S))
    assert caught.value.reason == "BUS_UNREACHABLE"
    assert caught.value.metadata["address"] == f"unix:path={tmp_path}/none"
