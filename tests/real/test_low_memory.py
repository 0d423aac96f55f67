"""Limits that leave too little memory to begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.clients.refusal import refused
from tests.bed.hosts.host import Host, native
from tests.bed.services.service import Service
from tests.real.conftest import crun_host, serving

pytestmark = pytest.mark.node

PAGE_BYTES = 4096

# Where the memory controller is, which is not so on every host of the tests.
HOSTS: dict[str, Callable[[], AbstractContextManager[Host]]] = {"runc": native, "crun": crun_host}


@pytest.fixture(scope="module", params=HOSTS)
def service(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[Service]:
    runtime = request.param
    with HOSTS[runtime]() as host, serving(host, rootfs, default_runtime=runtime) as it:
        yield it


@pytest.mark.parametrize("pages", [1, 16])
def test_a_create_with_too_little_memory_says_so_and_leaves_nothing(
    service: Service, pages: int
) -> None:
    config = service.config("exec sleep 1000")
    config.resources.memory_limit_in_bytes = pages * PAGE_BYTES
    with refused("FAILED_PRECONDITION", "MEMORY_LIMIT_TOO_LOW") as refusal:
        service.client.create_container(CreateContainerRequest(config=config))
    assert refusal.metadata["output"]
    assert service.ids() == []
    assert service.leaks() == []
