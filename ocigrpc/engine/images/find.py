"""From what a client calls an image to the image."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.images.short_names import short_names
from ocigrpc.engine.images.storage import Image, Snapshot
from ocigrpc.errors import InvalidArgument
from ocigrpc.image_errors import ImageNotFound
from ocigrpc.oci.images.reference import (
    LOCAL_REGISTRY,
    Reference,
    image_id_of,
    references,
)


@contextmanager
def naming_field(field: str) -> Iterator[None]:
    """Raise ``InvalidArgument`` (INVALID_IMAGE_NAME) for what is no name of an image."""
    try:
        yield
    except ValueError as error:
        raise InvalidArgument.of(field, str(error), reason="INVALID_IMAGE_NAME") from error


def new_name(text: str, field: str) -> str:
    """The whole name that an image is to have; a short one is of the node itself.

    Raises ``InvalidArgument`` (INVALID_IMAGE_NAME).
    """
    with naming_field(field):
        wanted = Reference.parse(text)
        if wanted.is_short:
            wanted = wanted.at(LOCAL_REGISTRY)
    if wanted.digest:
        problem = "must not have a digest, which is another image's or the same"
        raise InvalidArgument.of(field, problem, reason="INVALID_IMAGE_NAME")
    return str(wanted.tagged())


class Finder:
    """Finds the images of one store by what clients call them.

    ``registries_conf`` is the file of that setting, which says with others what short names mean.
    """

    def __init__(self, records: ImageRecords, registries_conf: str) -> None:
        self._records = records
        self.registries_conf = registries_conf

    def get(self, snapshot: Snapshot, text: str) -> Image:
        """The image with this id or name. Raises ``ImageNotFound``, and as :meth:`find`."""
        if (image := self.find(snapshot, text)) is None:
            raise ImageNotFound.of(text)
        return image

    def find(self, snapshot: Snapshot, text: str) -> Image | None:
        """The image with this id or name; None if there is none.

        Raises ``InvalidArgument``, and of a short name ``HostFailed`` for a registries.conf that
        can't be used.
        """
        if image_id := image_id_of(text):
            return snapshot.images.get(image_id)
        for reference in self._meant(text):
            for image in snapshot.images.values():
                if self._names_of(image, reference):
                    return image
        return None

    def names_meant(self, image: Image, text: str) -> tuple[str, ...]:
        """The names of an image that a name, by which it was found, stands for."""
        found = (self._names_of(image, each) for each in self._meant(text))
        return next(filter(None, found), ())

    def has_digest(self, image: Image, repository: str, digest: str) -> bool:
        """Whether an image is what a repository has by a digest, or had when it was pulled.

        It is of no ``repository`` if that is empty.
        """
        if not repository:
            return False
        return bool(self._names_of(image, Reference("", repository, digest=digest)))

    def _meant(self, text: str) -> Sequence[Reference]:
        """The names that a name can stand for: itself, or those of a short one."""
        with naming_field("image"):
            reference = Reference.parse(text)
            if not reference.is_short:
                return (reference,)
            return short_names(self.registries_conf).known(reference)

    def _names_of(self, image: Image, wanted: Reference) -> tuple[str, ...]:
        """The names of an image that a whole name stands for; with a digest, whatever their tags.

        The digest is one that the store has, or that a name stood for when it was pulled: of an
        image that others have pulled since, the store may have another one.
        """
        if not wanted.digest:
            name = str(wanted.tagged())
            return (name,) if name in image.names else ()
        has_manifest = image.has_manifest(wanted.digest)
        record = self._records.get(image.image_id)
        known = record.digests if record is not None else {}
        return tuple(
            name
            for name, each in references(image.names).items()
            if each.repository == wanted.repository
            and (has_manifest or wanted.digest in (each.digest, known.get(name)))
        )


def is_pinned(name: str, patterns: Iterable[str]) -> bool:
    """Whether nothing removes an image with this name: see the setting ``images.pinned``."""
    return any(fnmatch.fnmatchcase(name, each) for each in patterns)
