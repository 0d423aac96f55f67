"""The calls about files of containers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ocigrpc.client.connection import Connection
from ocigrpc.client.failures import translated
from ocigrpc.client.stream import Stream
from ocigrpc.errors import OcigrpcError
from ocigrpc.v1 import copy_pb2

# Longest piece of an archive that the service takes.
_CHUNK_BYTES = 1 << 20


class Files(Connection):
    """Those methods of :class:`ocigrpc.client.Client` that copy files."""

    def path_stat(
        self, container_id: str, path: str, *, follow_link: bool = False
    ) -> copy_pb2.PathStat:
        """What is at a path in a container; raises ``PathNotFound``."""
        request = copy_pb2.CopyOutRequest(
            container_id=container_id, path=path, follow_link=follow_link, stat_only=True
        )
        with self._stream(self._runtime.CopyOut(request, timeout=self._timeout_s)) as answer:
            return next(answer).stat

    def copy_out(
        self,
        container_id: str,
        path: str,
        *,
        follow_link: bool = False,
        name: str = "",
        timeout_s: float | None = None,
    ) -> Stream[bytes]:
        """A tar archive of what is at a path in a container, in pieces.

        It is whole only if it ends without an exception. ``name`` is in place of the path's own.
        """
        request = copy_pb2.CopyOutRequest(
            container_id=container_id, path=path, follow_link=follow_link, name=name
        )
        answer = self._runtime.CopyOut(request, timeout=timeout_s)
        pieces = (each.chunk for each in answer if each.WhichOneof("content") == "chunk")
        return Stream(answer, pieces, self.address)

    def copy_into(
        self,
        container_id: str,
        path: str,
        pieces: Iterable[bytes],
        *,
        keep_types: bool = False,
        chown: bool = False,
        timeout_s: float | None = None,
    ) -> copy_pb2.CopyIntoResponse:
        """Put the files of a tar archive into a directory of a container.

        ``pieces``, of any size, are read by another thread; what they raise ends the call, and is
        raised.
        """
        failures: list[Exception] = []

        def requests() -> Iterator[copy_pb2.CopyIntoRequest]:
            start = copy_pb2.CopyIntoStart(
                container_id=container_id, path=path, keep_types=keep_types, chown=chown
            )
            yield copy_pb2.CopyIntoRequest(start=start)
            try:
                for piece in pieces:
                    for first in range(0, len(piece), _CHUNK_BYTES):
                        chunk = piece[first : first + _CHUNK_BYTES]
                        yield copy_pb2.CopyIntoRequest(chunk=chunk)
            except Exception as error:
                # The service refuses an archive without its end. What is raised here, gRPC logs.
                failures.append(error)

        try:
            with translated(self.address):
                return self._runtime.CopyInto(requests(), timeout=timeout_s)
        except OcigrpcError:
            if failures:
                raise failures[0] from None
            raise
