"""The documents of the project, and the programs that they show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bed import REPOSITORY

README = REPOSITORY / "README.md"
CLIENTS = REPOSITORY / "protos/README.md"
API = REPOSITORY / "protos/API.md"
OPERATING = REPOSITORY / "ocigrpc/OPERATING.md"
ARCHITECTURE = REPOSITORY / "ocigrpc/ARCHITECTURE.md"
PROMISES = REPOSITORY / "tests/README.md"
CHANGES = REPOSITORY / "CHANGELOG.md"

# In the order in which they are read: each continues where the one before it has ended.
DOCUMENTS = (README, CLIENTS, OPERATING, ARCHITECTURE, PROMISES)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
# The name or path of a program and its arguments, or one of our scripts alone.
_COMMAND = re.compile(r"[a-z./][a-z\d./+-]*(\s+\S.*)|scripts/\w+", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block with a program, and the block after it, which shows its output."""

    document: Path
    number: int
    language: str
    text: str
    shown_as: str = ""
    shown: str = ""

    @property
    def command(self) -> str:
        """The whole text, which is mostly one line."""
        return self.text.strip()

    @property
    def name(self) -> str:
        """Unique among the blocks of all documents, and usable as a file name."""
        return f"{DOCUMENTS.index(self.document)}-{self.number}.{self.language}"

    def __str__(self) -> str:
        path, line = self.document.relative_to(REPOSITORY), self.command.splitlines()[0]
        return f"{path}-{self.number}-{line[:40]}"


def fences(document: Path) -> list[tuple[str, str]]:
    """The language and the text of each fenced block."""
    return _FENCE.findall(document.read_text())


def inline_commands(document: Path) -> list[str]:
    """The commands that stand in the text, not in a block."""
    spans = _SPAN.findall(_FENCE.sub("", document.read_text()))
    return [span for span in spans if _COMMAND.fullmatch(span)]


def programs() -> Iterator[Block]:
    """The programs of all documents, in their order."""
    for document in DOCUMENTS:
        found = fences(document)
        for number, (language, text) in enumerate(found):
            if language in ("sh", "python"):
                after = found[number + 1] if number + 1 < len(found) else ("", "")
                shown = after if after[0] in ("json", "text") else ("", "")
                yield Block(document, number, language, text, *shown)
