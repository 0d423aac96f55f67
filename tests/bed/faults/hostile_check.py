"""What the answer to a hostile request must be, and that nothing else came of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo

from ocigrpc.errors import PROGRAM_TEXT_LIMIT_BYTES
from ocigrpc.v1.runtime_pb2 import CreateContainerResponse
from tests.bed.clients.error_info import error_details
from tests.bed.faults.hostile import SERVICE, Case
from tests.bed.faults.hostile_values import NEVER_RIGHT

# In which every call has to be answered, but those that wait for a container.
LIMIT_S = 60.0

# How long those are waited for.
WAIT_S = 0.5

_WAITS = frozenset("WaitContainer Attach ContainerLogs".split())

# Codes for what is wrong with a request, or with what it is about.
REFUSALS = frozenset(
    "INVALID_ARGUMENT NOT_FOUND FAILED_PRECONDITION ALREADY_EXISTS RESOURCE_EXHAUSTED".split()
)

_STEP = re.compile(r'(\w+)(?:\[(\d+|"(?:[^"\\]|\\.)*")\])?(?:\.|$)')

# Fields whose values only the runtime can judge, at work in the kernel, and why.
_FOR_THE_RUNTIME: Mapping[str, str] = {
    "spec_json": "it is in the runtime's own language, most of which is the runtime's to know",
    "bundle_path": "so is what is in it",
    "config.rootfs_path": "the kernel knows what it can mount things in",
    "config.command": "the container knows which programs it has",
    "config.working_dir": "and which directories",
    "config.mounts.container_path": "and what is there already",
    "config.mounts.host_path": "the kernel knows what can be mounted",
    "config.mounts.type": "and which filesystems it has",
    "config.mounts.options": "and what they can do",
    "config.devices.container_path": "the container knows what is there already",
    "config.masked_paths.paths": "and here",
    "config.readonly_paths.paths": "and here",
    "config.resources": "the kernel knows which limits it can keep",
    "config.rlimits": "and which of these",
    "config.sysctls": "and which settings it has",
    "process.command": "the container knows which programs it has",
    "process.working_dir": "and which directories",
    "start.process.command": "it is the same for Exec",
    "start.process.working_dir": "and here",
    "resources": "the kernel knows which limits it can keep",
}

# Values of such fields that are never to blame.
_SOUND = frozenset({"/bin/true", "/bin/cat"})


class Answer:
    """The answer to a case: success, or a status with its details."""

    def __init__(self, payload: bytes, error: grpc.RpcError | None) -> None:
        self.payload = payload
        self.code = "OK"
        self.info = ErrorInfo()
        self.fields: Sequence[str] = ()
        if error is None:
            return
        assert isinstance(error, grpc.Call)
        self.code = error.code().name
        self.info, violations = error_details(error)
        self.fields = [each.field for each in violations.field_violations]

    def faults(self, case: Case) -> Iterator[str]:
        """What it should not have been."""
        reason, metadata = self.info.reason, self.info.metadata
        if self.code == "OK":
            wrong = [
                path for path, kind, value in values_in(case) if is_never_right(path, kind, value)
            ]
            if wrong:
                yield f"it should have refused {wrong}"
            return
        if self.code == "DEADLINE_EXCEEDED" and case.method.name in _WAITS:
            return
        if self.info.domain != "ocigrpc" or not reason:
            yield "it has no reason"
        if any(len(text) > 2 * PROGRAM_TEXT_LIMIT_BYTES for text in metadata.values()):
            yield "its metadata is too long"
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
        """Whether the runtime refused what only it can judge; or time was up."""
        if self.info.reason == "EXEC_FAILED":
            # An earlier case may have set limits with which no program can begin.
            return True
        if self.code == "INTERNAL":
            phase = self.info.metadata.get("phase", "runtime")
            its_own = ("RUNTIME_FAILED", "MEMORY_LIMIT_TOO_LOW")
            by_runtime = self.info.reason in its_own and phase == "runtime"
            return by_runtime and is_for_the_runtime(case)
        if self.code == "DEADLINE_EXCEEDED":
            return self.info.reason == "EXEC_TIMEOUT"
        return False

    def __str__(self) -> str:
        metadata = {key: text[:300] for key, text in self.info.metadata.items()}
        return f"{self.code} {self.info.reason} {metadata} {list(self.fields)}"


def values_in(case: Case) -> Iterator[tuple[str, FieldDescriptor, object]]:
    """All values of the first message by the paths of their fields: ``config.mounts.options``."""
    try:
        message = GetMessageClass(case.method.input_type).FromString(case.messages[0])
    except DecodeError:
        return
    yield from _values(message, "")


def _values(message: Message, prefix: str) -> Iterator[tuple[str, FieldDescriptor, object]]:
    for field, value in message.ListFields():
        path = prefix + field.name
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            for key, inner in value.items():
                yield path, kind.fields_by_name["key"], key
                yield path, kind.fields_by_name["value"], inner
            continue
        for each in value if field.is_repeated else (value,):
            if kind is None:
                yield path, field, each
            else:
                yield from _values(each, f"{path}.")


def is_never_right(path: str, field: FieldDescriptor, value: object) -> bool:
    """Whether no request may be granted that has this value in such a field."""
    if field.enum_type is not None:
        return value not in field.enum_type.values_by_number
    if not isinstance(value, str):
        return False
    # What nothing can be called may be looked for: a filter finds nothing of that name.
    listed = () if path.startswith("filter.") else NEVER_RIGHT.get(field.name, ())
    return "\0" in value or value in listed


def is_for_the_runtime(case: Case) -> bool:
    """Whether a case has a value that only the runtime can judge."""
    parts = (path.split(".") for path, _, value in values_in(case) if value not in _SOUND)
    return any(
        ".".join(names[: end + 1]) in _FOR_THE_RUNTIME
        for names in parts
        for end in range(len(names))
    )


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
    """Send a case, and take the first answer or, of a bidirectional stream, all of them."""
    name = case.method.name
    path = f"/{SERVICE.full_name}/{name}"
    timeout_s = WAIT_S if name in _WAITS else LIMIT_S
    # On the wire, a call of one message is a stream with one message.
    stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(path)
    try:
        call = stream(iter(case.messages), timeout=timeout_s)
        if case.method.client_streaming or not case.method.server_streaming:
            return Answer(b"".join(call), None)
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
