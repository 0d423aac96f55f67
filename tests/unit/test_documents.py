"""Settings, reasons, paths, commands and tests that the documents name exist."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import msgspec
import pytest

from ocigrpc.settings.sources import load_settings
from ocigrpc.settings.table import Setting, settings_table
from ocigrpc.settings.values import RuntimeHandler, Settings
from tests.bed import REPOSITORY
from tests.bed.documents import (
    API,
    CHANGES,
    DOCUMENTS,
    OPERATING,
    PROMISES,
    README,
    fences,
    inline_commands,
    programs,
)

_LINK = re.compile(r"\]\(([^)#]*)(?:#([\w-]+))?\)")
_OPERATING = OPERATING.read_text()
_ALL = "".join(document.read_text() for document in DOCUMENTS)


def promises() -> list[str]:
    """The rows of the tables of failures."""
    tables = re.findall(r"^\| what happens \|.*\n.*\n((?:\|.*\n)+)", PROMISES.read_text(), re.M)
    return [row for table in tables for row in table.splitlines()]


def headings(document: Path) -> set[str]:
    """The anchors of a document's headings."""
    found = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in found}


@pytest.mark.parametrize("setting", settings_table(), ids=lambda each: each.key)
def test_every_setting_is_documented_with_its_default(setting: Setting) -> None:
    assert f"| `{setting.key}` | `{setting.default}` | {setting.description} |\n" in _OPERATING


def test_every_key_of_a_runtime_is_documented_with_its_default() -> None:
    for field in msgspec.structs.fields(RuntimeHandler):
        default = "required"
        if not field.required:
            default = f"`{msgspec.json.encode(field.default).decode()}`"
        assert f"\n| `{field.name}` | {default} | " in _OPERATING


def test_the_settings_file_shown_can_be_used(tmp_path: Path) -> None:
    (text,) = (text for language, text in fences(OPERATING) if language == "toml")
    (tmp_path / "shown.toml").write_text(text)
    settings = load_settings(environ={}, config_path=str(tmp_path / "shown.toml"))
    assert settings != Settings()


def test_every_code_and_reason_is_one_of_the_service() -> None:
    files = [*(REPOSITORY / "ocigrpc").rglob("*.py"), *(REPOSITORY / "protos").rglob("*.proto")]
    sources = "".join(path.read_text() for path in files)
    codes = {code.name for code in grpc.StatusCode}
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", _ALL))
    assert "WRONG_STATE" in named
    codes |= {setting.variable for setting in settings_table()}
    assert [word for word in named - codes if not re.search(rf"\b{word}\b", sources)] == []


def test_every_event_of_the_log_is_one_of_the_service() -> None:
    sources = "".join(path.read_text() for path in (REPOSITORY / "ocigrpc").rglob("*.py"))
    (table,) = re.findall(r"^\| event \| .*?\n\n", _OPERATING, re.MULTILINE | re.DOTALL)
    events = re.findall(r"`(\w+\.\w+)`", table)
    assert "container.created" in events
    assert [event for event in events if f'"{event}"' not in sources] == []


def test_every_path_of_the_project_is_there() -> None:
    # A link is relative to its document, and has a test of its own.
    text = _LINK.sub("]", _ALL)
    paths = set(re.findall(r"(?<![\w/])(?:scripts|ocigrpc|tests|protos)/[\w./-]*\w", text))
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, API], ids=lambda each: str(each.relative_to(REPOSITORY))
)
def test_every_link_leads_somewhere(document: Path) -> None:
    for path, heading in _LINK.findall(document.read_text()):
        if ":" not in path:
            target = document.parent / path if path else document
            assert target.exists(), path
            assert not heading or heading in headings(target), heading


def test_every_command_in_the_text_is_one_of_a_block_which_tests_run() -> None:
    # See tests/real/test_documents.py for the blocks.
    run = [_by_name(line) for block in programs() for line in block.text.splitlines() if line]
    documents = (*DOCUMENTS, API, CHANGES)
    found = [command for document in documents for command in inline_commands(document)]
    assert "scripts/test" in found
    alone = [each for each in found if not any(line.startswith(_by_name(each)) for line in run)]
    assert alone == []


def _by_name(command: str) -> str:
    """A command without the directory of its program."""
    program, *arguments = command.split()
    return " ".join([Path(program).name, *arguments, ""])


@pytest.mark.parametrize("document", DOCUMENTS[1:], ids=lambda each: each.name)
def test_readme_links_to_every_document(document: Path) -> None:
    assert f"]({document.relative_to(REPOSITORY)})" in README.read_text()


def test_readme_is_short() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= 200
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("promise", promises(), ids=lambda each: each[:40])
def test_every_promise_names_tests_that_assert_its_words(promise: str) -> None:
    *cells, how = promise.strip("| ").split(" | ")
    tests = re.findall(r"`((?:real|real/images|rpc|unit)/test_\w+)`", how)
    assert tests
    text = "".join((REPOSITORY / f"tests/{test}.py").read_text() for test in tests)
    # Codes, reasons and provenances, and events of the log.
    promised = r"`(?:EXIT_PROVENANCE_)?([A-Z][A-Z_]+|container\.\w+)`"
    asserted = text.replace("EXIT_PROVENANCE_", "")
    words = re.findall(promised, " ".join(cells))
    assert [word for word in words if not re.search(rf"\b{word}\b", asserted)] == []
