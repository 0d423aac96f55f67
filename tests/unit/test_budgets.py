"""How large functions, files and folders may be."""

from __future__ import annotations

from pathlib import Path

from tests.bed.commands.budgets import FILE_LINES, FOLDER_FILES, FUNCTION_LINES, crowded, long_in

PATH = Path("ocigrpc/x.py")


def function(lines: int) -> str:
    return "def long():\n" + "    pass\n" * (lines - 1)


def test_a_function_may_be_as_long_as_its_budget_and_no_longer() -> None:
    assert list(long_in(PATH, function(FUNCTION_LINES))) == []
    (found,) = long_in(PATH, function(FUNCTION_LINES + 1))
    assert found.startswith("ocigrpc/x.py:1 long has 41 lines")


def test_a_file_may_be_as_long_as_its_budget_and_no_longer() -> None:
    assert list(long_in(PATH, "x = 1\n" * FILE_LINES)) == []
    (found,) = long_in(PATH, "x = 1\n" * (FILE_LINES + 1))
    assert found.startswith("ocigrpc/x.py has 321 lines")


def test_a_folder_may_have_so_many_files_beside_its_init() -> None:
    paths = [Path(f"a/{number}.py") for number in range(FOLDER_FILES)]
    assert list(crowded([*paths, Path("a/__init__.py")])) == []
    assert list(crowded([*paths, PATH, Path("a/b.py")])) == ["a has 16 files, not 15 at most"]
