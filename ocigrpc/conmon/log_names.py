"""What the files of a log are called that our own rotation makes of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

# Most files that our own rotation keeps of a log beside the log itself.
ROTATED_LIMIT = 63

# Suffixes of the other names that a log has for its next rotation.
SPARE_SUFFIXES = ("held", "next", "tmp")


def rotated_path(log_path: str, number: int) -> str:
    """The file of the ``number``-th rotation before now; 0 is the log itself."""
    return f"{log_path}.{number}" if number else log_path


def held_path(log_path: str) -> str:
    """A second name of the log, so that it outlives what conmon renames to its place."""
    return f"{log_path}.held"


def spare_path(log_path: str) -> str:
    """The file that conmon opens for the next log, and renames to its place."""
    return f"{log_path}.tmp"


def next_path(log_path: str) -> str:
    """A second name of the spare file, and, once that is the log, of the log."""
    return f"{log_path}.next"


def kept_logs(log_path: str, *, rotated: bool) -> Sequence[str]:
    """All that there is of a log: itself, its rotated files, and those for the next rotation.

    ``rotated`` is whether any may have got a number from us; a first one is looked for anyway.
    From newer files to older ones, in the order of their renames, so that none is missed.
    """
    names = (spare_path(log_path), next_path(log_path), held_path(log_path), log_path)
    last = ROTATED_LIMIT if rotated or os.path.lexists(rotated_path(log_path, 1)) else 0
    numbered = (rotated_path(log_path, number) for number in range(1, last + 1))
    return [path for path in (*names, *numbered) if os.path.lexists(path)]


def remove_rotated(log_path: str, first: int) -> None:
    """Remove the rotated files of a log from a number on; raises ``OSError``."""
    # Upwards, in the order of their renames, so that none is missed.
    for number in range(first, ROTATED_LIMIT + 1):
        with suppress(FileNotFoundError):
            os.unlink(rotated_path(log_path, number))
