"""``ocigrpc.v1.RuntimeService``: each RPC unpacks, lets the engine do it, and packs."""

from __future__ import annotations

from typing import cast

import grpc

import ocigrpc
from ocigrpc.engine.engine import Engine
from ocigrpc.service import answers, requests
from ocigrpc.service.call import Call
from ocigrpc.v1 import runtime_pb2 as v1
from ocigrpc.v1 import runtime_pb2_grpc


class RuntimeService:
    """The handlers. ``protos/ocigrpc/v1/runtime.proto`` says what each one means."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def Version(self, request: v1.VersionRequest, call: Call) -> v1.VersionResponse:
        """Names and versions."""
        return answers.version(ocigrpc.__version__, self._engine.versions(call.deadline))

    def Status(self, request: v1.StatusRequest, call: Call) -> v1.StatusResponse:
        """What works, and the settings."""
        conditions = self._engine.conditions(call.deadline)
        return answers.status(conditions, self._engine.effective_settings())

    def CreateContainer(
        self, request: v1.CreateContainerRequest, call: Call
    ) -> v1.CreateContainerResponse:
        """A container that is ready to start."""
        created = self._engine.create(requests.create_request(request), call.deadline)
        return v1.CreateContainerResponse(container_id=created.container_id, pid=created.pid)

    def StartContainer(
        self, request: v1.StartContainerRequest, call: Call
    ) -> v1.StartContainerResponse:
        """Run its program."""
        self._engine.start(requests.container_id(request), call.deadline)
        return v1.StartContainerResponse()

    def PauseContainer(
        self, request: v1.PauseContainerRequest, call: Call
    ) -> v1.PauseContainerResponse:
        """Freeze it."""
        self._engine.pause(requests.container_id(request), call.deadline)
        return v1.PauseContainerResponse()

    def ResumeContainer(
        self, request: v1.ResumeContainerRequest, call: Call
    ) -> v1.ResumeContainerResponse:
        """Thaw it."""
        self._engine.resume(requests.container_id(request), call.deadline)
        return v1.ResumeContainerResponse()

    def StopContainer(
        self, request: v1.StopContainerRequest, call: Call
    ) -> v1.StopContainerResponse:
        """End it, politely first."""
        container_id, timeout_s = requests.stop_request(request)
        self._engine.stop(container_id, timeout_s, call.deadline)
        return v1.StopContainerResponse()

    def KillContainer(
        self, request: v1.KillContainerRequest, call: Call
    ) -> v1.KillContainerResponse:
        """Send it a signal."""
        container_id, signal = requests.kill_request(request)
        self._engine.kill(container_id, signal, request.all, call.deadline)
        return v1.KillContainerResponse()

    def RemoveContainer(
        self, request: v1.RemoveContainerRequest, call: Call
    ) -> v1.RemoveContainerResponse:
        """Leave nothing of it."""
        self._engine.remove(requests.container_id(request), request.force, call.deadline)
        return v1.RemoveContainerResponse()

    def ContainerStatus(
        self, request: v1.ContainerStatusRequest, call: Call
    ) -> v1.ContainerStatusResponse:
        """What is true of it now."""
        container_id = requests.container_id(request)
        status = answers.container_status(self._engine.status(container_id, call.deadline))
        if not request.verbose:
            return v1.ContainerStatusResponse(status=status)
        words = self._engine.runtime_words(container_id, call.deadline)
        return v1.ContainerStatusResponse(status=status, info=words)

    def ListContainers(
        self, request: v1.ListContainersRequest, call: Call
    ) -> v1.ListContainersResponse:
        """Those that match."""
        views = self._engine.list_containers(requests.container_filter(request))
        return v1.ListContainersResponse(containers=map(answers.container_status, views))

    def WaitContainer(
        self, request: v1.WaitContainerRequest, call: Call
    ) -> v1.WaitContainerResponse:
        """How it ended, once it has."""
        ended = self._engine.wait(requests.container_id(request), call.deadline)
        return v1.WaitContainerResponse(exit_status=answers.exit_status(ended))


def add_runtime_service(engine: Engine, server: grpc.Server) -> None:
    """Make ``server``, which needs the :class:`Interceptor`, serve ``engine``."""
    # The interceptor puts a Call where the generated types expect grpc's context.
    servicer = cast(runtime_pb2_grpc.RuntimeServiceServicer, RuntimeService(engine))
    runtime_pb2_grpc.add_RuntimeServiceServicer_to_server(servicer, server)
