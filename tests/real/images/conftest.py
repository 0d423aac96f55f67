"""Registries and a small image for all tests of images, and a storage for each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bed.hosts.host import native
from tests.bed.images.faulty_registry import FaultyRegistry, serving_faulty_registry
from tests.bed.images.layers import file, tree
from tests.bed.images.layout import Image, Packing, image, write_layout
from tests.bed.images.pulling import Puller, pulling
from tests.bed.images.registry import Registry, serving_registry
from tests.bed.images.storages import Skopeo, Storage, StoredImage, registries_conf
from tests.bed.services.service import Service

StartPulling = Callable[..., Puller]


@contextmanager
def _directory() -> Iterator[Path]:
    # Overlays need a file system that has extended attributes of every kind.
    with tempfile.TemporaryDirectory(prefix="ocigrpc-images-", dir="/var/tmp") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def small_image(rootfs: Path) -> Image:
    """A busybox with the accounts of the tests, in one layer, whose program is a shell."""
    return image(tree(rootfs), config={"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]})


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """A registry for all tests, without TLS, for all to read and write."""
    with _directory() as directory, serving_registry(directory) as registry:
        yield registry


@pytest.fixture(scope="session")
def guarded_registry() -> Iterator[Registry]:
    """A registry for all tests, with TLS, and one user."""
    with _directory() as directory, serving_registry(directory, guarded=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def small(registry: Registry, small_image: Image) -> str:
    """The small image in the registry, by its reference."""
    return registry.push(small_image, "small")


@pytest.fixture(scope="session")
def deep() -> Iterator[StoredImage]:
    """An image of 127 layers in a storage that is only read; skopeo takes seconds for it."""
    made = image(*([file(f"layer-{number}")] for number in range(127)), packing=Packing.NONE)
    with _directory() as directory:
        source = write_layout(directory / "layout", {"deep": made})
        storage = Storage(directory / "root", directory / "run")
        Skopeo(directory).copy(f"oci:{source}:deep", storage, "deep")
        yield StoredImage(made, storage)
        assert storage.leaks() == []


@pytest.fixture
def faulty_registry() -> Iterator[FaultyRegistry]:
    """A registry of this test's own, for its answers to go wrong."""
    with serving_faulty_registry() as registry:
        yield registry


@pytest.fixture
def skopeo(registry: Registry, faulty_registry: FaultyRegistry) -> Iterator[Skopeo]:
    """skopeo, to which these registries may be without TLS."""
    with _directory() as directory:
        yield Skopeo(directory, registry.host, faulty_registry.host)


@dataclass(frozen=True)
class ImagesOf:
    """The storage of a service, into which skopeo puts images."""

    storage: Storage
    _skopeo: Skopeo
    _layout: Path

    def put(self, image: Image, *names: str) -> str:
        """Store an image with these names; its id."""
        source = self._layout / image.image_id
        if not source.exists():
            write_layout(source, {"it": image})
        for name in names:
            self._skopeo.copy(f"oci:{source}:it", self.storage, name)
        return image.image_id


@pytest.fixture
def images_of_service(service: Service, skopeo: Skopeo, tmp_path: Path) -> Iterator[ImagesOf]:
    """The images of ``service``, which has none at the end, and nothing that is left of any."""
    storage = Storage(service.directory / "root/images", service.state_dir / "run/images")
    yield ImagesOf(storage, skopeo, tmp_path)
    for each in service.client.list_images():
        service.client.remove_image(each.image_id, all_names=True)
    assert (storage.images(), storage.layers(), storage.leaks()) == ([], [], [])


@pytest.fixture
def storage() -> Iterator[Storage]:
    """An empty storage, which must be in order at the end of the test."""
    with _directory() as directory:
        storage = Storage(directory / "root", directory / "run")
        yield storage
        assert storage.leaks() == []


@pytest.fixture
def start_pulling(
    rootfs: Path, registry: Registry, faulty_registry: FaultyRegistry, tmp_path: Path
) -> Iterator[StartPulling]:
    """``start_pulling(**settings)``: a service for this test alone, with a storage of its own.

    ``more`` is more of its registries.conf.
    """
    conf = tmp_path / "registries.conf"
    with native() as host, ExitStack() as stack:

        def start(more: str = "", **settings: object) -> Puller:
            conf.write_text(registries_conf(registry.host, faulty_registry.host, more=more))
            return stack.enter_context(pulling(host, rootfs, conf, **settings))

        yield start


@pytest.fixture
def puller(start_pulling: StartPulling) -> Puller:
    """A service for this test alone, with an empty storage."""
    return start_pulling()
