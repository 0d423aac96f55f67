"""Signals as people write them."""

from __future__ import annotations

import signal

import pytest

from ocigrpc.engine.model.signals import parse_signal
from ocigrpc.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("TERM", 15),
        ("term", 15),
        ("sigKill", 9),
        ("CHLD", 17),
        ("SIGPOLL", 29),
        ("1", 1),
        ("09", 9),
        ("64", 64),
        ("SIGRTMIN", 34),
        ("RTMIN+3", 37),
        ("SIGRTMIN+0", 34),
        ("SIGRTMAX", 64),
        ("RTMAX-14", 50),
    ],
)
def test_signal_is_known_by_name_and_number(text: str, number: int) -> None:
    assert parse_signal(text, "signal") == number


@pytest.mark.parametrize("each", signal.Signals)
def test_every_signal_is_known_by_its_own_name(each: signal.Signals) -> None:
    assert parse_signal(each.name, "signal") == each


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "65",
        "-9",
        "+9",
        "1.0",
        "٩",
        "SIGNOTHING",
        "SIGSIGTERM",
        "SIG_DFL",
        "RTMIN+31",
        "RTMAX-31",
        "RTMIN-1",
        "TERM\n",
        " TERM",
        "TERM\0",
        "9" * 5000,
    ],
)
def test_what_is_no_signal_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_signal(text, "stop_signal")
    assert caught.value.reason == "INVALID_SIGNAL"
    assert caught.value.violations[0].field == "stop_signal"
