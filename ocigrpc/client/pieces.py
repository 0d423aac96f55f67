"""An archive that a client sends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ocigrpc.errors import OcigrpcError

# Longest piece of an archive that the service takes.
_CHUNK_BYTES = 1 << 20


class Pieces:
    """Pieces of any size, which gRPC reads in another thread; what they raise is not lost."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self._failure: Exception | None = None

    def chunks(self) -> Iterator[bytes]:
        """All of them, in sizes that the service takes, until one fails."""
        try:
            for piece in self._pieces:
                for first in range(0, len(piece), _CHUNK_BYTES):
                    yield piece[first : first + _CHUNK_BYTES]
        except Exception as error:
            # The service refuses an archive without its end. What is raised here, gRPC logs.
            self._failure = error

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Raise, for a call in a ``with``, what they have raised, whatever the call raises."""
        try:
            yield
        except OcigrpcError:
            if self._failure is None:
                raise
        if self._failure is not None:
            raise self._failure
