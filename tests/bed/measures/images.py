"""What images cost: containers of them, lists, and pulls beside skopeo alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

from ocigrpc.settings.images import ImagesSettings
from ocigrpc.v1 import image_pb2
from ocigrpc.v1 import runtime_pb2 as pb
from ocigrpc.waiting import Deadline
from tests.bed.bundles.bundle import make_rootfs
from tests.bed.hosts.host import native
from tests.bed.images.faulty_registry import FaultyRegistry, serving_faulty_registry
from tests.bed.images.layers import file, tree
from tests.bed.images.layout import Image, image, layer
from tests.bed.images.opened import opened_images
from tests.bed.images.storages import Skopeo, Storage, registries_conf
from tests.bed.measures.figures import Figure, Times, at_most, factor_at_most
from tests.bed.measures.sides import PROGRAM, Bench, Bundled
from tests.bed.services.service import Service
from tests.bed.services.serving import serving

_STORED = 200
# For each unit of ``--samples``, so that fewer of them make a run short as well.
_STORED_PER_SAMPLE = 10
_PULLS_PER_SAMPLE = 1 / 4
# Of an image that is pulled: 48 MiB, which nothing makes smaller.
_FILES, _FILE_BYTES = 1500, 32 << 10


def images(bench: Bench) -> Iterator[Figure]:
    """All of it, with a service that has a store of its own."""
    with _served(bench) as (service, registry, made):
        name = registry.push(made, "bench")
        _pull(service, name)
        yield _created(bench, service, name)
        yield _lent(bench, service, name)
        times = Times()
        for _ in range(bench.samples):
            with times.of("there"):
                _pull(service, name)
        yield at_most("pull of what is there, ms", times["there"], 40)
        yield from _pulled(bench, service, registry)
        yield _listed(bench, service, registry)


def _created(bench: Bench, service: Service, name: str) -> Figure:
    """Create and start of a container of an image, beside one of the same files as a bundle."""
    bundle = bench.sides(*PROGRAM)[1].bundle
    bundled, times = Bundled(service, bundle, bench.runtime), Times()
    for number in range(bench.samples + 1):
        for kind in ("bare", "service"):
            container_id = f"{kind}-{number}"
            with times.of(f"{kind} run"):
                if kind == "bare":
                    bundled.run(container_id)
                else:
                    _run_image(service, container_id, name, bench.runtime)
            bundled.stop_and_remove(container_id)
    bare, ours = times.pair("run")
    # Without the first one of each, which finds nothing in a cache.
    return factor_at_most("create+start (bare: bundle), ms", bare[1:], ours[1:], 1.05)


def _lent(bench: Bench, service: Service, name: str) -> Figure:
    """The root filesystem of a container alone, without a service around it."""
    times, storage = Times(), ImagesSettings(root=str(service.directory / "root/images"))
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as directory,
        opened_images(Path(directory), storage) as stored,
    ):
        for number in range(bench.samples):
            with times.of("lend"):
                lent = stored.roots.lend(name, f"lent-{number}", readonly=False)
            stored.roots.release(lent.rootfs_id, Deadline(20))
    return at_most("lend of a root filesystem, ms", times["lend"], 2)


def _run_image(service: Service, container_id: str, name: str, handler: str) -> None:
    request = pb.CreateContainerRequest(container_id=container_id, runtime_handler=handler)
    request.config.image = name
    request.config.command.extend(PROGRAM)
    service.client.create_container(request)
    service.start_container(container_id)


def _pulled(bench: Bench, service: Service, registry: FaultyRegistry) -> Iterator[Figure]:
    """Fresh images, by the service and by skopeo alone into a store of its own."""
    times = Times()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        alone, skopeo = Path(directory), Skopeo(Path(directory), registry.host)
        storage = Storage(alone / "root", alone / "run")
        for number in range(max(2, round(bench.samples * _PULLS_PER_SAMPLE)) + 1):
            name = registry.push(_fresh(number), f"fresh-{number}")
            with times.of("bare pull"):
                skopeo.copy(f"docker://{name}", storage, name)
            with times.of("service pull"):
                _pull(service, name)
    bare, ours = times.pair("pull")
    yield factor_at_most("pull (bare: skopeo copy), ms", bare[1:], ours[1:], 1.1)


def _fresh(number: int) -> Image:
    """An image that no other one shares a layer with: of the size of a small distribution's."""
    random = Random(number)
    files = [file(f"{number}-{each}", random.randbytes(_FILE_BYTES)) for each in range(_FILES)]
    return image(files, [file(f"{number}")])


def _listed(bench: Bench, service: Service, registry: FaultyRegistry) -> Figure:
    """A list of many images, which share a layer."""
    count = min(_STORED, _STORED_PER_SAMPLE * bench.samples)
    shared = layer([file("shared")])
    there = len(_list(service))
    for number in range(count - there):
        named = image(shared, config={"Labels": {"number": str(number)}})
        _pull(service, registry.push(named, f"stored-{number}"))
    times = Times()
    for _ in range(bench.samples):
        with times.of("list"):
            listed = _list(service)
    assert len(listed) == count
    return at_most(f"list of {count} images, ms", times["list"], 10)


def _list(service: Service) -> list[image_pb2.ImageSummary]:
    return list(service.client.list_images())


def _pull(service: Service, name: str) -> None:
    for _ in service.client.pull_image(name):
        pass


@contextmanager
def _served(bench: Bench) -> Iterator[tuple[Service, FaultyRegistry, Image]]:
    """A service with an empty store, a registry, and an image of busybox."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        registry = stack.enter_context(serving_faulty_registry())
        conf = directory / "registries.conf"
        conf.write_text(registries_conf(registry.host))
        (directory / "rootfs").mkdir()
        rootfs = make_rootfs(directory / "rootfs")
        host = stack.enter_context(native())
        settings = {"images_registries_conf": conf, "state_dir": state}
        service = stack.enter_context(serving(host, rootfs, **settings))
        yield service, registry, image(tree(rootfs))
