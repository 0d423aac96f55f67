"""The service on a host, and the client's side of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypedDict, Unpack

from ocigrpc.errors import ContainerNotFound
from ocigrpc.v1 import config_pb2, container_pb2, runtime_pb2
from ocigrpc.v1.container_pb2 import ContainerState, MonitorLostPolicy
from tests.bed.hosts.host import Host
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.process import Runtimes, ServiceProcess


def state_word(status: container_pb2.ContainerStatus | container_pb2.ContainerSummary) -> str:
    """The state as the OCI runtime spec names it."""
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
    auto_remove: bool


class Service(ServiceProcess):
    """A service, and calls of it for containers of busybox, whose files are at ``rootfs``."""

    def __init__(
        self,
        host: Host,
        directory: Path,
        rootfs: Path,
        *,
        runtimes: Runtimes | None = None,
        state_dir: Path | None = None,
        **settings: object,
    ) -> None:
        super().__init__(host, directory, runtimes=runtimes, state_dir=state_dir, **settings)
        self.rootfs = rootfs

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
        config = config_pb2.ContainerConfig(rootfs_path=str(self.rootfs), command=command)
        request = runtime_pb2.CreateContainerRequest(config=config, **fields)
        return self.client.create_container(request)

    def run(self, script: str = "exec sleep 1000", **fields: Unpack[Fields]) -> str:
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
        container_id = self.client.create_container(request).container_id
        self.start_container(container_id)
        return container_id

    def start_container(self, container_id: str) -> None:
        self.client.start_container(container_id)

    def pause(self, container_id: str) -> None:
        self.client.pause_container(container_id)

    def resume(self, container_id: str) -> None:
        self.client.resume_container(container_id)

    def stop(self, container_id: str, timeout_s: float) -> None:
        self.client.stop_container(container_id, timeout_s)

    def stop_by(self, container_id: str, timeout_s: float, deadline_s: float) -> None:
        """Stop a container in a call with a deadline of so many seconds."""
        request = runtime_pb2.StopContainerRequest(container_id=container_id)
        request.timeout.FromNanoseconds(round(timeout_s * 1e9))
        self.wire.StopContainer(request, timeout=deadline_s)

    def kill(self, container_id: str, signal: str = "KILL", *, everyone: bool = False) -> None:
        self.client.kill_container(container_id, signal, all_processes=everyone)

    def remove(self, container_id: str, *, force: bool = False) -> None:
        self.client.remove_container(container_id, force=force)

    def wait(self, container_id: str) -> container_pb2.ExitStatus:
        return self.client.wait_container(container_id, LIMIT_S)

    def status(self, container_id: str) -> container_pb2.ContainerStatus:
        return self.client.container_status(container_id).status

    def state(self, container_id: str) -> str:
        """As the OCI runtime spec names it."""
        return state_word(self.status(container_id))

    def info(self, container_id: str) -> Mapping[str, str]:
        """What a verbose status has besides."""
        return self.client.container_status(container_id, verbose=True).info

    def monitor_pid(self, container_id: str) -> int:
        """Of conmon, as its host numbers it."""
        return int(self.info(container_id)["monitor_pid"])

    def containers(self, **fields: object) -> Sequence[container_pb2.ContainerSummary]:
        """The containers that match a filter."""
        wanted = runtime_pb2.ContainerFilter(**fields)  # type: ignore[arg-type]  # as above
        return list(self.client.list_containers(wanted))

    def statuses(self) -> list[container_pb2.ContainerStatus]:
        """All that is known of each container, without those that are removed meanwhile."""
        found = []
        for container_id in self.ids():
            with suppress(ContainerNotFound):
                found.append(self.status(container_id))
        return found

    def ids(self, **fields: object) -> list[str]:
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
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda each: self.remove(each, force=True), self.ids()))
