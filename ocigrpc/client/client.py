"""The calls of ``ocigrpc.v1`` as methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ocigrpc.client.files import Files
from ocigrpc.client.images import ImageCalls
from ocigrpc.client.stream import Stream
from ocigrpc.v1 import (
    attach_pb2,
    config_pb2,
    container_pb2,
    event_pb2,
    exec_pb2,
    log_pb2,
    process_pb2,
    runtime_pb2,
    stats_pb2,
)

# What a call has beside the time that its request itself asks for.
_SPARE_S = 10.0


class Client(Files, ImageCalls):
    """A client of the service at one address; a context manager that closes the connection.

    ``address`` is the path of a socket, ``unix:///PATH``, or ``HOST:PORT`` for TCP, with
    ``tls`` unless the service serves it without; ``ValueError`` if it is none of these.
    ``timeout_s`` limits each call that should end soon; streams and waits have no limit unless
    they are given one, after which they raise ``Timeout``.

    Methods are named as the RPCs, and take a container's id or name. Each raises the exception
    that the service raised, a kind of ``ocigrpc.errors.OcigrpcError``: decide by its type or its
    ``reason``. When no service answers, that is an ``Unreachable``, also for the constructor. Calls
    that change nothing are repeated for some seconds while the service is starting; what else may
    be repeated is the caller's to decide.

    Streams are iterators whose ``close``, also by another thread, ends the call; see ``Stream``.
    A client may be used by several threads.

    >>> from ocigrpc import Client
    >>> from ocigrpc.v1.config_pb2 import ContainerConfig
    >>> from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
    >>> config = ContainerConfig(rootfs_path=rootfs, command=["/bin/sh", "-c", "echo hello"])
    >>> with Client(address) as client:
    ...     request = CreateContainerRequest(config=config, name="greeter", start=True)
    ...     greeter = client.create_container(request).container_id
    ...     ended = client.wait_container(greeter)
    ...     lines = [line for page in client.container_logs(greeter) for line in page.lines]
    ...     client.remove_container(greeter)
    >>> ended.exit_code, [line.content for line in lines]
    (0, [b'hello'])

    A failure is the exception that the service raised:

    >>> from ocigrpc.errors import ContainerNotFound
    >>> with Client(address) as client:
    ...     try:
    ...         client.pause_container("nobody")
    ...     except ContainerNotFound as error:
    ...         print(error.reason, error.metadata)
    CONTAINER_NOT_FOUND {'container_id': 'nobody'}
    """

    def version(self) -> runtime_pb2.VersionResponse:
        """Names and versions of the service, its API, the monitor and the OCI runtimes."""
        return self._call(self._runtime.Version, runtime_pb2.VersionRequest())

    def status(self) -> runtime_pb2.StatusResponse:
        """What works and what does not, and the settings in force."""
        return self._call(self._runtime.Status, runtime_pb2.StatusRequest())

    def create_container(
        self, request: runtime_pb2.CreateContainerRequest
    ) -> runtime_pb2.CreateContainerResponse:
        """Create a container, and with ``request.start`` start it."""
        return self._call(self._runtime.CreateContainer, request)

    def start_container(self, container_id: str) -> None:
        """Start the program of a created container."""
        request = runtime_pb2.StartContainerRequest(container_id=container_id)
        self._call(self._runtime.StartContainer, request)

    def pause_container(self, container_id: str) -> None:
        """Freeze every process of a running container."""
        request = runtime_pb2.PauseContainerRequest(container_id=container_id)
        self._call(self._runtime.PauseContainer, request)

    def resume_container(self, container_id: str) -> None:
        """Thaw a paused container."""
        request = runtime_pb2.ResumeContainerRequest(container_id=container_id)
        self._call(self._runtime.ResumeContainer, request)

    def stop_container(self, container_id: str, timeout_s: float | None = None) -> None:
        """End a container: its stop signal, and SIGKILL ``timeout_s`` later.

        None is the service's own time, and the call then has no limit.
        """
        request = runtime_pb2.StopContainerRequest(container_id=container_id)
        limit_s = None
        if timeout_s is not None:
            request.timeout.CopyFrom(_duration(timeout_s))
            limit_s = timeout_s + max(self._timeout_s, _SPARE_S)
        self._call_within(limit_s, self._runtime.StopContainer, request)

    def kill_container(
        self, container_id: str, signal: str = "SIGKILL", *, all_processes: bool = False
    ) -> None:
        """Send a signal to the first process, or to all of them."""
        request = runtime_pb2.KillContainerRequest(
            container_id=container_id, signal=signal, all=all_processes
        )
        self._call(self._runtime.KillContainer, request)

    def remove_container(
        self, container_id: str, *, force: bool = False, timeout_s: float | None = None
    ) -> None:
        """Remove a container, with ``force`` even if it lives; an unknown one is no error.

        ``timeout_s`` is in place of the client's.
        """
        request = runtime_pb2.RemoveContainerRequest(container_id=container_id, force=force)
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        self._call_within(limit_s, self._runtime.RemoveContainer, request)

    def container_status(
        self, container_id: str, *, verbose: bool = False
    ) -> runtime_pb2.ContainerStatusResponse:
        """The present state of a container, and what it runs."""
        request = runtime_pb2.ContainerStatusRequest(container_id=container_id, verbose=verbose)
        return self._call(self._runtime.ContainerStatus, request)

    def list_processes(self, container_id: str) -> Iterator[process_pb2.Process]:
        """The processes of a container, by their ids; pages are asked for as they are read."""
        request = process_pb2.ListProcessesRequest(container_id=container_id)
        while True:
            page = self._call(self._runtime.ListProcesses, request)
            yield from page.processes
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def list_containers(
        self, wanted: runtime_pb2.ContainerFilter | None = None
    ) -> Iterator[container_pb2.ContainerSummary]:
        """The containers that match, oldest first; pages are asked for as they are read."""
        request = runtime_pb2.ListContainersRequest(filter=wanted)
        while True:
            page = self._call(self._runtime.ListContainers, request)
            yield from page.containers
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def wait_container(
        self, container_id: str, timeout_s: float | None = None
    ) -> container_pb2.ExitStatus:
        """How a container ended, once it has. Raises ``Timeout`` if that takes longer."""
        request = runtime_pb2.WaitContainerRequest(container_id=container_id)
        response = self._call_within(timeout_s, self._runtime.WaitContainer, request)
        return response.exit_status

    def update_container_resources(
        self, container_id: str, resources: config_pb2.LinuxContainerResources
    ) -> config_pb2.LinuxContainerResources:
        """Change limits; all limits in force afterwards."""
        request = runtime_pb2.UpdateContainerResourcesRequest(
            container_id=container_id, resources=resources
        )
        return self._call(self._runtime.UpdateContainerResources, request).resources

    def container_stats(self, container_id: str) -> stats_pb2.ContainerStats:
        """The resources that a container uses now."""
        request = runtime_pb2.ContainerStatsRequest(container_id=container_id)
        return self._call(self._runtime.ContainerStats, request).stats

    def list_container_stats(
        self, wanted: runtime_pb2.ContainerFilter | None = None
    ) -> Iterator[stats_pb2.ContainerStats]:
        """The resources that living containers use; pages are asked for as they are read."""
        request = runtime_pb2.ListContainerStatsRequest(filter=wanted)
        while True:
            page = self._call(self._runtime.ListContainerStats, request)
            yield from page.stats
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def watch_stats(
        self,
        wanted: runtime_pb2.ContainerFilter | None = None,
        interval_s: float = 1.0,
        *,
        timeout_s: float | None = None,
    ) -> Stream[Sequence[stats_pb2.ContainerStats]]:
        """The resources that living containers use: at once, and then at an interval."""
        request = runtime_pb2.WatchStatsRequest(filter=wanted, interval=_duration(interval_s))
        messages = self._runtime.WatchStats(request, timeout=timeout_s)
        return Stream(messages, _moments(messages), self.address)

    def container_logs(
        self,
        container_id: str,
        *,
        follow: bool = False,
        tail_lines: int | None = None,
        since_s: float | None = None,
        until_s: float | None = None,
        streams: Iterable[log_pb2.LogStream] = (),
        timeout_s: float | None = None,
    ) -> Stream[log_pb2.ContainerLogsResponse]:
        """The lines that a container has written; ``follow`` until it has ended.

        ``since_s`` and ``until_s`` are seconds since 1970.
        """
        request = log_pb2.ContainerLogsRequest(
            container_id=container_id,
            follow=follow,
            tail_lines=tail_lines,
            since=_timestamp(since_s),
            until=_timestamp(until_s),
            streams=streams,
        )
        return self._stream(self._runtime.ContainerLogs(request, timeout=timeout_s))

    def reopen_container_log(self, container_id: str) -> None:
        """Begin a new log, after the old one was renamed."""
        request = log_pb2.ReopenContainerLogRequest(container_id=container_id)
        self._call(self._runtime.ReopenContainerLog, request)

    def exec_sync(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        working_dir: str = "",
        user: str = "",
        timeout_s: float | None = None,
        keep_running: bool = False,
        max_output_bytes: int = 0,
    ) -> exec_pb2.ExecSyncResponse:
        """Run a program in a container to its end; its output and its exit code.

        The fields of the request, by their names; without ``timeout_s`` there is no limit.
        """
        process = exec_pb2.ExecProcess(command=command, env=env, working_dir=working_dir, user=user)
        request = exec_pb2.ExecSyncRequest(
            container_id=container_id,
            process=process,
            timeout=None if timeout_s is None else _duration(timeout_s),
            keep_running=keep_running,
            max_output_bytes=max_output_bytes,
        )
        limit_s = None if timeout_s is None else timeout_s + _SPARE_S
        return self._call_within(limit_s, self._runtime.ExecSync, request)

    def exec(
        self, requests: Iterable[exec_pb2.ExecRequest], *, timeout_s: float | None = None
    ) -> Stream[exec_pb2.ExecResponse]:
        """Run a program in a container, with streams; ``requests`` is read by another thread."""
        return self._stream(self._runtime.Exec(iter(requests), timeout=timeout_s))

    def attach(
        self, requests: Iterable[attach_pb2.AttachRequest], *, timeout_s: float | None = None
    ) -> Stream[attach_pb2.AttachResponse]:
        """Attach to a container's streams; ``requests`` is read by another thread."""
        return self._stream(self._runtime.Attach(iter(requests), timeout=timeout_s))

    def watch_events(
        self,
        after: int | None = None,
        wanted: event_pb2.EventFilter | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Stream[event_pb2.WatchEventsResponse]:
        """Events as they happen, those after a cursor first; the call has begun on return."""
        request = event_pb2.WatchEventsRequest(after=after, filter=wanted)
        return self._stream(self._runtime.WatchEvents(request, timeout=timeout_s))

    def backup_store(self, *, timeout_s: float | None = None) -> Stream[bytes]:
        """A copy of the service's store, in pieces; whole only if it ends without an exception."""
        request = runtime_pb2.BackupStoreRequest()
        pieces = self._runtime.BackupStore(request, timeout=timeout_s)
        return Stream(pieces, (each.content for each in pieces), self.address)


def _moments(
    messages: Iterable[runtime_pb2.WatchStatsResponse],
) -> Iterator[Sequence[stats_pb2.ContainerStats]]:
    moment: list[stats_pb2.ContainerStats] = []
    for message in messages:
        moment += message.stats
        if not message.more:
            yield moment
            moment = []


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def _timestamp(seconds: float | None) -> Timestamp | None:
    if seconds is None:
        return None
    timestamp = Timestamp()
    timestamp.FromNanoseconds(round(seconds * 1e9))
    return timestamp
