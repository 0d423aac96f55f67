"""From the answers of exec and attach to protobuf messages."""

from __future__ import annotations

from ocigrpc.engine.sessions.messages import Attached, ExecExit, ExecResult, ExecStarted, Reply
from ocigrpc.v1 import attach_pb2, exec_pb2


def exec_sync_response(result: ExecResult) -> exec_pb2.ExecSyncResponse:
    """The result of a program that has ended."""
    return exec_pb2.ExecSyncResponse(
        stdout=result.stdout,
        stderr=result.stderr,
        stdout_truncated=result.stdout_truncated,
        stderr_truncated=result.stderr_truncated,
        exit=_exit(result.exit),
    )


def exec_response(answer: Reply) -> exec_pb2.ExecResponse:
    """One answer of Exec."""
    if isinstance(answer, ExecExit):
        return exec_pb2.ExecResponse(exit=_exit(answer))
    if isinstance(answer, ExecStarted):
        return exec_pb2.ExecResponse(started=exec_pb2.ExecStarted(pid=answer.pid))
    assert not isinstance(answer, Attached), "is no answer of an exec"
    if answer.is_stderr:
        return exec_pb2.ExecResponse(stderr=answer.data)
    return exec_pb2.ExecResponse(stdout=answer.data)


def attach_response(answer: Reply) -> attach_pb2.AttachResponse:
    """One answer of Attach."""
    if isinstance(answer, Attached):
        return attach_pb2.AttachResponse(attached=attach_pb2.Attached())
    assert not isinstance(answer, ExecStarted | ExecExit), "is no answer of an attach"
    if answer.is_stderr:
        return attach_pb2.AttachResponse(stderr=answer.data)
    return attach_pb2.AttachResponse(stdout=answer.data)


def _exit(ended: ExecExit) -> exec_pb2.ExecExit:
    return exec_pb2.ExecExit(exit_code=ended.exit_code, signal=ended.signal)
