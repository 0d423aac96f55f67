"""The plan of tests and scripts: who may import whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed import REPOSITORY

BED = REPOSITORY / "tests/bed"
ROOMS = [
    "hosts",
    "bundles",
    "services",
    "clients",
    "images",
    "checks",
    "faults",
    "loads",
    "measures",
    "commands",
]
"""Each may import those before it."""


def imported(path: Path) -> Iterator[list[str]]:
    """The modules of ours that a file imports, in parts."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{each.name}" for each in node.names]
        yield from (name.split(".") for name in names if name.startswith(("tests.", "scripts")))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_of_the_bed_imports_no_test_and_no_room_below_it(room: str) -> None:
    allowed = ["REPOSITORY", *ROOMS[: ROOMS.index(room) + 1]]
    found = [(path, name) for path in (BED / room).glob("*.py") for name in imported(path)]
    assert [each for each in found if each[1][1] != "bed" or each[1][2] not in allowed] == []


def test_the_bed_has_these_rooms_and_only_documents_beside_them() -> None:
    assert {path.parent.name for path in BED.glob("*/*.py")} == set(ROOMS)
    assert {path.name for path in BED.glob("*.py")} == {"__init__.py", "documents.py"}


def test_scripts_are_commands_alone() -> None:
    assert list((REPOSITORY / "scripts").rglob("*.py")) == []
