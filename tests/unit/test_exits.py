"""The end of the watch over containers."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import cast

from ocigrpc.engine.container import Container
from ocigrpc.engine.exits import Exits
from ocigrpc.engine.node import Node


def test_tidying_that_hangs_holds_up_the_end_once_and_not_for_each_container() -> None:
    node = SimpleNamespace(settings=SimpleNamespace(undo_timeout_s=0.5))
    exits = Exits(cast(Node, node))
    hanging = SimpleNamespace(remove_monitor=lambda deadline: deadline.wait())
    container = cast(Container, SimpleNamespace(enclosure=hanging))
    for _ in range(100):
        exits._janitor.submit(exits._tidy, container)
    closing = threading.Thread(target=exits.close, daemon=True)
    closing.start()
    closing.join(20.0)
    assert not closing.is_alive()
