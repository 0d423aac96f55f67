"""A program on a terminal: what people see of it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ocigrpc.waiting import Deadline
from tests.bed import REPOSITORY
from tests.bed.hosts.leaks import LIMIT_S


class Terminal:
    """The other side of a program's terminal."""

    def __init__(self, master: int, process: subprocess.Popen[bytes], modes: Sequence[Any]) -> None:
        self.process = process
        self.modes = modes
        self._master = master
        self._seen = ""

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Change the window."""
        termios.tcsetwinsize(self._master, (rows, columns))

    def modes_now(self) -> Sequence[Any]:
        """The modes of the terminal, which are ``modes`` unless a program has changed them."""
        return termios.tcgetattr(self._master)

    def is_raw(self) -> bool:
        """Whether keys are passed on as they are."""
        local_modes: int = self.modes_now()[3]
        return not local_modes & (termios.ICANON | termios.ECHO | termios.ISIG)

    def is_full(self) -> bool:
        """Whether a program that prints more has to wait for whoever should read it."""
        fd = os.open(f"/proc/{self.process.pid}/fd/1", os.O_WRONLY | os.O_NOCTTY)
        try:
            return not select.select([], [fd], [], 0)[1]
        finally:
            os.close(fd)

    def wait(self) -> int:
        """The exit status of the program, once it has ended."""
        return self.process.wait(LIMIT_S)

    def read_until(self, *texts: str) -> str:
        """What the program prints until all these are in it, and no further."""
        deadline = Deadline(LIMIT_S)
        while not all(text in self._seen for text in texts):
            ready, _, _ = select.select([self._master], [], [], deadline.remaining_s())
            assert ready, f"no {texts} in {self._seen!r}"
            more = self._read()
            assert more, f"the program has ended with {self._seen!r}"
            self._seen += more
        end = max(self._seen.index(text) + len(text) for text in texts)
        seen, self._seen = self._seen[:end], self._seen[end:]
        return seen

    def read_all(self) -> str:
        """What else it prints until its end."""
        while more := self._read():
            self._seen += more
        assert self.process.wait(LIMIT_S) is not None
        return self._seen

    def _read(self) -> str:
        try:
            return os.read(self._master, 1 << 16).decode()
        except OSError:
            # All programs that had the terminal have ended.
            return ""


@contextmanager
def on_terminal(
    argv: Sequence[str], columns: int = 80, rows: int = 24, **environ: str
) -> Iterator[Terminal]:
    """A program whose standard streams are a terminal, for as long as a block."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (rows, columns))
    modes = termios.tcgetattr(slave)
    try:
        process = subprocess.Popen(
            # The terminal controls the program, and sends it signals.
            ["setsid", "--ctty", *argv],
            cwd=REPOSITORY,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm", **environ},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        with process:
            try:
                yield Terminal(master, process, modes)
            finally:
                process.kill()
    finally:
        os.close(master)


def seen(argv: Sequence[str], columns: int = 80, **environ: str) -> str:
    """All that a program prints on a terminal until it ends by itself."""
    with on_terminal(argv, columns, 24, **environ) as terminal:
        return terminal.read_all()
