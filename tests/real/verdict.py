"""What the answer to a hostile request must be, and that nothing else came of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import grpc
from google.protobuf.descriptor import Descriptor
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from ocigrpc.errors import PROGRAM_TEXT_LIMIT_BYTES
from ocigrpc.v1.runtime_pb2 import CreateContainerResponse
from tests.real.hostile import SERVICE, Case

LIMIT_S = 20.0
"""In which every call has to be answered, but those that wait for a container."""

WAIT_S = 0.5
"""How long those are waited for."""

_WAITS = frozenset("WaitContainer Attach ContainerLogs".split())

REFUSALS = frozenset(
    "INVALID_ARGUMENT NOT_FOUND FAILED_PRECONDITION ALREADY_EXISTS RESOURCE_EXHAUSTED".split()
)
"""Codes that say what is wrong with a request, or with what it is about."""

_STEP = re.compile(r'(\w+)(?:\[(\d+|"(?:[^"\\]|\\.)*")\])?(?:\.|$)')


class Answer:
    """What was said to a case: nothing wrong, or a status with its details."""

    def __init__(self, payload: bytes, error: grpc.RpcError | None) -> None:
        self.payload = payload
        self.code = "OK"
        self.info = ErrorInfo()
        self.fields: Sequence[str] = ()
        if error is None:
            return
        assert isinstance(error, grpc.Call)
        self.code = error.code().name
        violations = BadRequest()
        status: Status | None = rpc_status.from_call(error)
        for detail in status.details if status else ():
            detail.Unpack(self.info)
            detail.Unpack(violations)
        self.fields = [each.field for each in violations.field_violations]

    def faults(self, case: Case) -> Iterator[str]:
        """What it should not have been."""
        reason, metadata = self.info.reason, self.info.metadata
        if self.code == "OK" or (self.code == "DEADLINE_EXCEEDED" and case.method.name in _WAITS):
            return
        if self.info.domain != "ocigrpc" or not reason:
            yield "it does not say why"
        if any(len(text) > 2 * PROGRAM_TEXT_LIMIT_BYTES for text in metadata.values()):
            yield "it talks too much"
        if self.code == "INVALID_ARGUMENT" and reason != "MALFORMED_MESSAGE":
            if not self.fields:
                yield "it names no field"
            unknown = [
                path for path in self.fields if not names_a_field(case.method.input_type, path)
            ]
            if unknown:
                yield f"the request has no field {unknown}"
        elif self.fields and reason != "MALFORMED_MESSAGE":
            yield "it blames a field"
        if self.code not in REFUSALS and not self._is_excused(case):
            yield "it blames the service"

    def _is_excused(self, case: Case) -> bool:
        """Whether the service had to ask somebody else, who refused; or time was up."""
        if self.code == "INTERNAL":
            phase = self.info.metadata.get("phase", "runtime")
            by_runtime = self.info.reason == "RUNTIME_FAILED" and phase == "runtime"
            return by_runtime or self.info.reason == "EXEC_FAILED"
        if self.code == "DEADLINE_EXCEEDED":
            return self.info.reason == "EXEC_TIMEOUT"
        return False

    def __str__(self) -> str:
        metadata = {key: text[:300] for key, text in self.info.metadata.items()}
        return f"{self.code} {self.info.reason} {metadata} {list(self.fields)}"


def names_a_field(message: Descriptor, path: str) -> bool:
    """Whether such a message can have this field: ``config.mounts[2].options[0]``."""
    step = _STEP.match(path)
    if step is None:
        return False
    name, key, rest = step[1], step[2], path[step.end() :]
    field = message.fields_by_name.get(name)
    if field is None:
        return name in message.oneofs_by_name and path == name
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        return not rest and (key is None or key.startswith('"'))
    if key is not None and not (field.is_repeated and key.isdigit()):
        return False
    return not rest or (inner is not None and names_a_field(inner, rest))


def ask(channel: grpc.Channel, case: Case) -> Answer:
    """Send a case, and take the first answer or, of a talk, all of them."""
    name = case.method.name
    path = f"/{SERVICE.full_name}/{name}"
    timeout_s = WAIT_S if name in _WAITS else LIMIT_S
    unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    watch: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
    talk: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(path)
    try:
        if not case.method.server_streaming:
            return Answer(unary(case.messages[0], timeout=timeout_s), None)
        if case.method.client_streaming:
            return Answer(b"".join(talk(iter(case.messages), timeout=timeout_s)), None)
        call = watch(case.messages[0], timeout=timeout_s)
        first = next(call, b"")
        call.cancel()
        return Answer(first, None)
    except grpc.RpcError as error:
        return Answer(b"", error)


def made_by(case: Case, answer: Answer) -> str:
    """The id of the container that came of it, if one did."""
    if answer.code == "OK" and case.method.name == "CreateContainer":
        return CreateContainerResponse.FromString(answer.payload).container_id
    return ""
