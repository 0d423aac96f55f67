"""Pulls: resolved once, joined, whole or not there.

An image gets its names when all of it is on the disk, by one write of the storage's list; until
then it has a temporary one, and none that anybody asks for. What is to be undone if that does not
come to its end is in the service's store before anything changes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, suppress
from functools import partial

from ocigrpc import metrics
from ocigrpc.engine.images.failures import storage_failing, tag_moving
from ocigrpc.engine.images.find import Finder
from ocigrpc.engine.images.program import bench
from ocigrpc.engine.images.pulling.copying import Copy, Moved, Removed
from ocigrpc.engine.images.pulling.job import Job
from ocigrpc.engine.images.pulling.places import Places
from ocigrpc.engine.images.pulling.sources import (
    Resolver,
    Source,
    platform_of,
    source_of,
)
from ocigrpc.engine.images.pulling.tidying import Tidying
from ocigrpc.engine.images.pulling.wanted import Wanted
from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.images.storage import Image, Storage
from ocigrpc.engine.model.image_records import PullRecord
from ocigrpc.engine.model.pulls import PullProgress, PullRequest
from ocigrpc.errors import Cancelled, OcigrpcError, Timeout
from ocigrpc.image_errors import ImagesFailed
from ocigrpc.log import get_logger
from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.reference import references
from ocigrpc.oci.images.skopeo import pulled_name
from ocigrpc.oci.images.storage import stored_images
from ocigrpc.oci.images.storage_edit import with_pulled
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline

# So many times as many names are resolved at once as images are pulled.
_RESOLVED_PER_PULL = 4
# How often an image is pulled that others remove meanwhile.
_ATTEMPTS = 8
# How often a name is resolved that is another image when it is copied.
_RESOLUTIONS = 3

# How long the end of all pulls waits for those that a disk holds up: the next start undoes them.
_CLOSE_S = 30.0

log = get_logger()


class Pulls:
    """All pulls of one storage."""

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        records: ImageRecords,
        finder: Finder,
        tidying: Tidying,
    ) -> None:
        self.settings = settings
        self._storage = storage
        self._records = records
        self._finder = finder
        self._lock = threading.Lock()
        self._jobs: dict[object, Job] = {}
        self._copying = Places(lambda: self.settings.images.parallel_pulls)
        self._resolving = Places(lambda: _RESOLVED_PER_PULL * self.settings.images.parallel_pulls)
        self._tidying = tidying

    def reload(self, settings: Settings) -> None:
        """Use other settings from now on, with the same directories."""
        self.settings = settings
        self._copying.look_again()
        self._resolving.look_again()

    def recover(self) -> None:
        """Undo in the background what was cut off; raises ``StoreFailed``."""
        going = self._tidying.recover()
        try:
            # Its disk may be mounted later.
            if self._storage.is_there():
                stored = {each.id for each in self._storage.stored_images()}
                self._records.forget_all_but(stored.union(going))
        except ImagesFailed as error:
            log.error("images.not_read", error=error.message)

    def close(self) -> None:
        """Give up all pulls, and undo them, unless a disk holds that up."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            job.deadline.cancel()
        deadline = Deadline(_CLOSE_S)
        with suppress(Timeout):
            for job in jobs:
                deadline.wait(job.ended)

    def pull(
        self, request: PullRequest, deadline: Deadline
    ) -> Generator[PullProgress, None, Image]:
        """How far it is, and then the image, which has its name."""
        result, began_s, moves = "present", time.monotonic(), 0
        try:
            for _ in range(_ATTEMPTS):
                try:
                    image, was_pulled = yield from self._pulled(request, deadline)
                    result = "pulled" if was_pulled else result
                    return image
                except Removed:
                    pass
                except Moved as error:
                    moves += 1
                    if moves == _RESOLUTIONS:
                        raise tag_moving(request.image, error.registry) from error
            problem = f"others have removed image {request.image!r} {_ATTEMPTS} times meanwhile"
            raise ImagesFailed(problem, image=request.image, output=problem)
        except OcigrpcError as error:
            result = error.reason
            raise
        except GeneratorExit:
            result = Cancelled.reason
            raise
        finally:
            metrics.PULL_DURATION.observe(time.monotonic() - began_s, result)

    def running(self) -> int:
        """How many images are pulled now, or wait for their turn."""
        return len(self._jobs)

    def _pulled(
        self, request: PullRequest, deadline: Deadline
    ) -> Generator[PullProgress, None, tuple[Image, bool]]:
        """The same, and whether it was pulled for that.

        Raises ``Removed`` if somebody has removed the image meanwhile.
        """
        settings = self.settings
        source, platform = source_of(request, settings.images), platform_of(request)
        # Before it waits for a place, which registries that hang may have.
        if (named := self._named(request, source, platform)) is not None:
            return named, False
        with ExitStack() as resolving:
            resolving.enter_context(self._resolving.taken(deadline))
            tools = resolving.enter_context(bench(settings))
            resolver = Resolver(request, platform, settings.images, tools, deadline)
            found = resolver.find(source)
            names = {found.name: found.digest}
            there = self._present(found.repository, found.digest, platform)
            if there is not None and found.tagged and not self._has_names(there, names):
                # A signature may be for the tag that it has, and for no other one.
                there = None if tools.wants_signatures else there
            if there is None:
                wanted = resolver.choose(found)
        if there is not None:
            return self._give_names(there.image_id, "", names, deadline), False
        return (yield from self._copied(wanted, deadline))

    def _copied(
        self, wanted: Wanted, deadline: Deadline
    ) -> Generator[PullProgress, None, tuple[Image, bool]]:
        """The image, and whether it was copied, as it is unless it is there."""
        found = wanted.found
        while True:
            if not wanted.is_by_tag and self._present(
                found.repository, found.digest, wanted.platform, wanted.image_id
            ):
                names = {found.name: found.digest}
                return self._give_names(wanted.image_id, "", names, deadline), False
            job = self._job(wanted)
            if (caller := job.join(found.name)) is None:
                deadline.wait(job.ended)
                continue
            try:
                return (yield from job.follow(caller, deadline)), True
            finally:
                job.leave(caller)

    def _named(self, request: PullRequest, source: Source, platform: Platform) -> Image | None:
        """The image that has the name already, if nothing else is asked for."""
        for name in source.known if request.only_if_missing else source.names:
            image = None
            if name.digest:
                image = self._present(name.repository, name.digest, platform)
            elif request.only_if_missing:
                image = self._storage.snapshot().named(str(name))
            if image is not None and _fits(image, platform):
                return image
        return None

    def _present(
        self, repository: str, digest: str, platform: Platform, image_id: str = ""
    ) -> Image | None:
        """The image of a digest, or of an id, if the storage has it of the same repository.

        Of another one it is copied, since a policy may deny this one; that takes no bytes.
        """
        for image in self._storage.snapshot().images.values():
            is_meant = image.image_id == image_id or image.has_manifest(digest)
            if not is_meant and not self._finder.has_digest(image, repository, digest):
                continue
            repositories = {each.repository for each in references(image.names).values()}
            if _fits(image, platform) and repository in ("", *repositories):
                return image
        return None

    def _job(self, wanted: Wanted) -> Job:
        """The pull of this image, begun if there is none."""
        with self._lock:
            job = self._jobs.get(wanted.key)
            if job is None:
                job = Job(wanted)
                work = partial(self._run, job)
                threading.Thread(target=work, name="pull", daemon=True).start()
                self._jobs[wanted.key] = job
            return job

    def _run(self, job: Job) -> None:
        failure: BaseException | None = None
        try:
            with self._copying.taken(job.deadline):
                self._pull(job)
        except BaseException as error:
            failure = error
        with self._lock:
            del self._jobs[job.wanted.key]
        job.end(failure)

    def _pull(self, job: Job) -> None:
        wanted, settings = job.wanted, self.settings
        record = PullRecord(
            job.pull_id,
            wanted.found.source,
            wanted.found.digest,
            wanted.platform,
            tuple(wanted.blobs),
            time.time_ns(),
            wanted.image_id,
            is_by_tag=wanted.is_by_tag,
        )
        # In this order: what is to be undone may need the room of what the bench has.
        with self._tidying.changing(record, job.deadline) as learn, bench(settings) as tools:
            copy = Copy(wanted, job.pull_id, self._storage, tools, job.report, learn)
            image = copy.run(job.deadline)
            digests = dict.fromkeys(job.close(), wanted.found.digest)
            # The last caller may have gone during the last sync, which nothing cuts off.
            job.deadline.check()
            temporary = pulled_name(job.pull_id)
            job.image = self._give_names(image.image_id, temporary, digests, job.deadline)

    def _give_names(
        self, image_id: str, temporary: str, digests: Mapping[str, str], deadline: Deadline
    ) -> Image:
        """Give an image names, in place of a temporary one, unless it has them; the image then."""
        image = self._storage.snapshot().images.get(image_id)
        # One without a name may be about to go.
        if not temporary and image is not None and image.names and self._has_names(image, digests):
            return image
        with self._tidying.naming(image_id, deadline):
            image = self._storage.snapshot().images.get(image_id)
            if temporary or image is None or not self._has_names(image, digests):
                self._name(image_id, temporary, digests, deadline)
                image = self._storage.snapshot().images.get(image_id)
        if image is None:
            raise Removed
        return image

    def _has_names(self, image: Image, digests: Mapping[str, str]) -> bool:
        record = self._records.get(image.image_id)
        known = record.digests if record is not None else {}
        return all(
            not name or (name in image.names and known.get(name) == digest)
            for name, digest in digests.items()
        )

    def _name(
        self, image_id: str, temporary: str, digests: Mapping[str, str], deadline: Deadline
    ) -> None:
        names = [name for name in digests if name]
        losers, had = list[tuple[str, str]](), list[str]()

        def edit(text: bytes) -> bytes:
            images = stored_images(text)
            if image_id not in [each.id for each in images]:
                raise Removed
            had.extend(name for each in images if each.id == image_id for name in each.names or ())
            losers.extend(
                (each.id, name)
                for each in images
                for name in each.names or ()
                if each.id != image_id and name in names
            )
            return with_pulled(text, image_id, temporary, names)

        with storage_failing("name an image in", str(self._storage.root)):
            self._storage.edit_images(edit, deadline)
        self._records.pulled(image_id, digests, losers, had)


def _fits(image: Image, platform: Platform) -> bool:
    own = image.file.platform
    # Some images say nothing of it.
    return not own.architecture or platform.accepts(own)
