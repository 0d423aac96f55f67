"""Moments as people write them: a time, or how long ago."""

from __future__ import annotations

import re
import time
from datetime import datetime

import click

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
# The end of the last year that protobuf has timestamps for.
LAST_S = 253402300799
_LENGTHS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Moment(click.ParamType[float]):
    """The type of an option: a moment, as seconds since 1970."""

    name = "TIME|DURATION"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The moment. Raises a usage error."""
        try:
            return moment_of(str(value), time.time())
        except ValueError as error:
            self.fail(str(error), param, ctx)


def moment_of(text: str, now_s: float) -> float:
    """The seconds since 1970 of RFC 3339, of a number of them, or of a time ago as in "1h30m".

    A time without a zone is one of this place. Raises ``ValueError``.
    """
    found_s = _seconds(text, now_s)
    if found_s is None or not 0 <= found_s <= LAST_S:
        raise ValueError(
            f"{text!r} is no time: 2026-01-02T03:04:05Z, seconds since 1970, or 1h30m for ago."
        )
    return found_s


def _seconds(text: str, now_s: float) -> float | None:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if text and not _PART.sub("", text):
        return now_s - sum(float(n) * _LENGTHS_S[unit] for n, unit in _PART.findall(text))
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
