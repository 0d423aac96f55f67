"""A real container's whole life over gRPC, every answer checked, and nothing left behind.

Then that of an image, if there is skopeo: from an archive to a container of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration

from ocigrpc.errors import ContainerNotFound
from ocigrpc.host.processes.programs import find_program
from ocigrpc.v1 import container_pb2, image_pb2
from ocigrpc.v1 import runtime_pb2 as pb
from tests.bed.bundles.bundle import make_bundle
from tests.bed.commands.outcome import exit_status
from tests.bed.hosts.leaks import until
from tests.bed.images.layers import tree
from tests.bed.images.layout import image, write_layout
from tests.bed.services.service import Service
from tests.bed.services.serving import sandbox

ID = "demo"
IMAGE = "localhost/demo:1"
EXIT_CODE = 3
PROGRAM = f"""
trap 'echo asked to end; exit {EXIT_CODE}' TERM
while echo "tick $((n += 1))"; do sleep 0.1; done
"""
CALL_TIMEOUT_S = 30.0

# How long the paused container is watched doing nothing: some ticks' worth.
PAUSE_S = 0.4

_Response = TypeVar("_Response")


def main() -> int:
    return exit_status(_work)


def _work() -> None:
    with sandbox() as service:
        demo = _Demo(service)
        demo.run()
        if find_program("skopeo"):
            demo.run_image()
    print()


class _Demo:
    """One container's life, on a service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def run(self) -> None:
        """From its making to its removal; raises ``AssertionError`` at the first wrong answer."""
        stub = self._service.wire
        bundle = make_bundle(self._service.directory / "bundle", ["/bin/sh", "-c", PROGRAM])
        _print_row("call", "answer", "state after", "ms")
        self._step(stub.Version, pb.VersionRequest(), _versions, "")
        self._step(
            stub.CreateContainer,
            pb.CreateContainerRequest(bundle_path=str(bundle), container_id=ID),
            lambda created: f"id {created.container_id}, pid {created.pid}",
            "CREATED",
        )
        log = self._step(
            stub.ContainerStatus, pb.ContainerStatusRequest(container_id=ID), _described, "CREATED"
        ).status
        self._step(stub.StartContainer, pb.StartContainerRequest(container_id=ID), _done, "RUNNING")
        until(lambda: _size(log.log_path) > 0)
        self._step(stub.PauseContainer, pb.PauseContainerRequest(container_id=ID), _done, "PAUSED")
        # What was written just before may still be on its way through conmon.
        time.sleep(PAUSE_S / 2)
        size = _size(log.log_path)
        time.sleep(PAUSE_S / 2)
        _check("bytes logged while paused", _size(log.log_path) - size, 0)
        self._step(
            stub.ResumeContainer, pb.ResumeContainerRequest(container_id=ID), _done, "RUNNING"
        )
        until(lambda: _size(log.log_path) > size)
        stop = pb.StopContainerRequest(timeout=Duration(seconds=5), container_id=ID)
        self._step(stub.StopContainer, stop, _done, "STOPPED")
        ended = self._step(
            stub.WaitContainer, pb.WaitContainerRequest(container_id=ID), _ended, "STOPPED"
        ).exit_status
        _check("the exit code", ended.exit_code, EXIT_CODE)
        _check("its source", ended.provenance, container_pb2.EXIT_PROVENANCE_EXIT_FILE)
        lines = Path(log.log_path).read_text().splitlines()
        self._step(stub.RemoveContainer, pb.RemoveContainerRequest(container_id=ID), _done, "gone")
        _check("the log is gone", Path(log.log_path).exists(), False)
        _print_log(lines)

    def run_image(self) -> None:
        """From an image's pull to its removal, with a container of it."""
        client = self._service.client
        rootfs = self._service.directory / "bundle/rootfs"
        made = image(tree(rootfs), config={"Cmd": ["/bin/echo", "hello from an image"]})
        layout = write_layout(self._service.directory / "layout", {"demo": made})
        print()
        self._step(
            lambda request, timeout: list(client.pull_image(request.image, name=request.name)),
            image_pb2.PullImageRequest(image=f"oci:{layout}:demo", name=IMAGE),
            _pulled,
            "",
        )
        create = pb.CreateContainerRequest(container_id=ID, start=True)
        create.config.image = IMAGE
        stub = self._service.wire
        self._step(stub.CreateContainer, create, lambda created: f"id {created.container_id}", "")
        wait = pb.WaitContainerRequest(container_id=ID)
        ended = self._step(stub.WaitContainer, wait, _ended, "STOPPED").exit_status
        _check("the exit code", ended.exit_code, 0)
        _check("its output", self._service.output(ID), ["hello from an image"])
        self._step(stub.RemoveContainer, pb.RemoveContainerRequest(container_id=ID), _done, "gone")
        self._step(
            lambda request, timeout: client.remove_image(request.image),
            image_pb2.RemoveImageRequest(image=IMAGE),
            lambda removed: f"untagged {', '.join(removed.untagged)}",
            "",
        )

    def _step(
        self,
        call: Callable[..., _Response],
        request: object,
        describe: Callable[[_Response], str],
        state: str,
    ) -> _Response:
        """Make a call, print it with its answer, and check the state that follows."""
        name = type(request).__name__.removesuffix("Request")
        began_s = time.perf_counter()
        answer = call(request, timeout=CALL_TIMEOUT_S)
        took_ms = (time.perf_counter() - began_s) * 1000
        found = self._state() if state else ""
        _print_row(name, describe(answer), found, f"{took_ms:.1f}")
        _check(f"the state after {name}", found, state)
        return answer

    def _state(self) -> str:
        """The container's state, or "gone" when the service has none."""
        try:
            return _word(self._service.status(ID).state)
        except ContainerNotFound:
            return "gone"


def _versions(answer: pb.VersionResponse) -> str:
    runtimes = [each.version for each in answer.runtime_handlers if each.name == "runc"]
    ours = f"ocigrpc {answer.runtime_version} ({answer.runtime_api_version})"
    return ", ".join([ours, answer.conmon_version, *runtimes]).replace(" version ", " ")


def _pulled(messages: Sequence[image_pb2.PullImageResponse]) -> str:
    return f"{', '.join(messages[-1].image.names)}, whole"


def _described(answer: pb.ContainerStatusResponse) -> str:
    status = answer.status
    return f"{_word(status.state)}, pid {status.pid}, {status.runtime_handler}"


def _ended(answer: pb.WaitContainerResponse) -> str:
    status = answer.exit_status
    source = container_pb2.ExitProvenance.Name(status.provenance)
    return f"exit code {status.exit_code}, by {source.removeprefix('EXIT_PROVENANCE_')}"


def _done(_: object) -> str:
    return "done"


def _word(state: container_pb2.ContainerState) -> str:
    return container_pb2.ContainerState.Name(state).removeprefix("CONTAINER_STATE_")


def _check(what: str, found: object, wanted: object) -> None:
    assert found == wanted, f"{what}: {found!r}, not {wanted!r}"


def _size(path: str) -> int:
    return Path(path).stat().st_size


def _print_row(call: str, answer: str, state: str, took_ms: str) -> None:
    print(f"{call:<16} {answer:<58} {state:<11} {took_ms:>7}", flush=True)


def _print_log(lines: list[str]) -> None:
    print(f"\nThe container's own log, {len(lines)} lines:")
    shown = lines if len(lines) <= 6 else [*lines[:3], "...", *lines[-2:]]
    print("\n".join(f"  {line}" for line in shown))
    _check("the last line", lines[-1].split(" ", 3)[-1], "asked to end")


if __name__ == "__main__":
    sys.exit(main())
