"""Hostile requests, made from the protobuf descriptors of the service.

Of two kinds: wild ones, whose every field may be anything, and bent ones, which are sound
but for a few fields, so that they come far. Where the name of a field shows what it means,
it gets what is hostile there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from ocigrpc.v1 import runtime_pb2
from tests.bed.faults.hostile_places import Places
from tests.bed.faults.hostile_values import (
    BY_TYPE,
    ENDED,
    IDS,
    LIVING,
    TEXTS,
    Values,
    values_by_name,
)

SERVICE = runtime_pb2.DESCRIPTOR.services_by_name["RuntimeService"]

_TEXT_LIMIT = 4000

# What no container may suffer only gets ids of containers that can't suffer it.
_HARMFUL = frozenset("Start Pause Resume Stop Kill Remove".split())


class Case(NamedTuple):
    """What is sent to an RPC: one message or, to a stream, several."""

    method: MethodDescriptor
    messages: tuple[bytes, ...]

    def __repr__(self) -> str:
        """The request in the text format of protobuf, or in hexadecimal if it is none."""
        texts = [self._text(message) for message in self.messages]
        return f"{self.method.name}\n" + "\n---\n".join(texts)

    def _text(self, message: bytes) -> str:
        try:
            parsed = GetMessageClass(self.method.input_type).FromString(message)
            return text_format.MessageToString(parsed)[:_TEXT_LIMIT]
        except DecodeError:
            return f"malformed: {message.hex()[:_TEXT_LIMIT]}"


def cases(places: Places, cgroup_parent: str) -> SearchStrategy[Case]:
    """What is sent, to any RPC; creating containers, where there is most to fear, often."""
    requests = _Requests(places, cgroup_parent)
    methods = list(SERVICE.methods)
    wild, bent = map(requests.wild, methods), {each.name: requests.bent(each) for each in methods}
    often = [bent["CreateContainer"]] * 24 + [bent["ExecSync"]] * 4
    malformed = [_any_of([requests.malformed(method) for method in methods])] * 4
    return _any_of([*wild, *bent.values(), *often, *malformed])


def _any_of(strategies: Sequence[SearchStrategy[Case]]) -> SearchStrategy[Case]:
    """One of them; unlike ``one_of``, it counts as often as it is there."""
    return st.integers(0, len(strategies) - 1).flatmap(lambda number: strategies[number])


class _Requests:
    """Strategies for the requests of each RPC."""

    def __init__(self, places: Places, cgroup_parent: str) -> None:
        self._places = places
        self._named = values_by_name(places, cgroup_parent)
        # To make a strategy takes longer than to draw from it.
        self._message = lru_cache(None)(self._make_message)
        self._values = lru_cache(None)(self._make_values)

    def wild(self, method: MethodDescriptor) -> SearchStrategy[Case]:
        return self._case(method, self._message(method.input_type, _is_harmful(method)))

    def bent(self, method: MethodDescriptor) -> SearchStrategy[Case]:
        """A sound request of which one field, or two, is hostile."""
        return self._case(method, self._bent(method))

    def malformed(self, method: MethodDescriptor) -> SearchStrategy[Case]:
        """Bytes that are no message, most likely, or one that was torn."""
        sound = self.wild(method)

        @st.composite
        def torn(draw: DrawFn) -> Case:
            whole = draw(sound)
            first = whole.messages[0][:1000]
            cut = draw(st.integers(0, len(first)))
            return Case(method, (first[:cut] + draw(st.binary(max_size=20)), *whole.messages[1:]))

        return torn()

    def _case(
        self, method: MethodDescriptor, messages: SearchStrategy[Message]
    ) -> SearchStrategy[Case]:
        if not method.client_streaming:
            return messages.map(lambda message: Case(method, (message.SerializeToString(),)))
        later = st.lists(self._message(method.input_type, False), max_size=3)
        return st.tuples(messages, later).map(
            lambda drawn: Case(
                method, tuple(message.SerializeToString() for message in (drawn[0], *drawn[1]))
            )
        )

    def _make_message(self, descriptor: Descriptor, harmful: bool) -> SearchStrategy[Message]:
        @st.composite
        def message(draw: DrawFn) -> Message:
            made = GetMessageClass(descriptor)()
            fields = [*descriptor.fields]
            if fields:
                for field in draw(st.lists(st.sampled_from(fields), max_size=4)):
                    self._put(draw, made, field, harmful)
            return made

        return message()

    def _bent(self, method: MethodDescriptor) -> SearchStrategy[Message]:
        sound = _sound(method, self._places)

        @st.composite
        def message(draw: DrawFn) -> Message:
            made = draw(sound)
            for _ in range(draw(st.integers(1, 2))):
                self._bend(draw, made, _is_harmful(method))
            return made

        return message()

    def _bend(self, draw: DrawFn, message: Message, harmful: bool) -> None:
        """Make one field hostile, in the message or in one that it holds."""
        fields = [*message.DESCRIPTOR.fields]
        if not fields:
            return
        field = draw(st.sampled_from(fields))
        inner = field.message_type is not None and not field.is_repeated
        if inner and message.HasField(field.name) and draw(st.integers(0, 7)):
            self._bend(draw, getattr(message, field.name), harmful)
        else:
            message.ClearField(field.name)
            self._put(draw, message, field, harmful)

    def _put(self, draw: DrawFn, message: Message, field: FieldDescriptor, harmful: bool) -> None:
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            entries = draw(_counts(self._values(kind.fields_by_name["value"], harmful)))
            keys = self._values(kind.fields_by_name["key"], harmful)
            getattr(message, field.name).update(
                {f"{draw(keys)}{number or ''}": value for number, value in enumerate(entries)}
            )
        elif field.is_repeated:
            values = draw(_counts(self._values(field, harmful)))
            getattr(message, field.name).extend(values)
        elif kind is not None:
            getattr(message, field.name).CopyFrom(draw(self._values(field, harmful)))
        else:
            setattr(message, field.name, draw(self._values(field, harmful)))

    def _make_values(self, field: FieldDescriptor, harmful: bool) -> Values:
        """Values of a field, or of one that is repeated."""
        if field.message_type is not None:
            return self._message(field.message_type, harmful)
        if field.enum_type is not None:
            numbers = [value.number for value in field.enum_type.values]
            return st.sampled_from([*numbers, -1, 99, (1 << 31) - 1, -(1 << 31)])
        if field.name == "container_id" and harmful:
            return IDS
        if field.type == FieldDescriptor.TYPE_STRING and field.name in self._named:
            return st.one_of(self._named[field.name], self._named[field.name], TEXTS)
        return BY_TYPE[field.type]


def _is_harmful(method: MethodDescriptor) -> bool:
    return method.name.removesuffix("Container") in _HARMFUL


@st.composite
def _counts(draw: DrawFn, values: Values) -> list[object]:
    """A few values; or one of them, if it is small, thousands of times."""
    few = draw(st.lists(values, min_size=1, max_size=3))
    if draw(st.integers(0, 15)) == 0 and len(str(few[0])) < 100:
        return few[:1] * draw(st.sampled_from([300, 5000]))
    return few


def _sound(method: MethodDescriptor, places: Places) -> SearchStrategy[Message]:
    """A request that would be granted, and that names the container that runs."""
    # Harmful calls are about a container that they can't harm any more.
    unharmed = "nobody" if method.name == "RemoveContainer" else ENDED
    requests = [f'container_id: "{unharmed if _is_harmful(method) else LIVING}"']
    if method.name == "CreateContainer":
        config = f'rootfs_path: "{places.rootfs}" command: "/bin/true"'
        # What JSON escapes, the text format escapes alike.
        requests = [f"config {{ {config} }}", f"spec_json: {json.dumps(places.spec)}"]
        requests += [f'bundle_path: "{path}"' for path in places.strange]
    process = 'process { command: "/bin/cat" }'
    match method.name:
        case "ExecSync":
            requests[0] += process
        case "Exec":
            requests = [f"start {{ {requests[0]} {process} stdin: true }}"]
        case "Attach":
            requests = [f"start {{ {requests[0]} stdout: true }}"]
        case "CopyOut":
            requests[0] += 'path: "/etc" name: "x"'
        case "CopyInto":
            requests = [f'start {{ {requests[0]} path: "/tmp" }}']
        case "Version" | "Status" | "BackupStore":
            requests = [""]
        case "ListContainers" | "ListContainerStats" | "WatchStats":
            requests = ["filter { states: CONTAINER_STATE_RUNNING }"]
        case "WatchEvents":
            requests = ["filter { kinds: EVENT_KIND_CREATED }"]
    kind = GetMessageClass(method.input_type)
    return st.sampled_from(requests).map(lambda text: text_format.Parse(text, kind()))
