"""The images of a storage without a service around them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ocigrpc.engine.images.images import Images
from ocigrpc.engine.store.store import Store
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.settings.values import Settings


@contextmanager
def opened_images(directory: Path, images: ImagesSettings) -> Iterator[Images]:
    """Images whose records and root filesystems are below ``directory``, for a block."""
    settings = Settings(root_dir=str(directory), images=images)
    with (
        closing(Store(directory / "ocigrpc.db", 100)) as store,
        closing(Images(settings, store)) as opened,
    ):
        yield opened
