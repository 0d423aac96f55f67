"""Which state may follow which, as data."""

from __future__ import annotations

from ocigrpc.engine.model.values import State

# From each state to those that may follow it. UNKNOWN is an answer, never remembered.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.CREATING: frozenset({State.CREATED, State.STOPPED}),
    State.CREATED: frozenset({State.RUNNING, State.PAUSED, State.STOPPED}),
    State.RUNNING: frozenset({State.PAUSED, State.STOPPED}),
    State.PAUSED: frozenset({State.RUNNING, State.CREATED, State.STOPPED}),
    State.STOPPED: frozenset(),
    State.UNKNOWN: frozenset(),
}

# The OCI runtime spec's words. ``creating`` is never seen: nothing is asked before its end.
RUNTIME_WORDS: dict[str, State] = {
    "created": State.CREATED,
    "running": State.RUNNING,
    "paused": State.PAUSED,
    "stopped": State.STOPPED,
}


def may_follow(before: State, after: State) -> bool:
    """Whether a container in ``before`` may be in ``after`` next; staying is no step."""
    return after in TRANSITIONS[before]
