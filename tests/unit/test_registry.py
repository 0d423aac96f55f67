"""Which containers there are: ids, unique names, and how many there may be."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.registry import ContainerRegistry
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.values import State
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import ContainerExists, ContainerNotFound, LimitReached
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.settings.values import LimitSettings, Settings
from tests.unit.test_store import RECORD, intents

LIMIT = 2


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "db", 100)) as store:
        yield store


@pytest.fixture
def registry(store: Store) -> ContainerRegistry:
    settings = Settings(limits=LimitSettings(containers=LIMIT))
    return ContainerRegistry(Context(settings, Hierarchies.detect()), store)


def record(container_id: str, name: str = "", fingerprint: str = "f") -> Record:
    return msgspec.structs.replace(
        RECORD, container_id=container_id, name=name, fingerprint=fingerprint
    )


def test_the_same_request_gets_the_same_container(registry: ContainerRegistry) -> None:
    first, made = registry.reserve(record("c1"))
    assert made
    assert registry.reserve(record("c1")) == (first, False)
    assert registry.get("c1") is first


def test_the_id_of_another_request_is_refused(registry: ContainerRegistry) -> None:
    registry.reserve(record("c1"))
    with pytest.raises(ContainerExists) as caught:
        registry.reserve(record("c1", fingerprint="another"))
    assert caught.value.reason == "CONTAINER_EXISTS"


def test_a_name_is_free_again_when_its_container_is_dropped(registry: ContainerRegistry) -> None:
    owner, _ = registry.reserve(record("c1", "web"))
    with pytest.raises(ContainerExists) as caught:
        registry.reserve(record("c2", "web"))
    assert (caught.value.reason, caught.value.metadata["container_id"]) == ("NAME_IN_USE", "c1")
    registry.drop(owner)
    assert owner.removed.is_set()
    assert registry.reserve(record("c2", "web"))[1]


def test_there_are_no_more_than_the_limit(registry: ContainerRegistry) -> None:
    for number in range(LIMIT):
        registry.reserve(record(f"c{number}"))
    with pytest.raises(LimitReached) as caught:
        registry.reserve(record("more"))
    assert caught.value.reason == "TOO_MANY_CONTAINERS"


def test_what_is_remembered_stays_in_the_store_alone(
    registry: ContainerRegistry, store: Store
) -> None:
    container, _ = registry.reserve(record("c1"))
    container.begin("create")
    registry.drop(container, remembered=True)
    with pytest.raises(ContainerNotFound):
        registry.get("c1")
    assert intents(store) == {("c1", "create")}
    assert [each.container_id for each in registry.load()] == ["c1"]


def test_what_could_not_be_undone_takes_no_name_from_a_later_owner(
    registry: ContainerRegistry, store: Store
) -> None:
    creating = msgspec.structs.replace(record("z", "web"), state=State.CREATING)
    left, _ = registry.reserve(creating)
    left.begin("create")
    registry.drop(left, remembered=True)
    owner, _ = registry.reserve(record("a", "web"))
    owner.begin("create")
    owner.commit("create", state=State.CREATED)
    context = Context(Settings(limits=LimitSettings(containers=LIMIT)), Hierarchies.detect())
    again = ContainerRegistry(context, store)
    again.load()
    assert again.get("web").container_id == "a"
    again.drop(again.get("z"))
    assert again.get("web").container_id == "a"


def test_all_are_known_while_another_thread_holds_the_lock(registry: ContainerRegistry) -> None:
    container, _ = registry.reserve(record("c1"))
    with ThreadPoolExecutor(1) as pool, registry._lock:
        assert pool.submit(registry.all).result(10) == [container]
