"""One call for each verb of an OCI runtime, to run into what the runtime makes of it."""

from __future__ import annotations

from typing import Protocol

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from ocigrpc.v1 import config_pb2, exec_pb2
from ocigrpc.v1 import runtime_pb2 as pb
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub

VERBS = ("create", "start", "state", "pause", "resume", "exec", "update", "delete")
"""All that the service runs: signals it sends itself, so that there is no kill."""


class Pending(Protocol):
    """A call under way, of any kind."""

    def result(self) -> Message: ...
    def exception(self) -> BaseException | None: ...
    def done(self) -> bool: ...
    def cancel(self) -> bool: ...


def make_ready(
    stub: RuntimeServiceStub,
    verb: str,
    create: pb.CreateContainerRequest,
    timeout_s: float | None = None,
) -> None:
    """The container of ``create`` in the state that the verb wants; none for a create."""
    container_id = create.container_id
    if verb == "create":
        return
    stub.CreateContainer(create, timeout=timeout_s)
    if verb != "start":
        stub.StartContainer(pb.StartContainerRequest(container_id=container_id), timeout=timeout_s)
    if verb == "resume":
        stub.PauseContainer(pb.PauseContainerRequest(container_id=container_id), timeout=timeout_s)


def begin(
    stub: RuntimeServiceStub,
    verb: str,
    create: pb.CreateContainerRequest,
    timeout_s: float | None = None,
    exec_timeout: Duration | None = None,
) -> Pending:
    """The call that runs into the verb, for the container of ``create``, under way."""
    container_id = create.container_id
    match verb:
        case "create":
            return stub.CreateContainer.future(create, timeout=timeout_s)
        case "start":
            start = pb.StartContainerRequest(container_id=container_id)
            return stub.StartContainer.future(start, timeout=timeout_s)
        case "state":
            status = pb.ContainerStatusRequest(container_id=container_id, verbose=True)
            return stub.ContainerStatus.future(status, timeout=timeout_s)
        case "pause":
            pause = pb.PauseContainerRequest(container_id=container_id)
            return stub.PauseContainer.future(pause, timeout=timeout_s)
        case "resume":
            resume = pb.ResumeContainerRequest(container_id=container_id)
            return stub.ResumeContainer.future(resume, timeout=timeout_s)
        case "exec":
            process = exec_pb2.ExecProcess(command=["true"])
            run = exec_pb2.ExecSyncRequest(
                container_id=container_id, process=process, timeout=exec_timeout
            )
            return stub.ExecSync.future(run, timeout=timeout_s)
        case "update":
            return stub.UpdateContainerResources.future(update_of(container_id), timeout=timeout_s)
        case _:
            remove = pb.RemoveContainerRequest(container_id=container_id, force=True)
            return stub.RemoveContainer.future(remove, timeout=timeout_s)


def update_of(container_id: str) -> pb.UpdateContainerResourcesRequest:
    """A new limit for a container."""
    resources = config_pb2.LinuxContainerResources(pids_limit=50)
    return pb.UpdateContainerResourcesRequest(container_id=container_id, resources=resources)
