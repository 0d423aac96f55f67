"""Amounts as podman's options have them. Each function raises ``ValueError``."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([bkmgt]?)(?:i?b)?", re.IGNORECASE)
_EXPONENTS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}
NO_LIMIT = -1
# Of 64 bits, with a sign.
_LARGEST = (1 << 63) - 1


def size(text: str) -> int:
    """Bytes: a number and a unit, b, k, m, g or t; no limit for 0 and -1."""
    if text == "-1":
        return NO_LIMIT
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a size, as in 64m or 2g")
    return _limit(float(found[1]) * (1 << _EXPONENTS[found[2].lower()]), text)


def cpus(text: str) -> int:
    """Microseconds of CPU in 100 milliseconds, from a number of CPUs; no limit for 0."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number of CPUs, as in 1.5") from None
    return _limit(number * 100_000, text)


def count(text: str) -> int:
    """A number of processes; no limit for 0 and -1."""
    if not re.fullmatch(r"-1|\d+", text):
        raise ValueError(f"{text!r} is not a number of processes")
    return _limit(int(text), text)


def weight(text: str) -> int:
    """A weight among others."""
    if not re.fullmatch(r"\d+", text):
        raise ValueError(f"{text!r} is not a weight, as in 1024")
    return _bounded(int(text), text)


def _limit(number: float, text: str) -> int:
    return _bounded(number, text) or NO_LIMIT


def _bounded(number: float, text: str) -> int:
    # Also false for what is not a number.
    if not -_LARGEST <= number <= _LARGEST:
        raise ValueError(f"{text!r} is larger than any limit")
    return round(number)
