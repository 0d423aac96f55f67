"""The service as a process on a host, and the client's side of it."""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict, Unpack

import grpc
from google.protobuf.duration_pb2 import Duration

from ocigrpc.v1 import config_pb2, container_pb2, runtime_pb2
from ocigrpc.v1.container_pb2 import ContainerState, MonitorLostPolicy
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from ocigrpc.waiting import Deadline
from tests.bed.hosts.host import Host
from tests.bed.hosts.leaks import LIMIT_S, Leaks, children

REPOSITORY = Path(__file__).parents[3]
SECRET = "an-environment-of-the-service"


def state_word(status: container_pb2.ContainerStatus) -> str:
    """The state in the words of the OCI runtime spec."""
    return ContainerState.Name(status.state).removeprefix("CONTAINER_STATE_").lower()


class Fields(TypedDict, total=False):
    """Fields of a ``CreateContainerRequest`` beside its source."""

    container_id: str
    name: str
    runtime_handler: str
    stdin: bool
    stdin_once: bool
    terminal: bool
    log_path: str
    log_size_max_bytes: int
    stop_signal: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    cgroup_parent: str
    monitor_lost_policy: MonitorLostPolicy


class Service:
    """A service with directories, a cgroup parent and runtime roots of its own.

    ``settings`` are flags, without the dashes in front; ``runtimes`` what the setting has of that
    name, without roots.
    """

    def __init__(
        self,
        host: Host,
        directory: Path,
        rootfs: Path,
        *,
        runtimes: Mapping[str, dict[str, object]] | None = None,
        **settings: object,
    ) -> None:
        self.host = host
        self.directory = directory
        self.rootfs = rootfs
        name = directory.name
        by_systemd = settings.get("cgroup_manager") == "systemd"
        parent = f"{name.replace('-', '_')}.slice" if by_systemd else name
        self._leaks = Leaks(host, directory, parent)
        self.cgroup_parent = parent if by_systemd else f"/{parent}"
        handlers = {"runc": {"path": "runc"}, "crun": {"path": "crun"}} | dict(runtimes or {})
        for runtime, handler in handlers.items():
            root = "crun" if runtime == "crun" else "runc"
            handlers[runtime] = {"root": str(directory / root), **handler}
        self._settings: dict[str, object] = {
            "socket_path": directory / "socket",
            "root_dir": directory / "root",
            "run_dir": directory / "run",
            "logs_dir": directory / "log",
            "cgroup_parent": self.cgroup_parent,
            "runtimes": json.dumps(handlers),
            "log_format": "json",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Of the service, as this process sees it."""

    # The process.

    def start(self, *launcher: str) -> None:
        """Start it, and wait until it says that it is ready.

        ``launcher`` is a module that serves in place of ``ocigrpc``, and its arguments.
        """
        self.launch(*launcher)
        self.wait_for_word("READY=1")
        self.connect()

    def launch(self, *launcher: str) -> None:
        """Start it, and wait for nothing."""
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        (self.directory / "notify").unlink(missing_ok=True)
        self._notify.bind(str(self.directory / "notify"))
        with (self.directory / "events").open("ab") as events:
            self._process = subprocess.Popen(
                self.host.command(self.argv(*launcher)),
                cwd=REPOSITORY,
                env=os.environ
                | {"NOTIFY_SOCKET": str(self.directory / "notify"), "SECRET": SECRET},
                stdin=subprocess.DEVNULL,
                stdout=events,
                stderr=events,
            )

    def argv(self, *launcher: str) -> list[str]:
        """Its command line, on its host; see :meth:`start`."""
        flags = [
            word
            for key, value in self._settings.items()
            for word in ("--" + key.replace("_", "-").replace(".", "-"), str(value))
        ]
        return [sys.executable, "-m", *(launcher or ("ocigrpc",)), "serve", *flags]

    def refusal(self) -> dict[str, object]:
        """The one line with which it does not start."""
        ended = subprocess.run(
            self.host.command(self.argv()),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert (ended.returncode, ended.stdout) == (1, ""), ended
        (line,) = ended.stderr.splitlines()
        assert not (self.directory / "socket").exists()
        event = json.loads(line)
        assert isinstance(event, dict)
        return event

    def connect(self) -> None:
        """Make ``rpc`` a stub of a connection of its own."""
        self.channel = grpc.insecure_channel(
            f"unix:{self.directory}/socket",
            [
                ("grpc.use_local_subchannel_pool", 1),
                # When the service is back, that is known soon.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 100),
            ],
        )
        self.rpc = RuntimeServiceStub(self.channel)

    def another(self) -> Service:
        """The same service, by a connection of its own that outlives the service's death."""
        client = copy.copy(self)
        client.connect()
        return client

    def wait_for_word(self, word: str) -> None:
        """Wait until it tells its init system ``word``; see sd_notify(3)."""
        assert self._process is not None
        # An interpreter that starts beside many others takes its time.
        deadline = Deadline(3 * LIMIT_S)
        ended = os.pidfd_open(self._process.pid)
        try:
            while self._notify.fileno() in deadline.wait(self._notify, ended):
                said, ancillary, _, _ = self._notify.recvmsg(4096, 1024)
                # unix(7): as our pid namespace numbers it.
                self.pid = struct.unpack("3i", ancillary[0][2])[0]
                if word in said.decode().splitlines():
                    return
        finally:
            os.close(ended)
        raise AssertionError((self.directory / "events").read_text())

    def end(self) -> None:
        """Ask it to end, and expect a good end, with nothing of the service itself left."""
        self.terminate()
        self.expect_end()

    def expect_end(self) -> None:
        """Wait for the good end that it was asked for."""
        assert self._process is not None
        self.channel.close()
        assert self._process.wait(2 * LIMIT_S) == 0, (self.directory / "events").read_text()
        self._notify.close()
        self.pid = 0
        assert not (self.directory / "socket").exists()

    def terminate(self) -> None:
        """Ask it to end."""
        assert self._process is not None
        self._process.terminate()

    def die(self) -> None:
        """Kill it outright."""
        assert self._process is not None
        self._process.kill()
        self.expect_death()

    def expect_death(self) -> None:
        """Wait for the death of a service that is killed outright, by whomever."""
        assert self._process is not None
        assert self._process.wait(LIMIT_S) == -signal.SIGKILL
        # Not before, or calls would be cancelled, and not cut off.
        self.channel.close()
        self._notify.close()
        self.pid = 0

    def is_alive(self) -> bool:
        """Whether its process runs, which may have died without anybody's expecting it."""
        return self._process is not None and self._process.poll() is None

    def discard(self) -> None:
        """Kill it, if it runs, and what is left of its containers."""
        if self._process is not None and self.is_alive():
            self._process.kill()
            self._process.wait()
        self._leaks.purge()

    def events(self) -> list[dict[str, object]]:
        """What it has logged."""
        lines = (self.directory / "events").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def leaks(self) -> list[str]:
        """What is there of containers, and of the service's children."""
        forked = children(self.pid) if self.pid else ()
        return [*self._leaks.all(), *(f"child {pid} of the service" for pid in forked)]

    def parents(self) -> list[Path]:
        """The cgroup parent, in every hierarchy, while it is there."""
        return list(self._leaks.parents())

    # Containers.

    def config(self, script: str) -> config_pb2.ContainerConfig:
        """A config that runs a shell script in busybox."""
        command = ["/bin/sh", "-c", script]
        return config_pb2.ContainerConfig(rootfs_path=str(self.rootfs), command=command)

    def create(
        self, script: str = "exec sleep 1000", **fields: Unpack[Fields]
    ) -> runtime_pb2.CreateContainerResponse:
        """Create a container of a shell script in busybox."""
        return self.create_command("/bin/sh", "-c", script, **fields)

    def create_command(
        self, *command: str, **fields: Unpack[Fields]
    ) -> runtime_pb2.CreateContainerResponse:
        """Create a container of a program in busybox."""
        config = config_pb2.ContainerConfig(rootfs_path=str(self.rootfs), command=command)
        request = runtime_pb2.CreateContainerRequest(config=config, **fields)
        return self.rpc.CreateContainer(request, timeout=LIMIT_S)

    def run(self, script: str = "exec sleep 1000", **fields: Unpack[Fields]) -> str:
        """Create and start a container; its id."""
        container_id = self.create(script, **fields).container_id
        self.start_container(container_id)
        return container_id

    def run_among_the_hosts_pids(self, script: str) -> str:
        """Create and start a container without a pid namespace of its own; its id."""
        config = self.config(script)
        config.namespaces.add(
            type=config_pb2.NAMESPACE_TYPE_PID, mode=config_pb2.NAMESPACE_MODE_HOST
        )
        request = runtime_pb2.CreateContainerRequest(config=config)
        container_id = self.rpc.CreateContainer(request, timeout=LIMIT_S).container_id
        self.start_container(container_id)
        return container_id

    def start_container(self, container_id: str) -> None:
        request = runtime_pb2.StartContainerRequest(container_id=container_id)
        self.rpc.StartContainer(request, timeout=LIMIT_S)

    def pause(self, container_id: str) -> None:
        request = runtime_pb2.PauseContainerRequest(container_id=container_id)
        self.rpc.PauseContainer(request, timeout=LIMIT_S)

    def resume(self, container_id: str) -> None:
        request = runtime_pb2.ResumeContainerRequest(container_id=container_id)
        self.rpc.ResumeContainer(request, timeout=LIMIT_S)

    def stop(self, container_id: str, timeout_s: float, limit_s: float = LIMIT_S) -> None:
        timeout = Duration()
        timeout.FromMilliseconds(int(timeout_s * 1000))
        request = runtime_pb2.StopContainerRequest(container_id=container_id, timeout=timeout)
        self.rpc.StopContainer(request, timeout=limit_s)

    def kill(self, container_id: str, signal: str = "KILL", *, everyone: bool = False) -> None:
        request = runtime_pb2.KillContainerRequest(
            container_id=container_id, signal=signal, all=everyone
        )
        self.rpc.KillContainer(request, timeout=LIMIT_S)

    def remove(self, container_id: str, *, force: bool = False) -> None:
        request = runtime_pb2.RemoveContainerRequest(container_id=container_id, force=force)
        self.rpc.RemoveContainer(request, timeout=LIMIT_S)

    def wait(self, container_id: str) -> container_pb2.ExitStatus:
        request = runtime_pb2.WaitContainerRequest(container_id=container_id)
        return self.rpc.WaitContainer(request, timeout=LIMIT_S).exit_status

    def status(self, container_id: str) -> container_pb2.ContainerStatus:
        request = runtime_pb2.ContainerStatusRequest(container_id=container_id)
        return self.rpc.ContainerStatus(request, timeout=LIMIT_S).status

    def state(self, container_id: str) -> str:
        """In the words of the OCI runtime spec."""
        return state_word(self.status(container_id))

    def info(self, container_id: str) -> Mapping[str, str]:
        """What a verbose status has besides."""
        request = runtime_pb2.ContainerStatusRequest(container_id=container_id, verbose=True)
        return self.rpc.ContainerStatus(request, timeout=LIMIT_S).info

    def monitor_pid(self, container_id: str) -> int:
        """Of conmon, as its host numbers it."""
        return int(self.info(container_id)["monitor_pid"])

    def containers(self, **fields: object) -> Sequence[container_pb2.ContainerStatus]:
        """The containers that match a filter."""
        wanted = runtime_pb2.ContainerFilter(**fields)  # type: ignore[arg-type]  # as above
        request = runtime_pb2.ListContainersRequest(filter=wanted)
        found: list[container_pb2.ContainerStatus] = []
        while True:
            page = self.rpc.ListContainers(request, timeout=LIMIT_S)
            found += page.containers
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def ids(self, **fields: object) -> list[str]:
        """Those of the containers that match a filter."""
        return [each.container_id for each in self.containers(**fields)]

    def output(self, container_id: str, stream: str = "stdout") -> list[str]:
        """The lines that a container has written to a stream, from its log."""
        text = ""
        for line in Path(self.status(container_id).log_path).read_text().splitlines():
            _, name, tag, rest = line.split(" ", 3)
            if name == stream:
                # A full line ends here, a partial one goes on in the next.
                text += rest + {"F": "\n", "P": ""}[tag]
        return text.splitlines()

    def output_of(self, script: str, **fields: Unpack[Fields]) -> list[str]:
        """The lines that a container writes in its whole life, which it ends well."""
        container_id = self.run(script, **fields)
        assert self.wait(container_id).exit_code == 0
        return self.output(container_id)

    def remove_all(self) -> None:
        """Remove every container, by force."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda each: self.remove(each, force=True), self.ids()))
