"""In which states containers are counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.status import states_of
from ocigrpc.engine.model.values import State
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import Timeout
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline
from tests.unit.test_store import RECORD

# Of a container whose processes ended while no service was there.
RUNNING = msgspec.structs.replace(RECORD, state=State.RUNNING, exit_status=None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "db", 100)) as store:
        yield store


@pytest.fixture
def context() -> Context:
    return Context(Settings(), Hierarchies.detect())


def test_a_container_is_not_stopped_before_recovery_has_searched_for_it(
    store: Store, context: Context
) -> None:
    container = Container(RUNNING, store, context)
    assert list(states_of([container], Deadline())) == [State.UNKNOWN]
    container.settled.set()
    assert list(states_of([container], Deadline())) == [State.STOPPED]


def test_what_is_final_needs_no_recovery(store: Store, context: Context) -> None:
    creating = msgspec.structs.replace(RUNNING, state=State.CREATING)
    containers = [Container(each, store, context) for each in (RECORD, creating)]
    assert list(states_of(containers, Deadline())) == [State.STOPPED, State.CREATING]


def test_counting_ends_at_the_deadline(store: Store, context: Context) -> None:
    with pytest.raises(Timeout):
        list(states_of([Container(RUNNING, store, context)], Deadline(0.0)))
