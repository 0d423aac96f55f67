"""How much output may wait for the clients of Attach."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from ocigrpc.engine.sessions.attach import (
    ALL_BACKLOGS_LIMIT_BYTES,
    BACKLOG_LEFT_BYTES,
    BACKLOG_LIMIT_BYTES,
    BACKLOG_SURE_BYTES,
    AttachBacklogs,
)


@pytest.mark.parametrize("clients", [1, 32, 64, 170])
def test_all_together_have_one_budget_whether_the_program_waits_for_them_or_not(
    clients: int,
) -> None:
    backlogs = AttachBacklogs()
    with ExitStack() as stack:
        for _ in range(clients):
            stack.enter_context(backlogs.client())
        assert clients * backlogs.limit_bytes <= ALL_BACKLOGS_LIMIT_BYTES
        assert clients * backlogs.ended_limit_bytes <= ALL_BACKLOGS_LIMIT_BYTES
    assert backlogs.limit_bytes == backlogs.ended_limit_bytes == BACKLOG_LIMIT_BYTES


def test_of_very_many_each_has_room_for_what_a_program_leaves_that_waited_for_it() -> None:
    backlogs = AttachBacklogs()
    with ExitStack() as stack:
        for _ in range(4096):
            stack.enter_context(backlogs.client())
        assert backlogs.limit_bytes == BACKLOG_SURE_BYTES
        assert backlogs.ended_limit_bytes == BACKLOG_SURE_BYTES + BACKLOG_LEFT_BYTES
