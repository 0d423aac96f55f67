"""Answers of a registry that are other than what it was asked for, or more, or without an end."""

from __future__ import annotations

import json

from tests.bed.images.faulty_registry import Answer, Fault, Wait, whole

_PIECE = bytes(1 << 16)


class Flood(Wait):
    """A body without an end, as fast as it goes."""

    def __call__(self, answer: Answer) -> None:
        answer.begin_chunks()
        while not self._goes_on.is_set():
            answer.send_chunk(_PIECE)
            self._reached.set()
        answer.hang_up()


class Drip(Wait):
    """A body without an end, and so slow that nobody wants to see it, but never stalled."""

    def __call__(self, answer: Answer) -> None:
        answer.begin_chunks()
        # More in a second than any watchdog takes for nothing.
        while not self._goes_on.wait(0.1):
            answer.send_chunk(b" " * 4000)
            self._reached.set()
        answer.hang_up()


def instead(data: bytes, **headers: str) -> Fault:
    """Another body, whatever is asked for; underscores in names of headers mean dashes."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}

    def answer_other(answer: Answer) -> None:
        answer.data = data
        answer.headers = {**answer.headers, **named}
        del answer.headers["Docker-Content-Digest"]
        whole(answer)

    return answer_other


def asks_for_a_password(answer: Answer) -> None:
    """Refuses who shows no password."""
    if answer.asked_by:
        whole(answer)
    else:
        answer.refuse(401, {"WWW-Authenticate": 'Basic realm="tests"'})


def repeating(*more: str) -> Fault:
    """Refuses, and says what the client has shown, and more."""

    def repeat(answer: Answer) -> None:
        words = " ".join([answer.asked_by, *more])
        body = json.dumps({"errors": [{"code": "DENIED", "message": words}]}).encode()
        answer.refuse(403, {"Content-Type": "application/json"}, len(body))
        answer.send(body)

    return repeat
