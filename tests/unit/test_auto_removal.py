"""Removals that the service begins by itself, and tries again."""

from __future__ import annotations

import threading
from typing import cast

import pytest
from structlog.testing import capture_logs

from ocigrpc.engine.containers import auto_removal
from ocigrpc.engine.containers.auto_removal import AutoRemoval
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.registry import ContainerRegistry
from ocigrpc.waiting import Latch

LIMIT_S = 20.0


class Ended:
    """A container, as far as its removal looks at it."""

    def __init__(self) -> None:
        self.container_id = "c"
        self.removed = Latch()


def test_an_error_of_any_kind_is_logged_and_the_removal_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done, tries = threading.Event(), list[Container]()

    def remove(container: Container, *_: object) -> None:
        tries.append(container)
        if len(tries) == 1:
            raise KeyError("a defect of ours")
        done.set()

    monkeypatch.setattr(auto_removal, "remove", remove)
    with capture_logs() as lines:
        removal = AutoRemoval(cast(ContainerRegistry, None))
        removal.submit(cast(Container, Ended()))
        assert done.wait(LIMIT_S)
        removal.close()
    assert len(tries) == 2
    assert [(each["event"], each["reason"]) for each in lines] == [
        ("container.not_removed", "UNEXPECTED")
    ]
