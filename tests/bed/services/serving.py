"""A service for as long as a block, without a trace afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bed.hosts.host import Host
from tests.bed.services.service import Service


@contextmanager
def serving(host: Host, rootfs: Path, **settings: object) -> Iterator[Service]:
    """A service that runs, and at the end is no more, as its containers and cgroup parent."""
    with tempfile.TemporaryDirectory(prefix="ocigrpc-test-", dir="/var/tmp") as directory:
        service = Service(host, Path(directory), rootfs, **settings)  # type: ignore[arg-type]
        try:
            service.start()
            yield service
            if not service.pid:
                service.start()
            service.remove_all()
            service.end()
            assert service.leaks() == []
            # A slice is systemd's to remove.
            assert service.parents() == [] or service.host.name == "systemd"
        finally:
            service.discard()
