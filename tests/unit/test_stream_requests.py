"""The first messages of streams: what is wrong in them is named as the stream's message has it."""

from __future__ import annotations

from collections.abc import Generator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ocigrpc.engine.sessions.messages import Inputs, Output, Reply
from ocigrpc.errors import InvalidArgument
from ocigrpc.service.runtime import RuntimeService
from ocigrpc.service.session_from_proto import attach_start, exec_start
from ocigrpc.service.streams import session_inputs
from ocigrpc.v1.attach_pb2 import AttachRequest, AttachStart
from ocigrpc.v1.exec_pb2 import ExecProcess, ExecRequest, ExecStart
from ocigrpc.v1.terminal_pb2 import TerminalSize
from ocigrpc.waiting import Deadline

PROCESS = ExecProcess(command=["true"])
LARGE = TerminalSize(rows=70_000, columns=1)


@pytest.mark.parametrize(
    ("start", "field"),
    [
        (ExecStart(container_id="-", process=PROCESS), "start.container_id"),
        (ExecStart(container_id="c"), "start.process.command"),
        (ExecStart(container_id="c", process=PROCESS, timeout={"seconds": -1}), "start.timeout"),
        (
            ExecStart(container_id="c", process=PROCESS, terminal_size=LARGE),
            "start.terminal_size.rows",
        ),
    ],
)
def test_a_wrong_start_of_exec_is_named_by_its_whole_path(start: ExecStart, field: str) -> None:
    with (
        pytest.raises(InvalidArgument) as caught,
        session_inputs(iter([ExecRequest(start=start)]), exec_start, Deadline(20)),
    ):
        pass
    assert [each.field for each in caught.value.violations] == [field]
    assert caught.value.metadata["field"] == field


@pytest.mark.parametrize(
    ("start", "field"),
    [
        (AttachStart(container_id="c", terminal_size=LARGE), "start.terminal_size.rows"),
        (AttachStart(container_id="c", block_timeout={"seconds": 86_401}), "start.block_timeout"),
    ],
)
def test_a_wrong_start_of_attach_is_named_by_its_whole_path(start: AttachStart, field: str) -> None:
    with (
        pytest.raises(InvalidArgument) as caught,
        session_inputs(iter([AttachRequest(start=start)]), attach_start, Deadline(20)),
    ):
        pass
    assert [each.field for each in caught.value.violations] == [field]


def test_a_wrong_size_later_on_is_named_by_its_whole_path() -> None:
    first = ExecRequest(start=ExecStart(container_id="c", process=PROCESS))
    messages = iter([first, ExecRequest(resize=LARGE)])
    with session_inputs(messages, exec_start, Deadline(20)) as (start, inputs):
        assert start.process.field == "start.process"
        Deadline(20).wait(inputs.filled)
        with pytest.raises(InvalidArgument) as caught:
            inputs.take()
    assert [each.field for each in caught.value.violations] == ["resize.rows"]


@pytest.mark.parametrize("verb", ["exec", "attach"])
def test_a_session_ends_before_its_inputs_are_dropped(verb: str) -> None:
    """Or a program would take them for complete."""
    dropped = list[bool]()

    def session(_: object, inputs: Inputs, deadline: Deadline) -> Generator[Reply]:
        deadline.wait(inputs.filled)
        try:
            yield Output(b"output")
        finally:
            dropped.append(inputs.is_empty())

    service = RuntimeService(cast(Any, SimpleNamespace(exec=session, attach=session)))
    call: Any = SimpleNamespace(deadline=Deadline(20))
    start: dict[str, Any] = {"container_id": "c"} | ({"process": PROCESS} if verb == "exec" else {})
    make: Any = {"exec": ExecRequest, "attach": AttachRequest}[verb]
    handle: Any = {"exec": service.Exec, "attach": service.Attach}[verb]
    replies = handle(iter([make(start=start), make(stdin=b"input")]), call)
    next(replies)
    replies.close()
    assert dropped == [False]
