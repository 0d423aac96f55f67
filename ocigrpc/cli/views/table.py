"""Tables for people: aligned columns, and colours where there is a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import NamedTuple

import click

from ocigrpc.cli.views.words import cut, printable, width

_SPACE = "  "


class Row(NamedTuple):
    """A line of a table, and the colour of it all, as click names them; None: the terminal's."""

    cells: Sequence[str]
    color: str | None = None


class Table(NamedTuple):
    """Titles and rows. On a narrow terminal, the columns ``gives`` are cut, the first one first."""

    titles: Sequence[str]
    rows: Sequence[Row]
    gives: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The table for standard output: cut and coloured for a terminal, else whole and plain."""
        terminal = sys.stdout.isatty()
        cells = [[printable(cell) for cell in row.cells] for row in self.rows]
        columns = zip(self.titles, *cells, strict=True)
        widths = [max(map(width, column)) for column in columns]
        for title in self.gives if terminal else ():
            _give(widths, self.titles.index(title), shutil.get_terminal_size().columns)
        lines = [_line(each, widths) for each in (self.titles, *cells)]
        if not (terminal and colored()):
            return lines
        title, *rest = lines
        painted = (
            click.style(line, fg=row.color, reset=row.color is not None)
            for line, row in zip(rest, self.rows, strict=True)
        )
        return [click.style(title, bold=True), *painted]

    def write(self) -> None:
        """Print the table."""
        # Styles stand only where they may, and nobody else decides that again.
        click.echo("\n".join(self.lines()), color=True)


def colored() -> bool:
    """Whether a terminal may be shown colours."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _give(widths: list[int], place: int, columns: int) -> None:
    surplus = sum(widths) + len(_SPACE) * (len(widths) - 1) - columns
    # Less would say nothing.
    least = min(widths[place], 8)
    widths[place] = max(least, widths[place] - max(0, surplus))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    shown = [cut(cell, most) for cell, most in zip(cells, widths, strict=True)]
    spaces = [" " * (most - width(cell)) for cell, most in zip(shown, widths, strict=True)]
    return _SPACE.join(map("".join, zip(shown, spaces, strict=True))).rstrip()
