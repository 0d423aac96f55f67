"""Backups of a service's store, which are restored as documented."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.bed.services.service import Service


def store_of(service: Service) -> Path:
    return service.directory / "root/ocigrpc.db"


def backed_up(service: Service, name: str = "backup") -> Path:
    """A backup of the store as it is now; the service runs on."""
    backup = service.directory / name
    backup.write_bytes(b"".join(service.client.backup_store()))
    return backup


def restore(service: Service, backup: Path) -> None:
    """Replace the store by a backup; the service has ended."""
    store = store_of(service)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{store}{suffix}").unlink(missing_ok=True)
    shutil.copy(backup, store)
