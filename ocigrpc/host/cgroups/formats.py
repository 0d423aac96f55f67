"""What files of cgroups of either generation hold: cgroups(7), and cgroup-v2.rst of the kernel."""

from __future__ import annotations

import os

NO_LIMIT = -1
"""What a limit is when there is none; None is one that this host can't tell."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
"""What memory is limited and counted in."""

# The most that a v1 limit can hold, which is how it says that there is none.
_V1_NO_LIMIT = ((1 << 63) - 1) // PAGE_BYTES * PAGE_BYTES


def parse_flat(text: str) -> dict[str, int]:
    """A file of lines such as "nr_periods 12"."""
    pairs = (line.partition(" ") for line in text.splitlines())
    return {key: int(value) for key, _, value in pairs if value.isdigit()}


def parse_number(text: str | None) -> int | None:
    """A file of one number, or "max" for no limit; None when there is no such file."""
    word = (text or "").strip()
    if not word:
        return None
    if word == "max":
        return NO_LIMIT
    number = int(word)
    return NO_LIMIT if number >= _V1_NO_LIMIT else number
