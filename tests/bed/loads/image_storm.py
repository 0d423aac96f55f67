"""Images that clients pull, run and remove, while the service and skopeo are killed at any moment.

The images share layers. After each kill, all that is there belongs to an image that is listed.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import random
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from sqlite3 import connect

import grpc

from ocigrpc import Client
from ocigrpc.errors import OcigrpcError, Timeout
from ocigrpc.v1.config_pb2 import ContainerConfig
from ocigrpc.v1.image_pb2 import PruneImagesRequest
from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.clients.error_info import code_of, error_details
from tests.bed.hosts.leaks import until
from tests.bed.images.containers import roots_of
from tests.bed.images.faulty_registry import FaultyRegistry
from tests.bed.images.layers import file, tree
from tests.bed.images.layout import Blob, Image, image, layer
from tests.bed.images.power import end_programs, lose_files
from tests.bed.images.pulling import Puller
from tests.bed.images.storages import Skopeo
from tests.bed.loads.stubborn_client import Door
from tests.bed.services.backups import backed_up
from tests.bed.services.service import Service

_CLIENTS = 6
_LONGEST_LIFE_S = 4.0
# How often a service dies before it is ready.
_DIES_AGAIN = 0.2
_PAUSE_S = 0.05

# What a client may be answered since others remove what it works with.
_ALLOWED = {"IMAGE_NOT_FOUND", "CONTAINER_NOT_FOUND"}
# Why a service does not answer, if it says so.
_AWAY = {"", "RECOVERING"}
# What the service remembers for as long as something is under way.
_KINDS = ("pull", "removal", "rootfs")


@dataclass
class ImageToll:
    """What there has been so far."""

    kills: int = 0
    early_kills: int = 0
    """Those of a service that was not ready yet, which are not among the others."""
    power_cuts: int = 0
    """Kills after which files were truncated that need not have been on the disk."""
    cut_off: int = 0
    """Calls that were not answered."""
    refused: int = 0
    """Calls for what another client had removed."""
    checked: int = 0
    """Images whose files were compared, each one after each kill."""
    done: Counter[str] = field(default_factory=Counter)
    """Pulls, runs, removals and prunes that were answered."""
    settled_s: list[float] = field(default_factory=list)
    """From each start of the service until nothing was left of what was cut off."""


def made_images(rootfs: Path, count: int) -> Sequence[Image]:
    """Images that can be run, each of five layers, of which three are also in others."""
    base = layer(tree(rootfs))
    shared = [layer([file(f"shared-{each}", os.urandom(1 << 20))]) for each in range(3)]
    return [
        image(
            base,
            shared[number % 3],
            shared[(number + 1) % 3],
            *([file(f"own-{number}-{each}", os.urandom(300_000))] for each in range(2)),
            config={"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
        )
        for number in range(count)
    ]


class ImageStorm:
    """Uses these images of a registry, and kills the service, as ``seed`` decides."""

    def __init__(
        self, puller: Puller, registry: FaultyRegistry, images: Sequence[Image], seed: int
    ) -> None:
        self._puller = puller
        self._service: Service = puller.service
        self._images = {each.image_id: each for each in images}
        self._names = [registry.push(each, f"image-{number}") for number, each in enumerate(images)]
        self._random = random.Random(seed)
        self._door = Door(_CLIENTS)
        self._over = threading.Event()
        self._lock = threading.Lock()
        # How many containers there may be of each image.
        self._used = Counter[str]()
        self._files: dict[str, Mapping[str, str]] = {}
        self.toll = ImageToll()

    def rage(
        self,
        kills: int,
        least: int = 0,
        progress: Callable[[ImageToll], None] = lambda _: None,
    ) -> None:
        """Kill so many times, and on until there were ``least`` pulls, runs and removals each.

        Raises ``AssertionError`` as soon as anything is there that does not belong.
        """
        with ThreadPoolExecutor(_CLIENTS, thread_name_prefix="client") as pool:
            chances = [random.Random(self._random.random()) for _ in range(_CLIENTS)]
            clients = [pool.submit(self._use, *each) for each in enumerate(chances)]
            try:
                while self.toll.kills < kills or self._least() < least:
                    self._kill(clients)
                    with self._door.closed():
                        self._expect_order()
                    progress(self.toll)
            finally:
                self._over.set()
        for client in clients:
            client.result()
        self._expect_order()

    def expect_readable(self, skopeo: Skopeo, directory: Path) -> int:
        """Pull all images, and have skopeo read each to its last byte; how many there are."""
        for name in self._names:
            _drain(self._puller.client, name)
        found = list(self._puller.client.list_images())
        for number, each in enumerate(found):
            source = self._puller.storage.reference(f"@{each.image_id}")
            ended = skopeo.run("copy", "-q", source, f"dir:{directory}/{number}")
            assert ended.returncode == 0, ended.stderr
        return len(found)

    def clear(self) -> None:
        """Remove all images; then nothing is left of any."""
        client, storage = self._puller.client, self._puller.storage
        # Those that clients have left whose last call was cut off.
        self._service.remove_all()
        for each in client.list_images():
            client.remove_image(each.image_id, all_names=True)
        # A pull that has just answered may still have them for a moment.
        until(lambda: (storage.images(), storage.layers()) == ([], []))
        self._expect_order()

    def _least(self) -> int:
        return min(self.toll.done[each] for each in ("pull", "run", "remove"))

    def _kill(self, clients: Sequence[Future[None]]) -> None:
        """Kill the service at any moment, perhaps again before it is ready, and start it."""
        self._let_live(clients)
        self._die()
        self.toll.kills += 1
        while self._random.random() < _DIES_AGAIN:
            self._service.launch()
            self._let_live(clients)
            self._die()
            self.toll.early_kills += 1
        self._service.start()

    def _die(self) -> None:
        self._service.die()
        chance = self._random.random()
        if chance < 0.7:
            # Otherwise skopeo lives on, until the service comes back.
            end_programs(self._puller)
        if chance < 0.4:
            with self._lock:
                used = [each for each, count in self._used.items() if count]
            lose_files(self._puller.storage, used)
            self.toll.power_cuts += 1

    def _let_live(self, clients: Sequence[Future[None]]) -> None:
        """Wait for any moment; raises what a client raises until then."""
        life_s = self._random.uniform(0, _LONGEST_LIFE_S)
        for client in wait(clients, life_s, FIRST_COMPLETED).done:
            client.result()

    def _expect_order(self) -> None:
        """Wait until all that is there belongs to an image that is listed, and is whole."""
        found: list[str] = []

        def agrees() -> bool:
            found[:] = self._flaws()
            return not found

        try:
            self.toll.settled_s.append(until(agrees, 60))
        except Timeout:
            raise AssertionError(found) from None
        for each in self._puller.client.list_images():
            self._expect_whole(each.image_id)
            self.toll.checked += 1

    def _flaws(self) -> list[str]:
        containers = self._service.ids()
        if not containers:
            roots = [str(each) for each in roots_of(self._service)]
            return [*self._puller.leaks(), *roots, *self._strays(), *self._records(_KINDS)]
        benches = self._service.directory / "root/benches"
        return [
            *(map(str, benches.iterdir()) if benches.exists() else ()),
            # Overlays of containers name the storage.
            *(each for each in self._puller.storage.leaks() if not each.startswith("mount ")),
            *self._records(("pull", "removal")),
        ]

    def _strays(self) -> Iterator[str]:
        """Images that have no name: nobody has asked for them to stay."""
        for each in self._puller.storage.images():
            if not each.get("names"):
                yield f"image {each['id']}, which has no name"

    def _records(self, kinds: Sequence[str]) -> Iterator[str]:
        with closing(connect(backed_up(self._service))) as db:
            for kind, key in db.execute("SELECT kind, id FROM records"):
                if kind in kinds:
                    yield f"a record of {kind} {key}"

    def _expect_whole(self, image_id: str) -> None:
        made = self._images[image_id]
        for blob, diff in zip(made.layers, self._puller.storage.diffs(image_id), strict=True):
            assert _files_in(diff) == self._files_of(blob), f"{diff} of image {image_id}"

    def _files_of(self, blob: Blob) -> Mapping[str, str]:
        if blob.digest not in self._files:
            with tarfile.open(fileobj=io.BytesIO(blob.data)) as archive:
                self._files[blob.digest] = {
                    os.path.normpath(each.name): _digest(content.read())
                    for each in archive
                    if each.isreg() or each.islnk()
                    if (content := archive.extractfile(each)) is not None
                }
        return self._files[blob.digest]

    def _use(self, number: int, chance: random.Random) -> None:
        """Be a client: one image after the other is pulled, perhaps run, and perhaps removed."""
        service = self._service.another()
        for count in itertools.count():
            if self._over.is_set():
                return
            index = chance.randrange(len(self._names))
            self._live(service, index, f"c{number}-{count:06}", chance)

    def _live(self, service: Service, index: int, container_id: str, chance: random.Random) -> None:
        client, name = service.client, self._names[index]
        self._call("pull", lambda: _drain(client, name))
        if chance.random() < 0.5:
            self._run(service, list(self._images)[index], name, container_id)
        if chance.random() < 0.4:
            self._call("remove", lambda: client.remove_image(name))
        if chance.random() < 0.05:
            self._call("prune", lambda: client.prune_images(PruneImagesRequest(all=True)))

    def _run(self, service: Service, image_id: str, name: str, container_id: str) -> None:
        config = ContainerConfig(image=name, command=["/bin/sh", "-c", "cat /own-* >/dev/null"])
        request = CreateContainerRequest(config=config, container_id=container_id)

        def live() -> None:
            service.client.create_container(request)
            service.start_container(container_id)
            assert service.wait(container_id).exit_code == 0

        with self._using(image_id):
            self._call("run", live)
            while not self._call("end", lambda: service.remove(container_id, force=True)):
                if self._over.is_set():
                    return

    @contextmanager
    def _using(self, image_id: str) -> Iterator[None]:
        with self._lock:
            self._used[image_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._used[image_id] -= 1

    def _call(self, verb: str, call: Callable[[], object]) -> bool:
        """Make a call; whether it was answered. Raises what it may not be refused for."""
        try:
            with self._door.inside():
                call()
        except (OcigrpcError, grpc.RpcError) as error:
            info, _ = error_details(error)
            if code_of(error) is grpc.StatusCode.UNAVAILABLE and info.reason in _AWAY:
                with self._lock:
                    self.toll.cut_off += 1
                time.sleep(_PAUSE_S)
                return False
            if info.reason not in _ALLOWED:
                raise AssertionError(f"{verb} failed") from error
            with self._lock:
                self.toll.refused += 1
            return True
        with self._lock:
            self.toll.done[verb] += 1
        return True


def _drain(client: Client, name: str) -> None:
    *_, last = client.pull_image(name)
    assert last.HasField("image")


def _files_in(directory: Path) -> Mapping[str, str]:
    return {
        str(path.relative_to(directory)): _digest(path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
