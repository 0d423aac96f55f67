"""The line on conmon's sync pipe by which it reports how the creation ended."""

from __future__ import annotations

from contextlib import suppress

import msgspec
from msgspec import Struct

from ocigrpc.errors import MonitorFailed, cut


class SyncLine(Struct, frozen=True):
    """The process id of the container's first process, or -1 and an error message."""

    pid: int
    message: str = ""


class _SyncJson(Struct, frozen=True):
    pid: int | None = None
    data: int | None = None
    message: str = ""


# Made on import: msgspec crashes when two threads make the first one for a type.
_SYNC_JSON = msgspec.json.Decoder(_SyncJson)


def parse_sync_line(line: bytes) -> SyncLine:
    """Read either form of the line: ``{"pid": N}``, or ``{"data": N}`` with --api-version.

    Raises ``MonitorFailed`` (SYNC_MALFORMED) when it is neither.
    """
    text = line.decode(errors="replace")
    with suppress(msgspec.DecodeError):
        decoded = _SYNC_JSON.decode(text)
        number = decoded.data if decoded.pid is None else decoded.pid
        if number is not None:
            return SyncLine(number, decoded.message)
    raise MonitorFailed(
        f"conmon wrote to its sync pipe: {cut(text)!r}", reason="SYNC_MALFORMED", output=cut(text)
    )
