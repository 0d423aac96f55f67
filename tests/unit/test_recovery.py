"""What a start finds, while what it has begun to tidy up goes away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from structlog.testing import capture_logs

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.exit_monitor import ExitMonitor
from ocigrpc.engine.containers.registry import ContainerRegistry
from ocigrpc.engine.engine import Engine
from ocigrpc.engine.model.values import ExitStatus, Provenance, State
from ocigrpc.engine.recovery.recovery import Recovery
from ocigrpc.engine.store.store import Store
from ocigrpc.host.cgroups.cgroup import GroupIdentity
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.settings.values import Settings
from tests.unit.test_store import RECORD

ENDED = msgspec.structs.replace(
    RECORD,
    state=State.STOPPED,
    exit_status=ExitStatus(provenance=Provenance.EXIT_FILE, finished_ns=1, exit_code=0),
    container_group=GroupIdentity("another boot"),
    auto_remove=True,
)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    context = Context(Settings(run_dir=str(tmp_path)), Hierarchies.detect())
    Path(context.paths(ENDED.container_id).bundle).mkdir(parents=True)
    return context


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "db", 100)) as store:
        yield store


def test_a_directory_of_a_container_that_is_removed_meanwhile_is_not_taken_for_anothers(
    context: Context, store: Store
) -> None:
    store.put(ENDED)
    registry = ContainerRegistry(context, store)

    class Exits:
        """Removes at once what is to be removed, but for the directory that was listed before."""

        def tidy(self, container: Container) -> None:
            registry.drop(container)

    recovery = Recovery(context, registry, cast(ExitMonitor, Exits()))
    with capture_logs() as lines:
        recovery.run()
    recovery.unfinished.close()
    assert [each["event"] for each in lines] == ["recovery.done"]


def test_leftovers_of_images_are_ended_before_the_recovery_removes_any() -> None:
    order = list[str]()
    parts = SimpleNamespace(
        images=SimpleNamespace(
            end_leftovers=lambda: order.append("leftovers"), recover=lambda: order.append("images")
        ),
        _recovery=SimpleNamespace(run=lambda: order.append("containers")),
        _registry=SimpleNamespace(all=list),
    )
    Engine.recover(cast(Engine, parts))
    assert order == ["leftovers", "containers", "images"]
