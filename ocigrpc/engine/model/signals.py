"""Signals: as people write them, and as exit codes have them."""

from __future__ import annotations

import re
import signal

from ocigrpc.errors import InvalidArgument

# Beside the names that Python knows, those that signal(7) counts from either end.
_REALTIME = re.compile(r"SIGRT(MIN\+|MAX-)([0-9]{1,2})")


def parse_signal(text: str, field: str) -> int:
    """The number of a signal given by number ("15") or by name ("SIGTERM", "term", "RTMIN+3").

    Raises ``InvalidArgument`` for ``field`` when it is none.
    """
    number = int(text) if re.fullmatch("[0-9]{1,2}", text) else _number_of(text.upper())
    if not 1 <= number <= signal.SIGRTMAX:
        raise InvalidArgument.of(
            field, f"{text[:64]!r} is no signal", reason="INVALID_SIGNAL", signal=text[:64]
        )
    return number


def exit_signal(exit_code: int) -> int | None:
    """The signal that a code stands for by the shell's 128+n rule; None if it stands for none."""
    return exit_code - 128 if 128 < exit_code <= 128 + 64 else None


def _number_of(name: str) -> int:
    """0 when there is no such name."""
    if not name.startswith("SIG"):
        name = "SIG" + name
    if found := _REALTIME.fullmatch(name):
        distance = int(found[2])
        number = signal.SIGRTMIN + distance if found[1] == "MIN+" else signal.SIGRTMAX - distance
        return number if number >= signal.SIGRTMIN else 0
    known = signal.Signals.__members__.get(name)
    return 0 if known is None else known.value
