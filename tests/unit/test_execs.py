"""The bounds of programs that run on without their clients."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest

from ocigrpc.engine.sessions import exec as execs
from ocigrpc.engine.sessions.messages import ExecStart
from ocigrpc.errors import LimitReached
from ocigrpc.oci.exec import ExecProcess
from ocigrpc.waiting import Deadline


def test_a_program_to_be_kept_is_refused_when_too_many_run_unattended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execs, "UNATTENDED_LIMIT", 0)
    # It is refused before anything else is checked.
    nothing = cast(Any, None)
    start = ExecStart("c1", ExecProcess(("true",)), math.inf, keep_running=True)
    with pytest.raises(LimitReached) as caught:
        next(execs.Execs(nothing).stream(start, nothing, Deadline()))
    assert caught.value.reason == "TOO_MANY_LEFT"


def test_a_program_to_be_kept_is_refused_when_too_many_have_left_daemons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execs, "DAEMONS_LIMIT", 0)
    nothing = cast(Any, None)
    start = ExecStart("c1", ExecProcess(("true",)), math.inf, keep_running=True)
    with pytest.raises(LimitReached) as caught:
        execs.Execs(nothing).run(start, Deadline())
    assert caught.value.reason == "TOO_MANY_LEFT"
