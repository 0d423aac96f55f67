"""The exit file: the only record of how a container ended."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

LIMIT_BYTES = 64


class ExitFile(NamedTuple):
    """The content of an exit file, and when it was written (its mtime, ns since 1970)."""

    text: str
    written_ns: int

    @property
    def exit_code(self) -> int | None:
        """0 to 255, or None when the text is not such a number."""
        text = self.text
        if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 255:
            return int(text)
        return None


def read_exit_file(*paths: str) -> ExitFile | None:
    """The first of these files that can be read; None when none can.

    Raises ``OSError`` when there are no descriptors left to read them with.
    """
    for path in paths:
        try:
            with open(path, "rb", buffering=0) as file:
                text = file.read(LIMIT_BYTES).decode(errors="replace").strip()
                return ExitFile(text, os.fstat(file.fileno()).st_mtime_ns)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
    return None
