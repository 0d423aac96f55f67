"""Pictures of commands and their output, as SVGs of a terminal.

``scripts/demo --picture`` and ``scripts/pictures`` make those in README from real runs. ``lines``
reads one back, so that a test can compare it with another run.
"""

from __future__ import annotations

import re
import sys
from xml.etree import ElementTree
from xml.sax.saxutils import escape

PROMPT = "$ "

# Height of a line, width of a character and margin, in pixels, at a font size of 13.
_LINE, _CHARACTER, _MARGIN = 18, 7.8, 16

# Of the states, where they stand alone.
_COLORS = {
    "CREATED": "#79c0ff",
    "RUNNING": "#7ee787",
    "PAUSED": "#ffa657",
    "STOPPED": "#ff7b72",
    "gone": "#8b949e",
}

# Of whole lines, by the number that begins them on a terminal.
_INKS = {"1": "#ffffff", "31": "#ff7b72", "33": "#ffa657", "90": "#8b949e"}

_INK = re.compile(r"\x1b\[(\d+)m")
_STATE = re.compile(rf"(?<= )({'|'.join(_COLORS)})(?= )")
_NUMBER = re.compile(r"\d[\w.+~:-]*")


def picture(title: str, text: str) -> str:
    """An SVG of a terminal with ``text``, in which commands are lines that begin with a prompt."""
    lines = text.rstrip("\n").split("\n")
    width = round(max(len(_INK.sub("", line)) for line in lines) * _CHARACTER) + 2 * _MARGIN
    height = len(lines) * _LINE + 2 * _MARGIN
    rows = (_row(number, line) for number, line in enumerate(lines) if line)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13">\n'
        f"<title>{escape(title)} and its output</title>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>\n'
        f"{''.join(rows)}</svg>\n"
    )


def lines(svg: str) -> list[str]:
    """The lines of a picture, empty ones left out; the first is the command."""
    texts = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in texts]


def steady(line: str) -> str:
    """A line without what is another in each run: numbers, times, versions and widths."""
    return " ".join(_NUMBER.sub("0", line).split())


def _row(number: int, line: str) -> str:
    """One line, stretched to its width in any font, so that columns are columns."""
    ink = _INK.match(line)
    line = _INK.sub("", line)
    text = _STATE.sub(
        lambda found: f'<tspan fill="{_COLORS[found[1]]}">{found[1]}</tspan>', escape(line)
    )
    color = _INKS[ink[1]] if ink else "#7ee787" if line.startswith(PROMPT) else "#e6edf3"
    return (
        f'<text x="{_MARGIN}" y="{_MARGIN + (number + 0.75) * _LINE:g}" fill="{color}" '
        f'textLength="{len(line) * _CHARACTER:g}" xml:space="preserve">{text}</text>\n'
    )


def main() -> None:
    """Print the picture of a command, the first argument, whose output is on standard input."""
    print(picture(sys.argv[1], f"{PROMPT}{sys.argv[1]}\n{sys.stdin.read()}"), end="")


if __name__ == "__main__":
    main()
