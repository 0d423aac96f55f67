"""Draw the floors and rooms of the code, and their imports, as ocigrpc/ARCHITECTURE.svg.

Floors and rooms are those of the contracts in pyproject.toml, arrows are imports. An arrow that
others imply is left out: what A imports by way of B, it need not show again.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import grimp

from tests.bed import REPOSITORY

PACKAGE = "ocigrpc"
DRAWING = REPOSITORY / PACKAGE / "ARCHITECTURE.svg"

# By each room, those that it imports.
Arrows = Mapping[str, frozenset[str]]

# Widths of the column of all floors, and of the one at either side of it.
_MIDDLE, _SIDE = 520, 90

# Heights: of a box, of the least gap between rows, of a line in it, of a frame and its title.
_BOX, _GAP, _TRACK, _FRAME, _TITLE = 30, 14, 8, 12, 24

# Of the arrows of one room after the other.
_COLORS = "#1f5f99 #a8481e #2e7d32 #8e24aa #00796b #b71c5c #5d4037".split()


@dataclass(frozen=True)
class Row:
    """Rooms that stand side by side; those beside a floor that has rows of its own are outside."""

    floor: str
    rooms: Sequence[str]
    left: Sequence[str] = ()
    right: Sequence[str] = ()


@dataclass(frozen=True)
class Box:
    x: int
    y: int
    width: int
    row: int
    side: int = 0
    """-1 for what is left of all floors, 1 for what is right of them."""

    @property
    def center(self) -> int:
        """Of its lower edge, where its arrows begin."""
        return self.x + self.width // 2


def ladder() -> dict[str, list[list[str]]]:
    """By each floor that has a contract for it, its rows of modules from top to bottom."""
    text = (REPOSITORY / "pyproject.toml").read_text()
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    return {
        floor: [
            [f"{floor}.{name.strip(' ()')}" for name in row.split("|")] for row in one["layers"]
        ]
        for one in contracts
        if one["type"] == "layers"
        for floor in one["containers"]
    }


def rows_of(floor: str, floors: Mapping[str, list[list[str]]], known: set[str]) -> Iterator[Row]:
    """The rows of a floor, with those of the floors in it in their places."""
    for row in floors[floor]:
        names = [name for name in row if name in known]
        inner = next((name for name in names if name in floors), None)
        if inner is None:
            yield Row(floor, names)
            continue
        first, *others = rows_of(inner, floors, known)
        place = names.index(inner)
        yield Row(inner, first.rooms, names[:place], names[place + 1 :])
        yield from others


def arrows_between(rooms: Iterable[str], graph: grimp.ImportGraph) -> Arrows:
    """The imports from room to room."""
    homes = {module: room for room in rooms for module in (room, *graph.find_descendants(room))}
    found: dict[str, set[str]] = {room: set() for room in homes.values()}
    for module, room in homes.items():
        for target in graph.find_modules_directly_imported_by(module):
            if target in homes and homes[target] != room:
                found[room].add(homes[target])
    return {room: frozenset(targets) for room, targets in found.items()}


def without_implied(arrows: Arrows) -> Arrows:
    """The least arrows from which the others follow; there must be no circle."""

    def reached(room: str) -> frozenset[str]:
        return arrows[room].union(*map(reached, arrows[room]))

    return {room: targets.difference(*map(reached, targets)) for room, targets in arrows.items()}


class Plan:
    """Where everything is; rows and gaps grow with the lines between them."""

    def __init__(self, rows: Sequence[Row], arrows: Arrows) -> None:
        self.rows = rows
        self.arrows = arrows
        self.row_of = {
            room: number
            for number, row in enumerate(rows)
            for room in (*row.left, *row.rooms, *row.right)
        }
        self.far = {
            room: [to for to in sorted(targets) if self.row_of[to] > self.row_of[room] + 1]
            for room, targets in arrows.items()
        }
        self.lanes = {-1: self._lanes(-1), 1: self._lanes(1)}
        self.left = _FRAME + _TRACK * len(self.lanes[-1]) + _SIDE + _FRAME
        self.width = self.left + _MIDDLE + _FRAME + _SIDE + _TRACK * len(self.lanes[1]) + _FRAME
        self.boxes: dict[str, Box] = {}
        y = _FRAME
        for number, row in enumerate(rows):
            y += _TITLE if self._begins(number) else 0
            self._place(number, row, y)
            y += _BOX + (_FRAME if self._ends(number) else 0)
            y += _GAP + _TRACK * len(self.tracks(number))
        self.height = y

    def _begins(self, number: int) -> bool:
        row = self.rows[number]
        return row.floor != PACKAGE and (number == 0 or self.rows[number - 1].floor != row.floor)

    def _ends(self, number: int) -> bool:
        row, below = self.rows[number], self.rows[number + 1 : number + 2]
        return row.floor != PACKAGE and (not below or below[0].floor != row.floor)

    def _side(self, room: str) -> int:
        return -1 if room in self.rows[self.row_of[room]].left else 1

    def _lanes(self, side: int) -> list[str]:
        """The rooms whose arrows run down at a side, the nearest lane first."""
        rooms = [room for room in self.row_of if self.far[room] and self._side(room) == side]
        return sorted(rooms, key=lambda room: (-self.row_of[room], room))

    def _place(self, number: int, row: Row, y: int) -> None:
        inner = _FRAME if row.floor != PACKAGE else 0
        width = (_MIDDLE - 2 * inner + _FRAME) // len(row.rooms)
        for place, room in enumerate(row.rooms):
            x = self.left + inner + place * width
            self.boxes[room] = Box(x, y, width - _FRAME, number)
        for room in row.left:
            self.boxes[room] = Box(self.left - _FRAME - _SIDE, y, _SIDE, number, -1)
        for room in row.right:
            self.boxes[room] = Box(self.left + _MIDDLE + _FRAME, y, _SIDE, number, 1)

    def tracks(self, number: int) -> list[tuple[str, str]]:
        """The lines in the gap below a row: arrows from rooms of it, and into the next one."""
        rooms = sorted(room for room, row in self.row_of.items() if row == number)
        leaving = [(room, "") for room in rooms if self.arrows[room]]
        into = [
            (room, to)
            for room, targets in sorted(self.far.items())
            for to in targets
            if self.row_of[to] == number + 1
        ]
        return leaving + into

    def track_y(self, number: int, line: tuple[str, str]) -> int:
        """Where a line runs in the gap below a row."""
        row = next(box for box in self.boxes.values() if box.row == number)
        frame = _FRAME if self._ends(number) else 0
        return row.y + _BOX + frame + _TRACK * (1 + self.tracks(number).index(line))

    def lane_x(self, room: str) -> int:
        """Where the arrows of a room run down to what is not just below it."""
        side = self._side(room)
        place = 1 + self.lanes[side].index(room)
        if side < 0:
            return self.left - _FRAME - _SIDE - _TRACK * place
        return self.left + _MIDDLE + _FRAME + _SIDE + _TRACK * place

    def port_x(self, room: str, target: str) -> int:
        """Where an arrow meets the upper edge of its target."""
        sources = [other for other in self.row_of if target in self.arrows[other]]
        box = self.boxes[target]
        return box.x + box.width * (1 + sources.index(room)) // (1 + len(sources))

    def paths(self, room: str) -> Iterator[str]:
        """The lines of the arrows that a room has, as SVG paths."""
        box = self.boxes[room]
        for target in sorted(self.arrows[room]):
            port, there = self.port_x(room, target), self.boxes[target]
            way = f"M{box.center},{box.y + _BOX}V{self.track_y(box.row, (room, ''))}"
            if target in self.far[room]:
                in_y = self.track_y(there.row - 1, (room, target))
                way += f"H{self.lane_x(room)}V{in_y}"
            yield f"{way}H{port}V{there.y}"


def svg(plan: Plan) -> Iterator[str]:
    """The lines of the drawing."""
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {plan.width} {plan.height}"'
    yield f'  width="{plan.width}" height="{plan.height}" font-family="sans-serif" font-size="13">'
    yield "<!-- Made of the imports by scripts/lint. -->"
    yield f'<rect width="{plan.width}" height="{plan.height}" fill="white"/>'
    yield from _frames(plan)
    for number, room in enumerate(plan.row_of):
        color = _COLORS[number % len(_COLORS)]
        yield f'<g fill="none" stroke="{color}">'
        yield f'<marker id="m{number}" markerWidth="7" markerHeight="6" refX="7" refY="3"'
        yield f'  orient="auto"><path d="M0,0L7,3L0,6z" fill="{color}" stroke="none"/></marker>'
        for path in plan.paths(room):
            yield f'<path d="{path}" marker-end="url(#m{number})"/>'
        yield "</g>"
    for room, box in plan.boxes.items():
        yield f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{_BOX}" rx="4"'
        yield '  fill="#f4f6fa" stroke="#445"/>'
        text = _name(room).rpartition(".")[2]
        yield f'<text x="{box.center}" y="{box.y + 20}" text-anchor="middle">{text}</text>'
    yield "</svg>"


def _frames(plan: Plan) -> Iterator[str]:
    """A frame around each floor that has rooms, with its name."""
    for floor in dict.fromkeys(row.floor for row in plan.rows if row.floor != PACKAGE):
        rooms = [box for box in plan.boxes.values() if plan.rows[box.row].floor == floor]
        top, end = rooms[0].y - _TITLE, max(box.y for box in rooms) + _BOX + _FRAME
        yield f'<rect x="{plan.left}" y="{top}" width="{_MIDDLE}" height="{end - top}" rx="6"'
        yield '  fill="#fbfbf6" stroke="#998"/>'
        yield f'<text x="{plan.left + 8}" y="{top + 16}" fill="#665">{_name(floor)}</text>'


def _name(room: str) -> str:
    return room.removeprefix(f"{PACKAGE}.")


def drawing() -> str:
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    rows = list(rows_of(PACKAGE, ladder(), graph.modules))
    rooms = [room for row in rows for room in (*row.left, *row.rooms, *row.right)]
    plan = Plan(rows, without_implied(arrows_between(rooms, graph)))
    return "\n".join(svg(plan)) + "\n"


def main() -> int:
    """Write the drawing, or with ``--check`` compare it with the one that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check: bool = parser.parse_args().check
    drawn = drawing()
    if not check:
        DRAWING.write_text(drawn)
    elif not DRAWING.exists() or DRAWING.read_text() != drawn:
        name = DRAWING.relative_to(REPOSITORY)
        print(f"{name} is not what the imports are: run scripts/lint --fix", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
