"""Values in words for people: times, amounts, and text that a terminal shows as it is."""

from __future__ import annotations

import unicodedata

_SPANS = (
    ("year", 365 * 86400),
    ("month", 30 * 86400),
    ("week", 7 * 86400),
    ("day", 86400),
    ("hour", 3600),
    ("minute", 60),
    ("second", 1),
)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def span(seconds: float) -> str:
    """A time in its largest whole unit, as in "3 minutes"."""
    for unit, length in _SPANS:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return "less than a second"


def ago(seconds: float) -> str:
    """How long ago something was, as in "3 minutes ago"."""
    return f"{span(seconds)} ago"


def size(amount: int) -> str:
    """Bytes in the unit that leaves at most four digits, as in "1.5 MiB"."""
    value, unit = float(amount), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{amount} B" if unit == 0 else f"{value:.{1 if value < 100 else 0}f} {_UNITS[unit]}"


def clock(seconds: float) -> str:
    """Time on CPUs in minutes and seconds, as top(1) has it: "1:02.50"."""
    minutes, rest = divmod(round(seconds * 100), 6000)
    return f"{minutes}:{rest / 100:05.2f}"


def printable(text: str) -> str:
    """The text with escapes for what would change the terminal, or begin a line."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def width(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(each) for each in text)


def cut(text: str, columns: int) -> str:
    """The text, or as much of its beginning as fits with a mark that says that it is cut."""
    if width(text) <= columns:
        return text
    kept, taken = [], 1
    for each in text:
        taken += _columns(each)
        if taken > columns:
            break
        kept.append(each)
    return "".join(kept) + "…"


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
