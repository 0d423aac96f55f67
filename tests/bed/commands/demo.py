"""A real container's whole life over gRPC, every answer checked, and nothing left behind."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from ocigrpc.v1 import container_pb2
from ocigrpc.v1 import runtime_pb2 as pb
from tests.bed.bundles.bundle import make_bundle
from tests.bed.commands.outcome import exit_status
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service
from tests.bed.services.serving import sandbox

ID = "demo"
EXIT_CODE = 3
PROGRAM = f"""
trap 'echo asked to end; exit {EXIT_CODE}' TERM
while echo "tick $((n += 1))"; do sleep 0.1; done
"""
CALL_TIMEOUT_S = 30.0
PAUSE_S = 0.4
"""How long the paused container is watched doing nothing: some ticks' worth."""

_Response = TypeVar("_Response")


def main() -> int:
    """Exit status 0 if all of it was true."""
    return exit_status(_work)


def _work() -> None:
    with sandbox() as service:
        _life(service)
    print()


def _life(service: Service) -> None:
    stub = service.rpc
    bundle = make_bundle(service.directory / "bundle", ["/bin/sh", "-c", PROGRAM])
    _print_row("call", "answer", "state after", "ms")

    def step(
        call: Callable[..., _Response],
        request: object,
        tell: Callable[[_Response], str],
        state: str,
    ) -> _Response:
        return _step(service, call, request, tell, state)

    step(stub.Version, pb.VersionRequest(), _versions, "")
    step(
        stub.CreateContainer,
        pb.CreateContainerRequest(bundle_path=str(bundle), container_id=ID),
        lambda made: f"id {made.container_id}, pid {made.pid}",
        "CREATED",
    )
    log = step(
        stub.ContainerStatus, pb.ContainerStatusRequest(container_id=ID), _told, "CREATED"
    ).status
    step(stub.StartContainer, pb.StartContainerRequest(container_id=ID), _done, "RUNNING")
    until(lambda: _size(log.log_path) > 0)
    step(stub.PauseContainer, pb.PauseContainerRequest(container_id=ID), _done, "PAUSED")
    # What was written just before may still be on its way through conmon.
    time.sleep(PAUSE_S / 2)
    size = _size(log.log_path)
    time.sleep(PAUSE_S / 2)
    _check("bytes logged while paused", _size(log.log_path) - size, 0)
    step(stub.ResumeContainer, pb.ResumeContainerRequest(container_id=ID), _done, "RUNNING")
    until(lambda: _size(log.log_path) > size)
    stop = pb.StopContainerRequest(timeout=Duration(seconds=5), container_id=ID)
    step(stub.StopContainer, stop, _done, "STOPPED")
    ended = step(
        stub.WaitContainer, pb.WaitContainerRequest(container_id=ID), _ended, "STOPPED"
    ).exit_status
    _check("the exit code", ended.exit_code, EXIT_CODE)
    _check("its source", ended.provenance, container_pb2.EXIT_PROVENANCE_EXIT_FILE)
    words = Path(log.log_path).read_text().splitlines()
    step(stub.RemoveContainer, pb.RemoveContainerRequest(container_id=ID), _done, "gone")
    _check("the log is gone", Path(log.log_path).exists(), False)
    _print_log(words)


def _step(
    service: Service,
    call: Callable[..., _Response],
    request: object,
    tell: Callable[[_Response], str],
    state: str,
) -> _Response:
    """Make a call, print it with its answer, and check the state that follows."""
    name = type(request).__name__.removesuffix("Request")
    began_s = time.perf_counter()
    answer = call(request, timeout=CALL_TIMEOUT_S)
    took_ms = (time.perf_counter() - began_s) * 1000
    found = _state(service) if state else ""
    _print_row(name, tell(answer), found, f"{took_ms:.1f}")
    _check(f"the state after {name}", found, state)
    return answer


def _state(service: Service) -> str:
    """The container's state, or "gone" when the service says that there is none."""
    try:
        request = pb.ContainerStatusRequest(container_id=ID)
        return _word(service.rpc.ContainerStatus(request, timeout=CALL_TIMEOUT_S).status.state)
    except grpc.RpcError as error:
        _check("why there is no status", _reason(error), "CONTAINER_NOT_FOUND")
        return "gone"


def _reason(error: grpc.RpcError) -> str:
    """The stable word for what went wrong; empty when the service did not say."""
    status = rpc_status.from_call(error) if isinstance(error, grpc.Call) else None
    info = ErrorInfo()
    if status is not None and any(detail.Unpack(info) for detail in status.details):
        return info.reason
    return ""


def _versions(answer: pb.VersionResponse) -> str:
    runtimes = [each.version for each in answer.runtime_handlers if each.name == "runc"]
    ours = f"ocigrpc {answer.runtime_version} ({answer.runtime_api_version})"
    return ", ".join([ours, answer.conmon_version, *runtimes])


def _told(answer: pb.ContainerStatusResponse) -> str:
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
