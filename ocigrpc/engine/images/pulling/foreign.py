"""The layers that skopeo makes of another image than was wanted, when a tag has moved meanwhile.

Nobody knows them before, and at the same time other programs may bring layers of theirs. So those
are ours that are made of a file which skopeo has received here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

from ocigrpc.engine.images.program import received_paths
from ocigrpc.engine.images.pulling.wanted import Wanted
from ocigrpc.engine.images.storage import Storage


class ForeignLayers:
    """Those of one copy; ``learn`` is called with the digests of their blobs."""

    def __init__(
        self,
        wanted: Wanted,
        storage: Storage,
        directory: str,
        learn: Callable[[Collection[str]], None],
    ) -> None:
        self._wanted = wanted
        self._storage = storage
        self._directory = directory
        self._learn = learn
        # Those that were there before, or have been looked at.
        self._known = {each.identity for each in storage.stored_layers().values()}

    def look(self) -> bool:
        """Whether there are any by now that have not been learnt. Raises ``StoreFailed``."""
        if not self._wanted.is_by_tag:
            return False
        if found := list(self._found()):
            self._learn(found)
        return bool(found)

    def _found(self) -> Iterator[str]:
        blobs, received = self._wanted.blobs, received_paths(self._directory)
        paths = {size: path for path, size in received}
        for layer in self._storage.stored_layers().values():
            path = paths.get(layer.packed_size)
            if path is None or layer.identity in self._known or layer.is_of(blobs):
                continue
            self._known.add(layer.identity)
            # skopeo removes them at its end.
            with suppress(OSError):
                if _digest(path) == layer.packed_digest:
                    yield layer.packed_digest


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
