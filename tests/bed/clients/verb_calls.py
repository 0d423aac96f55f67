"""One call for each verb of an OCI runtime, to run into what the runtime makes of it."""

from __future__ import annotations

from typing import Protocol

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from ocigrpc.v1 import config_pb2, exec_pb2
from ocigrpc.v1 import runtime_pb2 as pb
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub

# All that the service runs: signals it sends itself, so that there is no kill.
VERBS = ("create", "start", "state", "pause", "resume", "exec", "update", "delete")


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
    process = exec_pb2.ExecProcess(command=["true"])
    rpc, request = {
        "create": ("CreateContainer", create),
        "start": ("StartContainer", pb.StartContainerRequest(container_id=container_id)),
        "state": (
            "ContainerStatus",
            pb.ContainerStatusRequest(container_id=container_id, verbose=True),
        ),
        "pause": ("PauseContainer", pb.PauseContainerRequest(container_id=container_id)),
        "resume": ("ResumeContainer", pb.ResumeContainerRequest(container_id=container_id)),
        "exec": (
            "ExecSync",
            exec_pb2.ExecSyncRequest(
                container_id=container_id, process=process, timeout=exec_timeout
            ),
        ),
        "update": ("UpdateContainerResources", update_of(container_id)),
        "delete": (
            "RemoveContainer",
            pb.RemoveContainerRequest(container_id=container_id, force=True),
        ),
    }[verb]
    call: Pending = getattr(stub, rpc).future(request, timeout=timeout_s)
    return call


def update_of(container_id: str) -> pb.UpdateContainerResourcesRequest:
    """A new limit for a container."""
    resources = config_pb2.LinuxContainerResources(pids_limit=50)
    return pb.UpdateContainerResourcesRequest(container_id=container_id, resources=resources)
