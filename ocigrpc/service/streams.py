"""Exec and attach between protobuf and the engine, in messages and in streams of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TypeAlias, TypeVar

import grpc
from msgspec import structs

from ocigrpc.engine.sessions.exec import OUTPUT_LIMIT_BYTES
from ocigrpc.engine.sessions.messages import (
    Answer,
    Attached,
    AttachStart,
    CloseStdin,
    ExecExit,
    ExecResult,
    ExecStart,
    Input,
    Inputs,
    Stdin,
    TerminalSize,
    weight_bytes,
)
from ocigrpc.engine.sessions.queue import PollableQueue
from ocigrpc.errors import InvalidArgument, OcigrpcError
from ocigrpc.oci.exec import ExecProcess
from ocigrpc.rpc import first_message
from ocigrpc.service import from_proto
from ocigrpc.v1 import attach_pb2, exec_pb2, terminal_pb2
from ocigrpc.violations import Violations, entry_field
from ocigrpc.waiting import Deadline

# Input that waits for a slow program; with more, the client has to wait.
BACKLOG_LIMIT_BYTES = 1 << 20

# Most that ExecSync answers of each stream, unless the client says: with both, an answer fits
# the 4 MiB that clients of gRPC take unless they say more.
OUTPUT_DEFAULT_BYTES = 3 << 19

# A terminal's rows and columns are 16 bits; ioctl_tty(2).
_SIZE_LIMIT = 65535

_Request: TypeAlias = exec_pb2.ExecRequest | attach_pb2.AttachRequest
_Start = TypeVar("_Start", ExecStart, AttachStart)
_R = TypeVar("_R", exec_pb2.ExecRequest, attach_pb2.AttachRequest)


@contextmanager
def exec_inputs(
    messages: Iterator[exec_pb2.ExecRequest], deadline: Deadline
) -> Iterator[tuple[ExecStart, Inputs]]:
    """What to run, and what the client goes on to say; for as long as the block lasts."""
    with _inputs(messages, _exec_start, deadline) as start_and_inputs:
        yield start_and_inputs


@contextmanager
def attach_inputs(
    messages: Iterator[attach_pb2.AttachRequest], deadline: Deadline
) -> Iterator[tuple[AttachStart, Inputs]]:
    """What to attach to, and what the client goes on to say; for as long as the block lasts."""
    with _inputs(messages, _attach_start, deadline) as start_and_inputs:
        yield start_and_inputs


@contextmanager
def _inputs(
    messages: Iterator[_R], unpack_start: Callable[[_R], _Start], deadline: Deadline
) -> Iterator[tuple[_Start, Inputs]]:
    """A thread reads the client's messages, which nothing can poll for, into a box.

    It ends with the call, when grpc ends the messages, or before that with the block.
    """
    starts, inputs = PollableQueue[_Start](1), PollableQueue[Input](BACKLOG_LIMIT_BYTES)

    def read() -> None:
        try:
            for message in messages:
                if starts.accepts():
                    starts.put(unpack_start(message))
                    starts.finish()
                    continue
                thing = _input(message)
                inputs.room.wait()
                if not inputs.put(thing, weight_bytes(thing)):
                    return
        except OcigrpcError as error:
            starts.finish(error)
            inputs.finish(error)
        except grpc.RpcError as error:
            # The client has gone; the deadline is cancelled. grpc keeps the error, whose
            # traceback would keep the boxes and what is in them.
            error.__traceback__ = None
        finally:
            starts.finish(_no_start())
            inputs.finish()

    Thread(target=read, name="inputs", daemon=True).start()
    try:
        if not deadline.wait(starts.filled, timeout_s=first_message.MESSAGE_LIMIT_S):
            raise first_message.first_message_late()
        start = starts.take()
        assert start is not None, "it is filled"
        yield start, inputs
    finally:
        starts.close()
        inputs.close()


def exec_sync_request(request: exec_pb2.ExecSyncRequest) -> ExecStart:
    """What to run to its end."""
    found = Violations()
    found.in_range("max_output_bytes", request.max_output_bytes, 0, OUTPUT_LIMIT_BYTES)
    found.raise_any()
    return ExecStart(
        output_limit_bytes=request.max_output_bytes or OUTPUT_DEFAULT_BYTES,
        container_id=from_proto.container_id(request),
        process=_process(request.process),
        timeout_s=from_proto.limit_s(request),
        keep_running=request.keep_running,
    )


def exec_sync_response(result: ExecResult) -> exec_pb2.ExecSyncResponse:
    """What came of it."""
    return exec_pb2.ExecSyncResponse(
        stdout=result.stdout,
        stderr=result.stderr,
        stdout_truncated=result.stdout_truncated,
        stderr_truncated=result.stderr_truncated,
        exit=_exit(result.exit),
    )


def exec_response(answer: Answer) -> exec_pb2.ExecResponse:
    """One answer of a program that was run."""
    if isinstance(answer, ExecExit):
        return exec_pb2.ExecResponse(exit=_exit(answer))
    assert not isinstance(answer, Attached), "is no answer of an exec"
    if answer.is_stderr:
        return exec_pb2.ExecResponse(stderr=answer.data)
    return exec_pb2.ExecResponse(stdout=answer.data)


def attach_response(answer: Answer) -> attach_pb2.AttachResponse:
    """One answer of a container that a client is attached to."""
    if isinstance(answer, Attached):
        return attach_pb2.AttachResponse(attached=attach_pb2.Attached())
    assert not isinstance(answer, ExecExit), "is no answer of an attach"
    if answer.is_stderr:
        return attach_pb2.AttachResponse(stderr=answer.data)
    return attach_pb2.AttachResponse(stdout=answer.data)


def _exit(ended: ExecExit) -> exec_pb2.ExecExit:
    return exec_pb2.ExecExit(exit_code=ended.exit_code, signal=ended.signal)


def _exec_start(request: exec_pb2.ExecRequest) -> ExecStart:
    if request.WhichOneof("input") != "start":
        raise _no_start()
    start = request.start
    with _below("start"):
        return ExecStart(
            container_id=from_proto.container_id(start),
            process=structs.replace(_process(start.process), field="start.process"),
            timeout_s=from_proto.limit_s(start),
            stdin=start.stdin,
            terminal=start.terminal,
            terminal_size=_start_size(start),
            keep_running=start.keep_running,
        )


def _attach_start(request: attach_pb2.AttachRequest) -> AttachStart:
    if request.WhichOneof("input") != "start":
        raise _no_start()
    start = request.start
    with _below("start"):
        return AttachStart(
            container_id=from_proto.container_id(start),
            stdin=start.stdin,
            stdout=start.stdout,
            stderr=start.stderr,
            terminal_size=_start_size(start),
        )


def _no_start() -> InvalidArgument:
    return InvalidArgument.of("start", "must be the first message", reason="START_MISSING")


def _input(message: _Request) -> Input:
    match message.WhichOneof("input"):
        case "stdin":
            return Stdin(message.stdin)
        case "resize":
            return _size(message.resize, "resize")
        case "close_stdin":
            return CloseStdin()
        case "start":
            raise InvalidArgument.of("start", "only the first message has it", reason="START_AGAIN")
    raise InvalidArgument.of("input", "is required", reason="REQUIRED")


def _start_size(start: exec_pb2.ExecStart | attach_pb2.AttachStart) -> TerminalSize | None:
    if not start.HasField("terminal_size"):
        return None
    return _size(start.terminal_size, "terminal_size")


@contextmanager
def _below(field: str) -> Iterator[None]:
    """Name what is wrong as the request's ``field`` has it."""
    try:
        yield
    except InvalidArgument as error:
        raise error.below(field) from None


def _size(size: terminal_pb2.TerminalSize, field: str) -> TerminalSize:
    found = Violations()
    found.in_range(f"{field}.rows", size.rows, 0, _SIZE_LIMIT)
    found.in_range(f"{field}.columns", size.columns, 0, _SIZE_LIMIT)
    found.raise_any()
    return TerminalSize(size.rows, size.columns)


def _process(process: exec_pb2.ExecProcess) -> ExecProcess:
    found = Violations()
    if found.allow(bool(process.command), "process.command", "is required", "REQUIRED"):
        found.allow(
            process.command[0] != "", "process.command[0]", "is an empty program", "REQUIRED"
        )
    for index, word in enumerate(process.command):
        found.text(f"process.command[{index}]", word)
    for name, value in process.env.items():
        field = entry_field("process.env", name)
        found.allow(name != "" and "=" not in name, field, "no name of a variable", "MALFORMED")
        found.text(field, f"{name}={value}")
    if process.working_dir:
        found.absolute_path("process.working_dir", process.working_dir)
    found.text("process.user", process.user)
    found.raise_any()
    return ExecProcess(
        command=tuple(process.command),
        env=dict(process.env),
        working_dir=process.working_dir,
        user=process.user,
    )
