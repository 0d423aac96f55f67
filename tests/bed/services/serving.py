"""A service for as long as a block, without a trace afterwards."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.bed.bundles.bundle import make_rootfs
from tests.bed.hosts.host import Host, native
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
            leaks = service.leaks()
            # A slice is systemd's to remove.
            if service.host.name != "systemd":
                leaks += map(str, service.parents())
            assert not leaks, f"left behind: {', '.join(leaks)}"
        finally:
            service.discard()


@contextmanager
def sandbox(
    state_dir: Path | None = None, settings: Mapping[str, object] | None = None, /, **runtimes: Path
) -> Iterator[Service]:
    """A service for a command, on this host, whose containers and services notice nothing.

    ``state_dir`` and ``settings`` are as a service has them; ``runtimes`` are programs to use like
    runc, by the names of their handlers. SIGINT and SIGTERM end the block in good order, with
    ``KeyboardInterrupt``.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    handlers = {name: {"path": str(path)} for name, path in runtimes.items()}
    interrupt: KeyboardInterrupt | None = None
    with (
        tempfile.TemporaryDirectory(prefix="ocigrpc-rootfs-", dir="/var/tmp") as directory,
        native() as host,
        serving(
            host,
            make_rootfs(Path(directory)),
            runtimes=handlers,
            state_dir=state_dir,
            **(settings or {}),
        ) as service,
    ):
        try:
            yield service
        except KeyboardInterrupt as error:
            interrupt = error
        finally:
            # Not interrupted again: a clean-up that is cut off leaves something behind.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
    if interrupt is not None:
        raise interrupt
