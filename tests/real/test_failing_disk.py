"""The disk of the store turns read-only under the service, with all its files open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.bed.clients.conditions import works
from tests.bed.clients.refusal import refused
from tests.bed.hosts.disks import FailingDisk
from tests.bed.hosts.host import native
from tests.bed.services.service import Service
from tests.real.conftest import serving
from tests.real.test_directories import ends_with_7
from tests.real.test_disk import ready, store_condition


class Served(NamedTuple):
    """A service whose store is on a disk that can fail, and what has that mounted."""

    service: Service
    disk: FailingDisk
    mounting: ExitStack

    @property
    def store(self) -> str:
        return str(self.disk.path / "root/ocigrpc.db")

    def mount_anew(self) -> None:
        self.mounting.close()
        self.mounting.enter_context(self.disk.mounted())


@pytest.fixture
def served(rootfs: Path, tmp_path: Path) -> Iterator[Served]:
    disk = FailingDisk(tmp_path / "image", tmp_path / "disk")
    with ExitStack() as mounting, native() as host:
        mounting.enter_context(disk.mounted())
        with serving(host, rootfs, root_dir=disk.path / "root") as service:
            yield Served(service, disk, mounting)


def test_a_store_that_turns_read_only_costs_no_container_and_no_exit_code(
    served: Served,
) -> None:
    service = served.service
    running, ending = service.run(), ready(service)
    served.disk.fail()
    with refused("INTERNAL", "STORE_FAILED") as refusal:
        service.create(container_id="one")
    assert refusal.metadata["path"] == served.store
    assert sorted(service.ids()) == sorted([running, ending])
    service.pause(running)
    service.resume(running)
    assert ends_with_7(service, ending)
    with refused("INTERNAL", "STORE_FAILED"):
        service.remove(ending)
    assert service.state(ending) == "stopped"
    condition = store_condition(service)
    assert (works(condition), condition.reason) == (False, "StoreFailed")
    service.end()
    line = service.refusal()
    assert (line["reason"], line["path"]) == ("STORE_FAILED", served.store)
    served.mount_anew()
    service.start()
    assert sorted(service.ids()) == sorted([running, ending])
    assert service.state(running) == "running"
    assert service.state(ending) == "stopped"
    service.remove(ending)
    service.create(container_id="one")
