"""The streams of this process, connected with those of a program elsewhere."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from ocigrpc.cli.failures import EXIT_OURS, Failed
from ocigrpc.cli.programs import terminal
from ocigrpc.cli.programs.keys import DetachKeys
from ocigrpc.cli.programs.signals import Signals
from ocigrpc.cli.programs.terminal import STDERR, STDIN, STDOUT

if TYPE_CHECKING:
    from ocigrpc.v1.attach_pb2 import AttachRequest, AttachResponse
    from ocigrpc.v1.exec_pb2 import ExecRequest, ExecResponse

_Request = TypeVar("_Request", "AttachRequest", "ExecRequest")

_CHUNK_BYTES = 64 << 10

# Events beside the numbers of signals: all are bytes in one pipe, in which no signal is lost that
# comes just before the main thread waits.
_ENDED, _DETACHED = 0, 255


class Detached(Exception):
    """The detach keys were typed."""


class Relay(Generic[_Request]):
    """In a ``with``: what is typed becomes requests, and responses become output.

    ``begin`` is the first request, and ``end`` the one after the end of standard input. The
    terminal, if the program has one and is typed to, is raw, and as before at the end.
    """

    def __init__(
        self,
        begin: _Request,
        end: _Request | None,
        *,
        detach_keys: bytes = b"",
    ) -> None:
        self._begin: _Request = begin
        self._end: _Request | None = end
        self._message: type[_Request] = type(begin)
        self._has_terminal = begin.start.HasField("terminal_size")
        self._keys = DetachKeys(detach_keys)
        self._error: Exception | None = None
        self.is_raw = self._has_terminal and begin.start.stdin and os.isatty(STDIN)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # Requests are read by another thread, which this wakes: for a new size of the
            # terminal, and for good when it is closed.
            self._woken, self._waker = os.pipe()
            stack.callback(os.close, self._waker)
            # Never closed, since the threads that write to it may outlive the block.
            self._events, self._event = os.pipe()
            os.set_blocking(self._event, False)
            if self.is_raw:
                stack.enter_context(terminal.raw(STDIN))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def requests(self) -> Iterator[_Request]:
        """What the other side gets, until this one has ended."""
        yield self._begin
        size = self._begin.start.terminal_size
        inputs = [self._woken, STDIN] if self._begin.start.stdin else [self._woken]
        while True:
            ready, _, _ = select.select(inputs, [], [])
            if self._woken in ready:
                if not os.read(self._woken, _CHUNK_BYTES):
                    os.close(self._woken)
                    return
                now = terminal.size()
                if self._has_terminal and now is not None and now != size:
                    size = now
                    yield self._message(resize=now)
            if STDIN in ready:
                typed = _read()
                yield from self._typed(typed)
                if not typed:
                    inputs.remove(STDIN)

    def _typed(self, typed: bytes) -> Iterator[_Request]:
        if not typed:
            if self._end is not None:
                yield self._end
            return
        passed, is_detached = self._keys.feed(typed) if self.is_raw else (typed, False)
        if passed:
            yield self._message(stdin=passed)
        if is_detached:
            os.write(self._event, bytes([_DETACHED]))

    def carry(
        self,
        responses: Iterable[AttachResponse | ExecResponse],
        signals: Signals,
        on_signal: Callable[[int], None],
    ) -> None:
        """Write all responses, and call ``on_signal`` with each signal meanwhile.

        Raises ``Detached``, what the responses raise, ``BrokenPipeError`` when nobody reads the
        output any more, and ``Failed`` if it can't be written.
        """
        writer = Thread(target=self._write_all, args=(responses,), daemon=True)
        with signals.passed_to(self._event):
            writer.start()
            # For a size that has changed before.
            os.write(self._waker, b".")
            while (event := os.read(self._events, 1)[0]) != _ENDED:
                if event == _DETACHED:
                    raise Detached
                if event == signal.SIGWINCH:
                    os.write(self._waker, b".")
                else:
                    on_signal(event)
        if self._error is not None:
            raise self._error

    def _write_all(self, responses: Iterable[AttachResponse | ExecResponse]) -> None:
        try:
            for response in responses:
                _write(STDOUT, response.stdout)
                _write(STDERR, response.stderr)
        except Exception as failure:  # the main thread raises it again
            self._error = failure
        os.write(self._event, bytes([_ENDED]))


def _read() -> bytes:
    # A terminal that is gone is the end of input as well.
    with suppress(OSError):
        return os.read(STDIN, _CHUNK_BYTES)
    return b""


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            # Whoever shares it with us may have made it so.
            select.select([], [fd], [])
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Failed(f"can't write the output: {error.strerror}", EXIT_OURS) from error
