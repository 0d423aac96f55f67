"""Types of options: values that a function parses, and times."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, TypeVar

import click

_T = TypeVar("_T")


class Parsed(click.ParamType[_T], Generic[_T]):
    """What ``parse`` makes of the text; a ``ValueError`` of it is the message to the user."""

    def __init__(self, name: str, parse: Callable[[str], _T]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> _T:
        """The value; a usage error if the text has none."""
        try:
            return self._parse(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class Seconds(click.FloatRange):
    """A time in seconds, which ends."""

    name = "seconds"

    def convert(
        self, value: float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds. Raises a usage error."""
        seconds: float = super().convert(value, param, ctx)
        # Of which no comparison is true, so that it is in every range.
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds
