"""From messages of exec and attach to the engine's values; malformed messages are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import structs

from ocigrpc.engine.sessions.exec_output import OUTPUT_LIMIT_BYTES
from ocigrpc.engine.sessions.messages import (
    AttachStart,
    CloseStdin,
    ExecStart,
    Input,
    Stdin,
    TerminalSize,
)
from ocigrpc.errors import InvalidArgument
from ocigrpc.oci.exec import ExecProcess
from ocigrpc.service import from_proto
from ocigrpc.v1 import attach_pb2, exec_pb2, terminal_pb2
from ocigrpc.violations import Violations, entry_field

# Most bytes of each stream in an answer of ExecSync, unless the client asks for others: with
# both, the answer fits the 4 MiB that clients of gRPC accept by default.
OUTPUT_DEFAULT_BYTES = 3 << 19

# A terminal's rows and columns have 16 bits; ioctl_tty(2).
_SIZE_LIMIT = 65535


def exec_sync_request(request: exec_pb2.ExecSyncRequest) -> ExecStart:
    """The program to run to its end. Raises ``InvalidArgument``."""
    violations = Violations()
    violations.in_range("max_output_bytes", request.max_output_bytes, 0, OUTPUT_LIMIT_BYTES)
    violations.raise_any()
    return ExecStart(
        output_limit_bytes=request.max_output_bytes or OUTPUT_DEFAULT_BYTES,
        container_id=from_proto.container_id(request),
        process=_process(request.process),
        timeout_s=from_proto.limit_s(request.timeout),
        keep_running=request.keep_running,
    )


def exec_start(request: exec_pb2.ExecRequest) -> ExecStart:
    """The program to run, from the first message. Raises ``InvalidArgument``."""
    start = request.start
    with _start_of(request):
        if start.stdin and start.detach:
            raise InvalidArgument.of("stdin", "is not sent with detach", reason="CONFLICT")
        return ExecStart(
            container_id=from_proto.container_id(start),
            process=structs.replace(_process(start.process), field="start.process"),
            timeout_s=from_proto.limit_s(start.timeout),
            stdin=start.stdin,
            terminal=start.terminal,
            terminal_size=_start_size(start),
            keep_running=start.keep_running or start.detach,
            detach=start.detach,
        )


def attach_start(request: attach_pb2.AttachRequest) -> AttachStart:
    """What to attach to, from the first message. Raises ``InvalidArgument``."""
    start = request.start
    with _start_of(request):
        return AttachStart(
            container_id=from_proto.container_id(start),
            stdin=start.stdin,
            stdout=start.stdout,
            stderr=start.stderr,
            terminal_size=_start_size(start),
            block_timeout_s=from_proto.seconds(start.block_timeout, "block_timeout"),
        )


def start_missing() -> InvalidArgument:
    """The error for a stream without a start."""
    return InvalidArgument.of("start", "must be the first message", reason="START_MISSING")


def session_input(message: exec_pb2.ExecRequest | attach_pb2.AttachRequest) -> Input:
    """The input in a message after the first. Raises ``InvalidArgument``."""
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
def _start_of(request: exec_pb2.ExecRequest | attach_pb2.AttachRequest) -> Iterator[None]:
    """Require a start, and put ``start`` before the names of its wrong fields."""
    if request.WhichOneof("input") != "start":
        raise start_missing()
    try:
        yield
    except InvalidArgument as error:
        raise error.below("start") from None


def _size(size: terminal_pb2.TerminalSize, field: str) -> TerminalSize:
    violations = Violations()
    violations.in_range(f"{field}.rows", size.rows, 0, _SIZE_LIMIT)
    violations.in_range(f"{field}.columns", size.columns, 0, _SIZE_LIMIT)
    violations.raise_any()
    return TerminalSize(size.rows, size.columns)


def _process(process: exec_pb2.ExecProcess) -> ExecProcess:
    violations = Violations()
    if violations.allow(bool(process.command), "process.command", "is required", "REQUIRED"):
        violations.allow(
            process.command[0] != "", "process.command[0]", "is an empty program", "REQUIRED"
        )
    for index, argument in enumerate(process.command):
        violations.text(f"process.command[{index}]", argument)
    for name, value in process.env.items():
        field = entry_field("process.env", name)
        violations.allow(
            name != "" and "=" not in name, field, "no name of a variable", "MALFORMED"
        )
        violations.text(field, f"{name}={value}")
    if process.working_dir:
        violations.absolute_path("process.working_dir", process.working_dir)
    violations.text("process.user", process.user)
    violations.raise_any()
    return ExecProcess(
        command=tuple(process.command),
        env=dict(process.env),
        working_dir=process.working_dir,
        user=process.user,
    )
