"""What the face of images needs of an engine."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Protocol

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
from ocigrpc.oci.images.archive import ArchiveForm
from ocigrpc.waiting import Deadline


class Images(Protocol):
    """The verbs that handlers call, one for each RPC of the same stem.

    :class:`ocigrpc.engine.images.images.Images` has them, and documents each.
    """

    def pull(
        self, request: PullRequest, deadline: Deadline
    ) -> Generator[PullProgress | ImageView]: ...
    def list_images(
        self, image_filter: ImageFilter, after: Position | None = None
    ) -> Iterator[ImageView]: ...
    def status(self, image: str) -> ImageDetail: ...
    def remove(self, image: str, all_names: bool, deadline: Deadline) -> RemovedImage: ...
    def tag(self, image: str, name: str, deadline: Deadline) -> Tagged: ...
    def prune(self, request: PruneRequest, deadline: Deadline) -> Pruned: ...
    def fs_info(self) -> FsInfo: ...
    def save(self, image: str, form: ArchiveForm, deadline: Deadline) -> Generator[bytes]: ...
    def load(
        self, name: str, pieces: Iterable[bytes], deadline: Deadline
    ) -> Sequence[ImageView]: ...
