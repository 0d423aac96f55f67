"""Programs whose output is taken piece by piece, as much as it may be."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack

from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.processes.child import ENVIRONMENT, OUTPUT_LIMIT_BYTES, Child, Completed
from ocigrpc.waiting import Deadline

# Most bytes of a piece.
PIECE_BYTES = 256 << 10


def piped(
    argv: Sequence[str],
    deadline: Deadline,
    *,
    env: Mapping[str, str] = ENVIRONMENT,
    stdin: int | None = None,
) -> Generator[bytes, None, Completed]:
    """What a program writes to standard output, and then how it ended, without that.

    It waits while nobody takes the pieces, and is killed if they are not taken to the end.
    ``stdin`` is a descriptor in place of ``/dev/null``. Raises ``HostFailed``, ``LimitReached``,
    ``Timeout`` or ``Cancelled``.
    """
    with ExitStack() as undo:
        null = undo.enter_context(closing_fd(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)))
        errors = undo.enter_context(closing_fd(_bounded()))
        ours, theirs = os.pipe()
        undo.callback(os.close, ours)
        with closing_fd(theirs):
            stdio = (null if stdin is None else stdin, theirs, errors)
            child = undo.enter_context(Child(argv, env=env, stdio=stdio))
        while True:
            deadline.wait(ours)
            if not (piece := os.read(ours, PIECE_BYTES)):
                break
            yield piece
        deadline.wait(child)
        # Its end is where the program was that wrote there.
        return Completed(child.reap(), b"", os.pread(errors, os.lseek(errors, 0, os.SEEK_CUR), 0))


def _bounded() -> int:
    """A file in memory that takes so many bytes; what writes more to it gets an error (EPERM)."""
    file = os.memfd_create("stderr", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(file, OUTPUT_LIMIT_BYTES)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    except BaseException:
        os.close(file)
        raise
    return file
