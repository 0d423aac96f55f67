"""``ocigrpc.v1.RuntimeService``: each handler unpacks, calls the engine, and packs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import cast

import ocigrpc
from ocigrpc.engine.containers.status import ALIVE
from ocigrpc.rpc.call import Call
from ocigrpc.rpc.methods import Service
from ocigrpc.service import (
    config_from_proto,
    copy,
    from_proto,
    inspect,
    pages,
    session_from_proto,
    session_to_proto,
    stats_to_proto,
    streams,
    to_proto,
)
from ocigrpc.service.engine import Engine
from ocigrpc.service.methods import COUNT_LIMITS, METHODS, SERVICE_NAME
from ocigrpc.v1 import (
    attach_pb2,
    copy_pb2,
    event_pb2,
    exec_pb2,
    log_pb2,
    process_pb2,
    runtime_pb2_grpc,
)
from ocigrpc.v1 import runtime_pb2 as v1


class RuntimeService:
    """The handlers. ``protos/ocigrpc/v1/runtime.proto`` documents each RPC."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def Version(self, request: v1.VersionRequest, call: Call) -> v1.VersionResponse:
        """Names and versions."""
        return to_proto.version(ocigrpc.__version__, self._engine.versions(call.deadline))

    def Status(self, request: v1.StatusRequest, call: Call) -> v1.StatusResponse:
        """The conditions of the service, the settings, and what there is."""
        answer = to_proto.status(
            self._engine.conditions(call.deadline),
            self._engine.effective_settings(),
            self._engine.default_seccomp_profile(),
            self._engine.counts(call.deadline),
        )
        answer.streams.update(call.count_streams())
        return answer

    def CreateContainer(
        self, request: v1.CreateContainerRequest, call: Call
    ) -> v1.CreateContainerResponse:
        """A container that is ready to start."""
        wanted = from_proto.create_request(request)
        created = self._engine.create(wanted, call.deadline, start=request.start)
        return v1.CreateContainerResponse(container_id=created.container_id, pid=created.pid)

    def StartContainer(
        self, request: v1.StartContainerRequest, call: Call
    ) -> v1.StartContainerResponse:
        """Run its program."""
        self._engine.start(from_proto.container_id(request), call.deadline)
        return v1.StartContainerResponse()

    def PauseContainer(
        self, request: v1.PauseContainerRequest, call: Call
    ) -> v1.PauseContainerResponse:
        """Freeze it."""
        self._engine.pause(from_proto.container_id(request), call.deadline)
        return v1.PauseContainerResponse()

    def ResumeContainer(
        self, request: v1.ResumeContainerRequest, call: Call
    ) -> v1.ResumeContainerResponse:
        """Thaw it."""
        self._engine.resume(from_proto.container_id(request), call.deadline)
        return v1.ResumeContainerResponse()

    def StopContainer(
        self, request: v1.StopContainerRequest, call: Call
    ) -> v1.StopContainerResponse:
        """Send it its stop signal, and SIGKILL after the timeout."""
        container_id, timeout_s = from_proto.stop_request(request)
        self._engine.stop(container_id, timeout_s, call.deadline)
        return v1.StopContainerResponse()

    def KillContainer(
        self, request: v1.KillContainerRequest, call: Call
    ) -> v1.KillContainerResponse:
        """Send it a signal."""
        container_id, signal = from_proto.kill_request(request)
        self._engine.kill(container_id, signal, request.all, call.deadline)
        return v1.KillContainerResponse()

    def RemoveContainer(
        self, request: v1.RemoveContainerRequest, call: Call
    ) -> v1.RemoveContainerResponse:
        """Remove it and everything of it."""
        self._engine.remove(from_proto.container_id(request), request.force, call.deadline)
        return v1.RemoveContainerResponse()

    def ContainerStatus(
        self, request: v1.ContainerStatusRequest, call: Call
    ) -> v1.ContainerStatusResponse:
        """Its state and properties now."""
        container_id = from_proto.container_id(request)
        view = self._engine.status(container_id, call.deadline)
        # A name may be another container's by now.
        container_id = view.record.container_id
        inspection = self._engine.inspect(container_id)
        answer = v1.ContainerStatusResponse(
            status=to_proto.container_status(view),
            spec=inspect.container_spec(inspection),
            restart_safe=inspection.restart_safe,
        )
        if view.state in ALIVE:
            answer.resources.CopyFrom(stats_to_proto.limits(self._engine.limits(container_id)))
        if request.verbose:
            answer.info.update(self._engine.runtime_info(container_id, call.deadline))
        return answer

    def ListProcesses(
        self, request: process_pb2.ListProcessesRequest, call: Call
    ) -> process_pb2.ListProcessesResponse:
        """Its processes."""
        container_id, page = inspect.processes_request(request)
        after_pid = page.after[0] if page.after else 0
        found = self._engine.processes(container_id, after_pid, call.deadline)
        answer = process_pb2.ListProcessesResponse()
        answer.next_page_token = pages.fill_page(answer.processes, found, inspect.add_process, page)
        return answer

    def ListContainers(
        self, request: v1.ListContainersRequest, call: Call
    ) -> v1.ListContainersResponse:
        """Those that match."""
        wanted, page = from_proto.container_filter(request), pages.filtered_page_of(request)
        views = self._engine.list_containers(wanted, page.after)
        entries: list[bytes] = []
        next_page_token = pages.fill_page(entries, views, to_proto.add_listed, page)
        return to_proto.list_response(entries, next_page_token)

    def WaitContainer(
        self, request: v1.WaitContainerRequest, call: Call
    ) -> v1.WaitContainerResponse:
        """Wait until it has ended; how it did."""
        ended = self._engine.wait(from_proto.container_id(request), call.deadline)
        return v1.WaitContainerResponse(exit_status=to_proto.exit_status(ended))

    def ContainerLogs(
        self, request: log_pb2.ContainerLogsRequest, call: Call
    ) -> Iterator[log_pb2.ContainerLogsResponse]:
        """The lines of its log."""
        batches = self._engine.logs(from_proto.log_query(request), call.deadline)
        yield from map(to_proto.log_response, batches)

    def ReopenContainerLog(
        self, request: log_pb2.ReopenContainerLogRequest, call: Call
    ) -> log_pb2.ReopenContainerLogResponse:
        """Start a new log file."""
        self._engine.reopen_log(from_proto.container_id(request), call.deadline)
        return log_pb2.ReopenContainerLogResponse()

    def WatchEvents(
        self, request: event_pb2.WatchEventsRequest, call: Call
    ) -> Iterator[event_pb2.WatchEventsResponse]:
        """The events of containers."""
        after, event_filter = from_proto.watch_events_request(request)
        for batch in self._engine.watch_events(after, event_filter, call.deadline):
            yield from to_proto.watch_events_responses(batch)

    def UpdateContainerResources(
        self, request: v1.UpdateContainerResourcesRequest, call: Call
    ) -> v1.UpdateContainerResourcesResponse:
        """Change its limits."""
        resources = config_from_proto.resources(request.resources)
        limits = self._engine.update(from_proto.container_id(request), resources, call.deadline)
        return v1.UpdateContainerResourcesResponse(resources=stats_to_proto.limits(limits))

    def ContainerStats(
        self, request: v1.ContainerStatsRequest, call: Call
    ) -> v1.ContainerStatsResponse:
        """Its usage."""
        found = self._engine.stats(from_proto.container_id(request))
        return v1.ContainerStatsResponse(stats=stats_to_proto.container_stats(found))

    def ListContainerStats(
        self, request: v1.ListContainerStatsRequest, call: Call
    ) -> v1.ListContainerStatsResponse:
        """The usage of those that match."""
        wanted, page = from_proto.container_filter(request), pages.filtered_page_of(request)
        found = self._engine.list_stats(wanted, call.deadline, page.after)
        answer = v1.ListContainerStatsResponse()
        answer.next_page_token = pages.fill_page(
            answer.stats, found, stats_to_proto.add_stats, page
        )
        return answer

    def WatchStats(
        self, request: v1.WatchStatsRequest, call: Call
    ) -> Iterator[v1.WatchStatsResponse]:
        """The same at intervals."""
        wanted, interval_s = from_proto.container_filter(request), from_proto.interval_s(request)
        for found in self._engine.watch_stats(wanted, interval_s, call.deadline):
            yield from stats_to_proto.stats_messages(found)

    def ExecSync(self, request: exec_pb2.ExecSyncRequest, call: Call) -> exec_pb2.ExecSyncResponse:
        """Run a program in it to its end."""
        start = session_from_proto.exec_sync_request(request)
        return session_to_proto.exec_sync_response(self._engine.exec_sync(start, call.deadline))

    def Exec(
        self, messages: Iterator[exec_pb2.ExecRequest], call: Call
    ) -> Iterator[exec_pb2.ExecResponse]:
        """Run a program in it, and relay its streams."""
        unpack = session_from_proto.exec_start
        with (
            streams.session_inputs(messages, unpack, call.deadline) as (start, inputs),
            closing(self._engine.exec(start, inputs, call.deadline)) as replies,
        ):
            yield from map(session_to_proto.exec_response, replies)

    def Attach(
        self, messages: Iterator[attach_pb2.AttachRequest], call: Call
    ) -> Iterator[attach_pb2.AttachResponse]:
        """Relay the streams of its first process."""
        unpack = session_from_proto.attach_start
        with (
            streams.session_inputs(messages, unpack, call.deadline) as (start, inputs),
            closing(self._engine.attach(start, inputs, call.deadline)) as replies,
        ):
            yield from map(session_to_proto.attach_response, replies)

    def CopyOut(
        self, request: copy_pb2.CopyOutRequest, call: Call
    ) -> Iterator[copy_pb2.CopyOutResponse]:
        """What is at a path in it, and an archive of that."""
        with closing(self._engine.copy_out(copy.copy_source(request), call.deadline)) as content:
            yield from map(copy.copy_out_response, content)

    def CopyInto(
        self, messages: Iterator[copy_pb2.CopyIntoRequest], call: Call
    ) -> copy_pb2.CopyIntoResponse:
        """Put the files of an archive into it."""
        with streams.queued(messages, copy.copy_target, copy.chunk, len, call.deadline) as (
            target,
            chunks,
        ):
            unpacked = self._engine.copy_into(target, chunks.each(call.deadline), call.deadline)
        return copy.copy_into_response(unpacked)

    def BackupStore(
        self, request: v1.BackupStoreRequest, call: Call
    ) -> Iterator[v1.BackupStoreResponse]:
        """A copy of the store."""
        for piece in self._engine.backup_store(call.deadline):
            yield v1.BackupStoreResponse(content=piece)


def runtime_service(engine: Engine) -> Service:
    """The service, as a server gets it."""
    # The handlers get a Call where the generated types expect grpc's context.
    servicer = cast(runtime_pb2_grpc.RuntimeServiceServicer, RuntimeService(engine))
    add = partial(runtime_pb2_grpc.add_RuntimeServiceServicer_to_server, servicer)
    return Service(SERVICE_NAME, add, METHODS, COUNT_LIMITS)
