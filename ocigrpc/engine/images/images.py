"""The images of a node, as the verbs that a face asks for."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from operator import attrgetter

from ocigrpc.engine.images.archives import Archives
from ocigrpc.engine.images.find import Finder, new_name
from ocigrpc.engine.images.layers.usage import WritableLayers, fs_info, layers_bytes
from ocigrpc.engine.images.prune import Prune
from ocigrpc.engine.images.pulling.pulls import Pulls
from ocigrpc.engine.images.pulling.tidying import Tidying
from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.images.removal import Removal
from ocigrpc.engine.images.rootfs import Roots
from ocigrpc.engine.images.storage import Image, Snapshot, Storage
from ocigrpc.engine.images.views import Views
from ocigrpc.engine.model.images import (
    FsInfo,
    ImageDetail,
    ImageFilter,
    ImageView,
    Pruned,
    PruneRequest,
    RemovedImage,
    Tagged,
)
from ocigrpc.engine.model.pulls import PullProgress, PullRequest
from ocigrpc.engine.model.values import Position
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import InvalidArgument
from ocigrpc.image_errors import ImageNotFound
from ocigrpc.oci.images.archive import ArchiveForm
from ocigrpc.oci.images.storage import stored_images
from ocigrpc.oci.images.storage_edit import with_name
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline


class Images:
    """The images of one store.

    Methods answer the RPCs of ``ImageService`` of the same stem, whose comments document what
    they do and how they fail.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        """Raises ``StoreFailed``."""
        self._storage = Storage(settings.images_root)
        self._records = ImageRecords(store)
        self._finder = Finder(self._records, settings.images.registries_conf)
        self.roots = Roots(settings, store, self._storage, self._finder)
        self._tidying = Tidying(settings, self._storage, store, self.roots, self._records)
        self._pulls = Pulls(settings, self._storage, self._records, self._finder, self._tidying)
        self.roots.when_released = self._records.used
        self.roots.when_unused = self._tidying.remove_later
        self._usage = WritableLayers(self.roots.writable, settings.images.usage_interval_s)
        self.reload(settings)

    def end_leftovers(self) -> None:
        """End what an earlier service has begun with images, before this one begins anything."""
        self._tidying.end_leftovers()

    def recover(self) -> None:
        """Undo pulls and finish removals that were cut off, in the background.

        Raises ``StoreFailed``.
        """
        self._pulls.recover()
        self._usage.start()

    def close(self) -> None:
        """Give up all pulls."""
        self._usage.close()
        self._pulls.close()
        self._tidying.close()
        self.roots.close()

    def reload(self, settings: Settings) -> None:
        """Use other settings from now on, with the same directories."""
        self._finder.registries_conf = settings.images.registries_conf
        self._removal = Removal(
            self._storage, self._finder, self.roots, self._records, self._tidying, settings
        )
        self._views = Views(self._storage, self._records, self.roots, settings.images.pinned)
        self._prune = Prune(self._storage, self.roots, self._removal, self._views)
        self._pulls.reload(settings)
        self._tidying.settings = settings
        self._archives = Archives(settings, self._storage, self._finder, self._pulls)
        self._usage.interval_s = settings.images.usage_interval_s

    def pull(self, request: PullRequest, deadline: Deadline) -> Generator[PullProgress | ImageView]:
        """How far the pull is, and then the image."""
        image = yield from self._pulls.pull(request, deadline)
        yield self._views.of(self._storage.snapshot(), image)

    def list_images(
        self, image_filter: ImageFilter, after: Position | None = None
    ) -> Iterator[ImageView]:
        """The images that match, those that came last first, behind ``after``."""
        snapshot = self._storage.snapshot()
        views = self._views.all_of(snapshot, self._referred(snapshot, image_filter))
        matching = (
            each
            for each in views
            if image_filter.matches(each) and (after is None or after < each.position)
        )
        return iter(sorted(matching, key=attrgetter("position")))

    def status(self, image: str) -> ImageDetail:
        """All that is known of an image."""
        snapshot = self._storage.snapshot()
        found = self._finder.get(snapshot, image)
        return ImageDetail(
            view=self._views.of(snapshot, found),
            config=found.file.config,
            layers=tuple(self._views.layers(snapshot, found)),
            history=found.file.history,
            author=found.file.author,
        )

    def remove(self, image: str, all_names: bool, deadline: Deadline) -> RemovedImage:
        """Take a name, or an image."""
        return self._removal.remove(image, all_names, deadline)

    def prune(self, request: PruneRequest, deadline: Deadline) -> Pruned:
        """Remove what nobody uses."""
        return self._prune.prune(request, deadline)

    def fs_info(self) -> FsInfo:
        """What images take."""
        return fs_info(self._storage, self.roots.by_image().keys(), self._usage.figures())

    def count_and_bytes(self) -> tuple[int, int]:
        """How many images there are, and the bytes of their layers, each counted once."""
        images = self._storage.snapshot().images.values()
        return len(images), layers_bytes(images)

    def pulls_running(self) -> int:
        """How many images are pulled now, or wait for their turn."""
        return self._pulls.running()

    def save(self, image: str, form: ArchiveForm, deadline: Deadline) -> Generator[bytes]:
        """An image as an archive, in pieces."""
        return self._archives.save(image, form, deadline)

    def load(self, name: str, pieces: Iterable[bytes], deadline: Deadline) -> Sequence[ImageView]:
        """Add the images of an archive; those that are still there then, in its order."""
        image_ids = self._archives.load(name, pieces, deadline)
        snapshot = self._storage.snapshot()
        found = (snapshot.images.get(each) for each in image_ids)
        return list(self._views.all_of(snapshot, filter(None, found)))

    def tag(self, image: str, name: str, deadline: Deadline) -> Tagged:
        """Give an image a further name."""
        whole = new_name(name, "name")
        snapshot = self._storage.snapshot()
        found = self._finder.get(snapshot, image)
        if snapshot.named(whole) is found:
            return Tagged(whole)
        had = list[str]()

        def add(text: bytes) -> bytes:
            images = stored_images(text)
            if found.image_id not in {each.id for each in images}:
                raise ImageNotFound.of(image)
            had.extend(each.id for each in images if whole in (each.names or ()))
            return with_name(text, found.image_id, whole)

        with self._tidying.naming(found.image_id, deadline):
            self._storage.edit_images(add, deadline)
        if found.image_id in had:
            # Another call was faster.
            return Tagged(whole)
        loser = next(iter(had), "")
        self._records.tagged(found.image_id, whole, loser)
        return Tagged(whole, loser)

    def _referred(self, snapshot: Snapshot, image_filter: ImageFilter) -> Sequence[Image]:
        """The images that the filter's ``reference`` is for."""
        wanted = image_filter.reference
        if not wanted:
            return list(snapshot.images.values())
        found = [
            each
            for each in snapshot.images.values()
            if image_filter.refers_to(each.image_id, each.names)
        ]
        if found or "*" in wanted:
            return found
        # Neither an id nor a whole name: perhaps a short one.
        with suppress(InvalidArgument):
            named = self._finder.find(snapshot, wanted)
            return [named] if named is not None else []
        return []
