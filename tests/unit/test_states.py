"""The table of transitions."""

from __future__ import annotations

from itertools import product

import pytest

from ocigrpc.engine.model.states import RUNTIME_WORDS, TRANSITIONS, may_follow
from ocigrpc.engine.model.values import State

LEGAL = {
    ("creating", "created"),
    ("creating", "stopped"),
    ("created", "running"),
    ("created", "paused"),
    ("created", "stopped"),
    ("running", "paused"),
    ("running", "stopped"),
    ("paused", "running"),
    ("paused", "created"),
    ("paused", "stopped"),
}


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_a_state_follows_only_where_the_table_says_so(before: State, after: State) -> None:
    assert may_follow(before, after) is ((before, after) in LEGAL)


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(State)


def test_nothing_follows_stopped() -> None:
    assert not TRANSITIONS[State.STOPPED]


def test_the_runtime_words_are_those_of_the_spec_that_can_be_seen() -> None:
    assert {word: str(state) for word, state in RUNTIME_WORDS.items()} == {
        "created": "created",
        "running": "running",
        "paused": "paused",
        "stopped": "stopped",
    }
