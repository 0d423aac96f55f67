"""What a thread produces for a client, as an iterator of messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread

from ocigrpc.engine.sessions.messages import Output, Reply
from ocigrpc.engine.sessions.queue import PollableQueue
from ocigrpc.waiting import Deadline

# About the most output that one message carries.
MESSAGE_BYTES = 1 << 16


def produced(
    limit_bytes: int, produce: Callable[[PollableQueue[Reply]], None], deadline: Deadline
) -> Iterator[Reply]:
    """The messages that ``produce``, in a thread of its own, puts into the queue it is given.

    It has a thread because the consumer blocks while a client does not read, and must then
    delay neither the time-out nor the container. What it raises is raised after the last
    message. A consumer that stops before that cancels ``deadline``, and waits for its end.
    """
    queue = PollableQueue[Reply](limit_bytes)

    def run() -> None:
        try:
            produce(queue)
        except BaseException as error:
            queue.finish(error)
        else:
            queue.finish()

    thread = Thread(target=run, name="stream", daemon=True)
    thread.start()
    try:
        yield from _merged(queue)
    except GeneratorExit:
        deadline.cancel()
        raise
    finally:
        queue.close()
        thread.join()


def _merged(queue: PollableQueue[Reply]) -> Iterator[Reply]:
    """The messages, with output that is waiting already merged into fewer and larger ones."""
    held: list[bytes] = []
    is_stderr, size = False, 0
    for message in queue.each():
        fits = isinstance(message, Output) and message.is_stderr == is_stderr
        if held and not (fits and size < MESSAGE_BYTES):
            yield Output(b"".join(held), is_stderr)
            held, size = [], 0
        if isinstance(message, Output):
            is_stderr = message.is_stderr
            held.append(message.data)
            size += len(message.data)
        else:
            yield message
        if held and queue.is_empty():
            yield Output(b"".join(held), is_stderr)
            held, size = [], 0
