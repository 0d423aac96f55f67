"""Containers of a service that are made of images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from ocigrpc.v1.config_pb2 import ContainerConfig
from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.images.layout import Image, write_layout
from tests.bed.images.storages import Skopeo, Storage
from tests.bed.services.service import Fields, Service


def storage_of(service: Service) -> Storage:
    """The storage that a service has unless its settings name another one."""
    return Storage(service.directory / "root/images", service.directory / "run/images")


def stock(service: Service, directory: Path, **images: Image) -> None:
    """Put images into the storage of a service, each as ``localhost/NAME:1``.

    ``directory`` is an empty one for what is needed for that.
    """
    skopeo = Skopeo(directory)
    layout = write_layout(directory / "layout", images)
    for name in images:
        skopeo.copy(f"oci:{layout}:{name}", storage_of(service), f"localhost/{name}:1")


def roots_of(service: Service) -> list[Path]:
    """The directories of the root filesystems that a service has lent, as it sees them itself."""
    host = Path(f"/proc/{service.pid}/root") if service.pid else Path("/")
    directory = host / (service.directory / "root/rootfs").relative_to("/")
    return sorted(directory.iterdir()) if directory.exists() else []


def create_of(
    service: Service,
    image: str,
    *command: str,
    config: ContainerConfig | None = None,
    **fields: Unpack[Fields],
) -> str:
    """Create a container of an image, with what is in ``config`` besides; its id."""
    whole = ContainerConfig(image=image, command=command)
    whole.MergeFrom(config or ContainerConfig())
    request = CreateContainerRequest(config=whole, **fields)
    return service.client.create_container(request).container_id


def output_of(
    service: Service, image: str, *command: str, config: ContainerConfig | None = None
) -> list[str]:
    """The lines that a container of an image writes in its whole life, which it ends well."""
    container_id = create_of(service, image, *command, config=config)
    service.start_container(container_id)
    exit_code = service.wait(container_id).exit_code
    assert exit_code == 0, service.output(container_id, "stderr")
    lines = service.output(container_id)
    service.remove(container_id)
    return lines


def left_by(service: Service) -> list[str]:
    """What containers have left that were removed; none is there any more."""
    assert service.ids() == []
    return [*service.leaks(), *map(os.fspath, roots_of(service)), *storage_of(service).leaks()]
