"""An OCI runtime all of whose verbs hang once it is told to, and calls that run into each."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from ocigrpc.v1 import config_pb2, exec_pb2
from ocigrpc.v1 import runtime_pb2 as pb
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub

HANDLER = "hanging"
VERBS = ("create", "start", "state", "pause", "resume", "exec", "update", "delete")

_LIMIT_S = 60.0
_SCRIPT = """#!/bin/sh
[ -e "$0.hang" ] || exec runc "$@"
echo >> "$0.hang"
exec sleep 1000
"""


class _Call(Protocol):
    def cancel(self) -> bool: ...


class Hanging:
    """The runtime, at ``path``; it is runc until :meth:`verbs` makes it hang."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "hanging"
        self.path.write_text(_SCRIPT)
        self.path.chmod(0o755)
        self._switch = directory / "hanging.hang"

    @contextmanager
    def verbs(self, stub: RuntimeServiceStub, bundle: str) -> Iterator[None]:
        """A call hangs in each verb for as long as the block takes."""
        with ExitStack() as stack:
            for verb in VERBS[1:]:
                stack.callback(
                    stub.RemoveContainer, pb.RemoveContainerRequest(container_id=verb, force=True)
                )
                _make_ready(stub, verb, bundle)
            stack.callback(self._switch.unlink)
            self._switch.touch()
            for verb in VERBS:
                stack.callback(_begin(stub, verb, bundle).cancel)
            until_s = time.monotonic() + _LIMIT_S
            while len(self._switch.read_bytes()) < len(VERBS):
                if time.monotonic() > until_s:
                    raise RuntimeError("not every verb hangs")
                time.sleep(0.01)
            yield


@contextmanager
def hanging_runtime() -> Iterator[Hanging]:
    """The runtime, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="ocigrpc-hanging-") as directory:
        yield Hanging(Path(directory))


def _create(verb: str, bundle: str) -> pb.CreateContainerRequest:
    return pb.CreateContainerRequest(bundle_path=bundle, container_id=verb, runtime_handler=HANDLER)


def _make_ready(stub: RuntimeServiceStub, verb: str, bundle: str) -> None:
    """A container, named after the verb, in the state that the verb wants."""
    stub.CreateContainer(_create(verb, bundle))
    if verb != "start":
        stub.StartContainer(pb.StartContainerRequest(container_id=verb))
    if verb == "resume":
        stub.PauseContainer(pb.PauseContainerRequest(container_id=verb))


def _begin(stub: RuntimeServiceStub, verb: str, bundle: str) -> _Call:
    """The call that runs into the verb."""
    match verb:
        case "create":
            return stub.CreateContainer.future(_create(verb, bundle))
        case "start":
            return stub.StartContainer.future(pb.StartContainerRequest(container_id=verb))
        case "state":
            status = pb.ContainerStatusRequest(container_id=verb, verbose=True)
            return stub.ContainerStatus.future(status)
        case "pause":
            return stub.PauseContainer.future(pb.PauseContainerRequest(container_id=verb))
        case "resume":
            return stub.ResumeContainer.future(pb.ResumeContainerRequest(container_id=verb))
        case "exec":
            process = exec_pb2.ExecProcess(command=["true"])
            run = exec_pb2.ExecSyncRequest(container_id=verb, process=process)
            return stub.ExecSync.future(run)
        case "update":
            resources = config_pb2.LinuxContainerResources(pids_limit=50)
            update = pb.UpdateContainerResourcesRequest(container_id=verb, resources=resources)
            return stub.UpdateContainerResources.future(update)
        case _:
            remove = pb.RemoveContainerRequest(container_id=verb, force=True)
            return stub.RemoveContainer.future(remove)
