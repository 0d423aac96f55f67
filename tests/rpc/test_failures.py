"""How each failure reaches the client, and what the client sends that is no request."""

from __future__ import annotations

import errno
from typing import TypeAlias

import grpc
import pytest

from ocigrpc import errors, image_errors
from ocigrpc.v1 import runtime_pb2 as v1
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub as Stub
from tests.rpc.fake_engine import FakeEngine
from tests.rpc.running import PAUSE
from tests.rpc.statuses import failure_of

RawCall: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"


ROWS = [
    (
        errors.InvalidArgument.of("log_path", "bad", reason="INVALID_LOG_PATH"),
        "INVALID_ARGUMENT",
        "INVALID_LOG_PATH",
        {"field": "log_path"},
    ),
    (errors.InvalidSettings("bad"), "INTERNAL", "INVALID_SETTINGS", {}),
    (errors.ContainerNotFound.of("c1"), "NOT_FOUND", "CONTAINER_NOT_FOUND", {"container_id": "c1"}),
    (errors.PathNotFound("no", path="/x"), "NOT_FOUND", "PATH_NOT_FOUND", {"path": "/x"}),
    (
        errors.ContainerExists("taken", reason="NAME_IN_USE", name="web"),
        "ALREADY_EXISTS",
        "NAME_IN_USE",
        {"name": "web"},
    ),
    (
        errors.WrongState.of("c1", "paused", "running"),
        "FAILED_PRECONDITION",
        "WRONG_STATE",
        {"container_id": "c1", "state": "paused", "wanted": "running"},
    ),
    (
        errors.PreconditionFailed("not yet", reason="LOG_NOT_ROTATED", path="/l"),
        "FAILED_PRECONDITION",
        "LOG_NOT_ROTATED",
        {"path": "/l"},
    ),
    (
        errors.PermissionDenied("no", reason="READ_ONLY", rpc="Exec"),
        "PERMISSION_DENIED",
        "READ_ONLY",
        {"rpc": "Exec"},
    ),
    (errors.NotImplementedHere("no", rpc="Fly"), "UNIMPLEMENTED", "UNKNOWN_METHOD", {"rpc": "Fly"}),
    (
        errors.Busy.of("c1", "create"),
        "ABORTED",
        "CONTAINER_BUSY",
        {"container_id": "c1", "verb": "create"},
    ),
    (errors.LimitReached("full", limit=3), "RESOURCE_EXHAUSTED", "LIMIT_REACHED", {"limit": "3"}),
    (
        errors.Timeout("late", reason="CREATE_TIMEOUT", phase="sync"),
        "DEADLINE_EXCEEDED",
        "CREATE_TIMEOUT",
        {"phase": "sync"},
    ),
    (errors.Cancelled("gone"), "CANCELLED", "CANCELLED", {}),
    (errors.Recovering("beginning"), "UNAVAILABLE", "RECOVERING", {}),
    (errors.ShuttingDown("ending"), "UNAVAILABLE", "SHUTTING_DOWN", {}),
    (
        errors.RuntimeFailed("broke", output="no such file"),
        "INTERNAL",
        "RUNTIME_FAILED",
        {"output": "no such file"},
    ),
    (
        errors.CannotRun("it is not there", reason="PROGRAM_NOT_FOUND", exit_code=127),
        "FAILED_PRECONDITION",
        "PROGRAM_NOT_FOUND",
        {"exit_code": "127"},
    ),
    (errors.MonitorFailed("broke", reason="MONITOR_LOST"), "INTERNAL", "MONITOR_LOST", {}),
    (errors.CgroupFailed("broke"), "INTERNAL", "CGROUP_FAILED", {}),
    (errors.StoreFailed("broke", path="/s"), "INTERNAL", "STORE_FAILED", {"path": "/s"}),
    (errors.HostFailed("broke", path="/s"), "INTERNAL", "HOST_FAILED", {"path": "/s"}),
    (image_errors.ImageNotFound.of("i"), "NOT_FOUND", "IMAGE_NOT_FOUND", {"image": "i"}),
    (
        image_errors.ImageUnusable("kept", reason="IMAGE_PINNED", image="i"),
        "FAILED_PRECONDITION",
        "IMAGE_PINNED",
        {"image": "i"},
    ),
    (image_errors.ImagesFailed("broke"), "INTERNAL", "IMAGE_PROGRAM_FAILED", {}),
    (
        image_errors.RegistryUnauthorized("no"),
        "UNAUTHENTICATED",
        "REGISTRY_UNAUTHORIZED",
        {},
    ),
    (image_errors.RegistryUnreachable("away"), "UNAVAILABLE", "REGISTRY_UNREACHABLE", {}),
    (image_errors.StorageFull("full"), "RESOURCE_EXHAUSTED", "STORAGE_FULL", {}),
]


