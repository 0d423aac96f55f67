"""The clients in other languages: how long they are, what documents show, what is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bed.commands import interop
from tests.bed.commands.interop import LANGUAGES, SOURCES, Failed, Language, LeftOut, build, lack
from tests.bed.documents import CLIENTS, fences

MOST_LINES = 80

SHOWN = [fence for fence in fences(CLIENTS) if fence[0] in {each.name for each in LANGUAGES}]


def program(language: Language) -> Path:
    """The file that a person has written."""
    files = (SOURCES / language.name).rglob("*")
    (found,) = (path for path in files if path.stem.lower() == "main" and path.is_file())
    return found


def unindented(text: str) -> str:
    return "".join(f"{line.strip()}\n" for line in text.splitlines())


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda each: each.name)
def test_a_program_is_short_and_shown(language: Language) -> None:
    assert len(program(language).read_text().splitlines()) <= MOST_LINES
    assert f"(../{program(language).relative_to(SOURCES.parents[1])})" in CLIENTS.read_text()


@pytest.mark.parametrize(("name", "text"), SHOWN, ids=[name for name, _ in SHOWN])
def test_an_excerpt_is_part_of_its_program(name: str, text: str) -> None:
    (language,) = (each for each in LANGUAGES if each.name == name)
    assert unindented(text) in unindented(program(language).read_text())


def test_what_a_machine_lacks_is_named(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\necho old 1.9.3\n")
    old.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:/bin"}
    assert lack("absent", (1,), environment) == "there is no absent"
    assert lack("old", (1, 10), environment) == "old 1.9.3 is older than 1.10"
    assert lack("old", (1, 9), environment) == ""
    assert lack("false", (1,), environment).endswith("--version failed: ")


@pytest.mark.parametrize(
    ("fetch", "make", "outcome"), [("false", "true", LeftOut), ("true", "false", Failed)]
)
def test_what_can_be_fetched_but_not_built_has_failed(
    fetch: str,
    make: str,
    outcome: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "sources/basic").mkdir(parents=True)
    monkeypatch.setattr(interop, "SOURCES", tmp_path / "sources")
    monkeypatch.setattr(interop, "WORK", tmp_path / "work")
    basic = Language("basic", {}, (fetch,), [(make,)], ())
    with pytest.raises(outcome):
        build(basic, dict(os.environ))
