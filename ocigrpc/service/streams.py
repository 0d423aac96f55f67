"""The messages of a client's stream, in queues that can be polled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from threading import Thread
from typing import TypeVar

import grpc

from ocigrpc.engine.sessions.messages import Input, Inputs, weight_bytes
from ocigrpc.engine.sessions.queue import PollableQueue
from ocigrpc.errors import OcigrpcError
from ocigrpc.rpc import first_message
from ocigrpc.service import session_from_proto
from ocigrpc.v1 import attach_pb2, exec_pb2
from ocigrpc.waiting import Deadline

# Most bytes of input that wait for a slow program; beyond that, the client has to wait.
BACKLOG_LIMIT_BYTES = 1 << 20

_Start = TypeVar("_Start")
_Input = TypeVar("_Input")
_R = TypeVar("_R")
_Session = TypeVar("_Session", exec_pb2.ExecRequest, attach_pb2.AttachRequest)


def session_inputs(
    messages: Iterator[_Session], unpack_start: Callable[[_Session], _Start], deadline: Deadline
) -> AbstractContextManager[tuple[_Start, Inputs]]:
    """See :func:`queued`; of exec and attach."""
    unpack: Callable[[_Session], Input] = session_from_proto.session_input
    return queued(messages, unpack_start, unpack, weight_bytes, deadline)


@contextmanager
def queued(
    messages: Iterator[_R],
    unpack_start: Callable[[_R], _Start],
    unpack: Callable[[_R], _Input],
    weigh: Callable[[_Input], int],
    deadline: Deadline,
) -> Iterator[tuple[_Start, PollableQueue[_Input]]]:
    """The first message, unpacked, and the client's further inputs, for a ``with``.

    A thread puts the messages into queues, since grpc's own can't be polled. It ends with the
    block, or when grpc ends the messages at the end of the call. Raises ``InvalidArgument``,
    and ``Timeout`` (REQUEST_TIMEOUT) when the first message does not arrive in time.
    """
    starts, inputs = PollableQueue[_Start](1), PollableQueue[_Input](BACKLOG_LIMIT_BYTES)
    work = partial(_read, messages, (unpack_start, unpack, weigh), starts, inputs)
    Thread(target=work, name="inputs", daemon=True).start()
    try:
        if not deadline.wait(starts.filled, timeout_s=first_message.MESSAGE_LIMIT_S):
            raise first_message.message_late()
        start = starts.take()
        assert start is not None, "it is filled"
        yield start, inputs
    finally:
        starts.close()
        inputs.close()


def _read(
    messages: Iterator[_R],
    ways: tuple[Callable[[_R], _Start], Callable[[_R], _Input], Callable[[_Input], int]],
    starts: PollableQueue[_Start],
    inputs: PollableQueue[_Input],
) -> None:
    """Put the first message into ``starts``, and all others into ``inputs``, which it ends."""
    unpack_start, unpack, weigh = ways
    try:
        for message in messages:
            if starts.accepts():
                starts.put(unpack_start(message))
                starts.finish()
                continue
            received = unpack(message)
            Deadline().wait(inputs.room)
            if not inputs.put(received, weigh(received)):
                return
    except OcigrpcError as error:
        starts.finish(error)
        inputs.finish(error)
    except grpc.RpcError as error:
        # The client has gone, and the deadline is cancelled. grpc keeps the error, whose
        # traceback would keep the queues and their content.
        error.__traceback__ = None
    finally:
        starts.finish(session_from_proto.start_missing())
        inputs.finish()
