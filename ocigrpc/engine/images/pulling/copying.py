"""One copy of an image into the store, with the syncs that make it last and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from threading import Thread

from ocigrpc import metrics
from ocigrpc.engine.images.failures import (
    damaged,
    platform_missing,
    program_failure,
    storage_failing,
)
from ocigrpc.engine.images.program import Bench, received_files
from ocigrpc.engine.images.pulling.foreign import ForeignLayers
from ocigrpc.engine.images.pulling.wanted import Wanted
from ocigrpc.engine.images.room import require_room
from ocigrpc.engine.images.storage import Image, Storage
from ocigrpc.engine.model.pulls import PullProgress
from ocigrpc.host.files.sync import sync_file_system
from ocigrpc.image_errors import ImagesFailed
from ocigrpc.log import get_logger
from ocigrpc.oci.images.manifest import Blob
from ocigrpc.oci.images.progress import layers_progress
from ocigrpc.oci.images.skopeo import pulled_name
from ocigrpc.oci.images.skopeo_errors import is_removed
from ocigrpc.waiting import Deadline

log = get_logger()


class Removed(Exception):
    """Somebody has removed an image just when it was to be answered: then it is pulled again."""


class Moved(Exception):
    """A tag is another image than it was resolved to: then it is resolved again."""

    def __init__(self, registry: str) -> None:
        super().__init__(registry)
        self.registry = registry


class Copy:
    """Copies what is wanted under the temporary name of a pull."""

    def __init__(
        self,
        wanted: Wanted,
        pull_id: str,
        storage: Storage,
        bench: Bench,
        report: Callable[[PullProgress], None],
        learn: Callable[[Collection[str]], None],
    ) -> None:
        self._wanted = wanted
        self._name = pulled_name(pull_id)
        self._storage = storage
        self._bench = bench
        self._report = report
        self._foreign = ForeignLayers(wanted, storage, bench.directory, learn)
        # Those of its layers that were ever in the store: their bytes unpacked, by all digests.
        self._unpacked: dict[str, int] = {}
        self._present = self._stored()
        # What was in the store when the disk was last told to write.
        self._synced = self._present
        self._syncing: Thread | None = None
        self._reported: PullProgress | None = None
        self._counted_bytes = 0

    def run(self, deadline: Deadline) -> Image:
        """Copy it; what is in the store then, on its disk. Raises what ``PullImage`` does."""
        wanted, bench = self._wanted, self._bench
        if wanted.found.tagged and not wanted.is_by_tag and bench.wants_signatures:
            # The policy is another one than when it was resolved.
            raise Moved(wanted.found.registry)
        bench.write("auth.json", wanted.found.auth)
        argv = bench.skopeo.copy_in(
            wanted.source, self._name, bench.directory, bench.auth_path, wanted.choice
        )
        self._tick()
        try:
            ended = bench.run(argv, deadline, self._tick)
        finally:
            bench.end_agents()
            if self._syncing is not None:
                self._syncing.join()
            # They are undone with the others.
            self._foreign.look()
        if ended.returncode:
            if is_removed(ended.failure_text):
                raise Removed
            raise program_failure(
                ended.failure_text,
                wanted.image,
                wanted.found.registry,
                bench.skopeo.root,
                bench.auth,
                wanted.found.archive,
            )
        image = self._checked()
        self._count(sum(layer.size_bytes for layer in self._missing()))
        with storage_failing("sync", bench.skopeo.root):
            sync_file_system(bench.skopeo.root)
        return image

    def _checked(self) -> Image:
        """What was copied, if it is what was wanted."""
        image, wanted = self._storage.pulled(self._name), self._wanted
        if image is None:
            if not any(self._name in (each.names or ()) for each in self._storage.stored_images()):
                # Other programs remove images that no container has.
                raise Removed
            raise damaged(wanted.image, "its config is none, or layers of it are missing")
        if image.image_id != wanted.image_id:
            if wanted.is_by_tag:
                raise Moved(wanted.found.registry)
            problem = f"skopeo has copied {image.image_id} in place of {wanted.image_id}"
            raise ImagesFailed(problem, image=wanted.image, output="")
        there = image.file.platform
        # Some images say nothing of it.
        if there.architecture and not wanted.platform.accepts(there):
            raise platform_missing(wanted.image, wanted.platform, str(there))
        return image

    def _stored(self) -> frozenset[str]:
        """The layers of the image that are in the store, by their digests."""
        digests = {each.digest for each in self._wanted.manifest.layers}
        layers = self._storage.stored_layers().values()
        whole = [each for each in layers if each.is_whole and each.is_of(digests)]
        for each in whole:
            for digest in (each.packed_digest, each.diff_digest):
                self._unpacked[digest] = each.size_bytes
        return frozenset(
            digests.intersection(
                digest for each in whole for digest in (each.packed_digest, each.diff_digest)
            )
        )

    def _missing(self) -> Iterator[Blob]:
        """The layers that were not in the store."""
        layers = self._wanted.manifest.layers
        return (each for each in layers if each.digest not in self._present)

    def _count(self, received_bytes: int) -> None:
        metrics.PULLED_BYTES.add(by=max(received_bytes - self._counted_bytes, 0))
        self._counted_bytes = max(received_bytes, self._counted_bytes)

    def _tick(self) -> None:
        if self._foreign.look():
            raise Moved(self._wanted.found.registry)
        received = received_files(self._bench.directory)
        self._require_bounds(received)
        stored = self._stored()
        if stored != self._synced and (self._syncing is None or not self._syncing.is_alive()):
            # Now and not at the end, when nothing else would go on meanwhile.
            self._synced = stored
            self._syncing = Thread(target=self._sync, name="sync", daemon=True)
            self._syncing.start()
        layers = layers_progress(
            self._wanted.manifest.layers,
            received,
            stored - self._present,
            self._present,
        )
        progress = PullProgress(
            self._wanted.found.digest,
            sum(each.size_bytes for each in self._missing()),
            sum(each.received_bytes for each in layers),
            tuple(layers),
        )
        self._count(progress.received_bytes)
        if progress != self._reported:
            self._reported = progress
            self._report(progress)

    def _require_bounds(self, received: Sequence[int]) -> None:
        """Refuse what is more than the manifest says, before it takes the disk from others."""
        wanted = self._wanted
        # skopeo packs a layer once more, as plain tar, that is in the store above another one.
        again = sum(self._unpacked.get(each.digest, 0) for each in wanted.layers)
        # Of an archive, whose files are no larger than it, not all sizes are known.
        if wanted.found.registry and sum(received) > wanted.limit_bytes + again:
            if wanted.is_by_tag:
                raise Moved(wanted.found.registry)
            raise damaged(wanted.image, "the registry sends more than its manifest says")
        for path in (self._bench.directory, self._bench.skopeo.root):
            require_room(path)

    def _sync(self) -> None:
        try:
            sync_file_system(self._bench.skopeo.root)
        except OSError as error:
            # The last one decides.
            log.warning("pull.sync_failed", error=str(error))