@pytest.mark.parametrize(
    ("error", "code", "reason", "metadata"), ROWS, ids=[type(row[0]).__name__ for row in ROWS]
)
def test_exception_becomes_its_status_with_reason_and_metadata(
    stub: Stub,
    engine: FakeEngine,
    error: errors.OcigrpcError,
    code: str,
    reason: str,
    metadata: dict[str, str],
) -> None:
    engine.failure = error
    failure = failure_of(lambda: stub.PauseContainer(PAUSE))
    found = (failure.code.name, failure.reason, dict(failure.info.metadata))
    assert found == (code, reason, metadata)
    assert failure.info.domain == "ocigrpc"
    assert failure.text == error.message


def test_every_kind_of_exception_is_tried_above() -> None:
    declared = {
        kind
        for kind in (*vars(errors).values(), *vars(image_errors).values())
        if isinstance(kind, type)
    }
    kinds = {kind for kind in declared if issubclass(kind, errors.OcigrpcError)}
    assert {type(row[0]) for row in ROWS} == kinds - {errors.OcigrpcError}


def test_wrong_request_names_every_wrong_field(stub: Stub, engine: FakeEngine) -> None:
    request = v1.CreateContainerRequest(container_id="../c", name="/", log_size_max_bytes=-1)
    failure = failure_of(lambda: stub.CreateContainer(request))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.reason == "INVALID_CONTAINER_ID"
    assert failure.fields == ["container_id", "name", "source", "log_size_max_bytes"]
    assert engine.calls == []


def test_refusal_of_the_host_names_its_path(stub: Stub, engine: FakeEngine) -> None:
    engine.failure = OSError(errno.EROFS, "read-only", "/a/path")
    failure = failure_of(lambda: stub.PauseContainer(PAUSE))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INTERNAL, "HOST_FAILED")
    assert failure.info.metadata == {"path": "/a/path", "error": "read-only"}


def test_want_of_descriptors_is_no_defect(stub: Stub, engine: FakeEngine) -> None:
    engine.failure = OSError(errno.EMFILE, "too many")
    failure = failure_of(lambda: stub.PauseContainer(PAUSE))
    expected = (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_OPEN_FILES")
    assert (failure.code, failure.reason) == expected


def test_defect_is_only_described_by_its_request_id(stub: Stub, engine: FakeEngine) -> None:
    engine.failure = ZeroDivisionError("a secret")
    failure = failure_of(lambda: stub.PauseContainer(PAUSE, metadata=(("x-request-id", "r-1"),)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INTERNAL, "UNEXPECTED")
    assert dict(failure.info.metadata) == {"request_id": "r-1"}
    assert "secret" not in failure.text


@pytest.mark.parametrize("text", ["x" * 100_000, "é\n" * 50_000, "\udcff" * 100_000])
def test_long_text_is_cut_so_that_the_status_arrives(
    stub: Stub, engine: FakeEngine, text: str
) -> None:
    engine.failure = errors.RuntimeFailed(f"runc: {text}", output=text, argv=text, path=text)
    failure = failure_of(lambda: stub.PauseContainer(PAUSE))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INTERNAL, "RUNTIME_FAILED")
    assert set(failure.info.metadata) == {"output", "argv", "path"}


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe"], ids=["wire", "utf-8"])
def test_what_is_no_message_is_an_invalid_argument(
    grpc_channel: grpc.Channel, engine: FakeEngine, data: bytes
) -> None:
    call: RawCall = grpc_channel.unary_unary("/ocigrpc.v1.RuntimeService/PauseContainer")
    failure = failure_of(lambda: call(data))
    assert (failure.code, failure.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "MALFORMED_MESSAGE",
    )
    assert engine.calls == []


def test_unknown_rpc_is_unimplemented(grpc_channel: grpc.Channel, engine: FakeEngine) -> None:
    call: RawCall = grpc_channel.unary_unary("/ocigrpc.v1.RuntimeService/FlyContainer")
    assert failure_of(lambda: call(b"")).code is grpc.StatusCode.UNIMPLEMENTED
