"""The log of an OCI runtime itself, with ``--log-format=json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

# Most bytes of a log that are read.
LIMIT_BYTES = 1 << 16


class _LogEntry(Struct, frozen=True):
    level: str = ""
    msg: str = ""


_LOG_ENTRY = msgspec.json.Decoder(_LogEntry)


def logged_error(path: Path) -> str:
    """The message of the last error in a log; empty if there is no error or no log."""
    try:
        with path.open("rb") as log:
            lines: Sequence[bytes] = log.read(LIMIT_BYTES).splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = _LOG_ENTRY.decode(line)
        except msgspec.DecodeError:
            continue
        if entry.level in ("error", "fatal"):
            return entry.msg
    return ""
