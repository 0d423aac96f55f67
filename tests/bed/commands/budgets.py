"""Print which functions, files and folders of the code are larger than they may be."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.bed import REPOSITORY

# The most that there may be of each, without the ``__init__`` of a folder.
FUNCTION_LINES, FILE_LINES, FOLDER_FILES = 40, 320, 15


def files() -> Iterator[Path]:
    """The files of the code, and of what tests and scripts share, from the repository's top."""
    for place in ("ocigrpc", "tests/bed"):
        for path in sorted((REPOSITORY / place).rglob("*.py")):
            if path.parent != REPOSITORY / "ocigrpc/v1":
                yield path.relative_to(REPOSITORY)


def crowded(paths: Iterable[Path]) -> Iterator[str]:
    """The folders that have too many files."""
    counts = Counter(path.parent for path in paths if path.name != "__init__.py")
    for folder, count in counts.items():
        if count > FOLDER_FILES:
            yield f"{folder} has {count} files, not {FOLDER_FILES} at most"


def long_in(path: Path, text: str) -> Iterator[str]:
    """What has too many lines in a file of this text: the file itself, and its functions."""
    lines = len(text.splitlines())
    if lines > FILE_LINES:
        yield f"{path} has {lines} lines, not {FILE_LINES} at most"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                where = f"{path}:{node.lineno} {node.name}"
                yield f"{where} has {lines} lines, not {FUNCTION_LINES} at most"


def main() -> int:
    """Exit status 1 if anything is too large."""
    paths = list(files())
    found = list(crowded(paths))
    for path in paths:
        # The examples of specs that tests share are as long as specs are.
        if path.is_relative_to("ocigrpc"):
            found += long_in(path, (REPOSITORY / path).read_text())
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
