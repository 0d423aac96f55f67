"""The drawing of the floors and rooms."""

from __future__ import annotations

from tests.bed.commands.drawing import Plan, Row, rows_of, svg, without_implied

FLOORS = {
    "ocigrpc": [["ocigrpc.cli"], ["ocigrpc.rpc", "ocigrpc.engine", "ocigrpc.v1"], ["ocigrpc.log"]],
    "ocigrpc.engine": [["ocigrpc.engine.logs"], ["ocigrpc.engine.store"]],
}
ROWS = [
    Row("ocigrpc", ["ocigrpc.cli"]),
    Row("ocigrpc.engine", ["ocigrpc.engine.logs"], ["ocigrpc.rpc"], ["ocigrpc.v1"]),
    Row("ocigrpc.engine", ["ocigrpc.engine.store"]),
    Row("ocigrpc", ["ocigrpc.log"]),
]
ROOMS = [room for row in ROWS for room in (*row.left, *row.rooms, *row.right)]


def test_a_floor_with_rooms_has_their_rows_and_the_others_beside_them() -> None:
    known = {*ROOMS, "ocigrpc.engine"}
    assert list(rows_of("ocigrpc", FLOORS, known)) == ROWS


def test_an_arrow_that_others_imply_is_left_out() -> None:
    arrows = {"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset("d"), "d": frozenset()}
    assert without_implied(arrows) == {**arrows, "a": frozenset("b")}


def test_every_arrow_goes_down_to_the_edge_of_its_room() -> None:
    arrows = {room: frozenset(ROOMS[place + 1 :][-2:]) for place, room in enumerate(ROOMS)}
    arrows |= {"ocigrpc.rpc": frozenset({"ocigrpc.log"}), "ocigrpc.v1": frozenset()}
    plan = Plan(ROWS, arrows)
    for room in ROOMS:
        ends = [path.rpartition("V")[2] for path in plan.paths(room)]
        assert ends == [str(plan.boxes[target].y) for target in sorted(arrows[room])]
    assert sum("marker-end" in line for line in svg(plan)) == sum(map(len, arrows.values()))
