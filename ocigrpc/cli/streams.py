"""The standard streams of the command: there, whatever the caller has closed, and whole."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDOUT = 1


class OutputLost(OSError):
    """Standard output can't be written, for another reason than that nobody reads it."""


class _Output(io.BufferedWriter):
    """Standard output, whose failures are known from those of other files.

    Python code below the buffer would not do: interrupted between the system call and the buffer
    that counts what was written, it would have the same bytes written again.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise _known(error) from None

    # Python calls it at its very end as well, when this module's names may be gone: nothing but a
    # failure uses them.
    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise _known(error) from None


def _known(error: OSError) -> OSError:
    if isinstance(error, BrokenPipeError):
        return error
    return OutputLost(error.errno, error.strerror)


def prepare_streams() -> None:
    """Have all three streams, and an output that takes every character."""
    # What is opened later, such as our connection, must not become a standard stream.
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # None if it was closed, and another one if this is called by a test.
    if sys.stdout is sys.__stdout__:
        output = _Output(io.FileIO(_STDOUT, "w", closefd=False))
        # A name that the terminal's encoding lacks is no failure.
        sys.stdout = io.TextIOWrapper(
            output,
            sys.stdout.encoding if sys.stdout is not None else None,
            errors="backslashreplace",
            line_buffering=output.isatty(),
        )
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.FileIO(os.devnull, "w"))


@contextmanager
def whole_output() -> Iterator[None]:
    """Raise ``OSError`` unless all output of the block is written, even if the block exits."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except (BrokenPipeError, OutputLost):
        # Otherwise the interpreter tries again at its end, and prints a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
        raise
