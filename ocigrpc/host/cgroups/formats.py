"""The formats of cgroup files of either generation: cgroups(7), and cgroup-v2.rst of the kernel."""

from __future__ import annotations

import os

# The value of a limit when there is none; a limit that the host does not know is None.
NO_LIMIT = -1
# The unit in which memory is limited and counted.
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# The highest v1 limit, which means that there is none.
_V1_NO_LIMIT = ((1 << 63) - 1) // PAGE_BYTES * PAGE_BYTES


def parse_flat(text: str) -> dict[str, int]:
    """The numbers in a file of lines such as "nr_periods 12", by their names."""
    pairs = (line.partition(" ") for line in text.splitlines())
    return {key: int(value) for key, _, value in pairs if value.isdigit()}


def parse_number(text: str | None) -> int | None:
    """The number in a file, ``NO_LIMIT`` for "max"; None when there is no such file."""
    word = (text or "").strip()
    if not word:
        return None
    if word == "max":
        return NO_LIMIT
    number = int(word)
    return NO_LIMIT if number >= _V1_NO_LIMIT else number
