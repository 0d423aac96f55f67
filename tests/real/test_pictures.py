"""The picture of a session in README is what the commands print."""

from __future__ import annotations

import re

from tests.bed.commands.picture import PROMPT, lines
from tests.bed.commands.pictures import COMMANDS, PATH, session
from tests.bed.services.service import Service


def test_the_picture_has_the_commands_and_what_they_print(service: Service) -> None:
    printed = [re.sub(r"\x1b\[\d+m", "", line) for line in session(service)]
    shown = lines(PATH.read_text())
    assert [line for line in shown if line.startswith(PROMPT)] == [PROMPT + c for c in COMMANDS]
    titles = [[line.split() for line in each if line.isupper()] for each in (shown, printed)]
    assert titles[0] == titles[1]
    assert len(titles[0]) == 3
