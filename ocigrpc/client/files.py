"""The calls about files of containers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ocigrpc.client.connection import Connection
from ocigrpc.client.failures import translated
from ocigrpc.client.pieces import Pieces
from ocigrpc.client.stream import Stream
from ocigrpc.v1 import copy_pb2


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
        archive = Pieces(pieces)

        def requests() -> Iterator[copy_pb2.CopyIntoRequest]:
            start = copy_pb2.CopyIntoStart(
                container_id=container_id, path=path, keep_types=keep_types, chown=chown
            )
            yield copy_pb2.CopyIntoRequest(start=start)
            for chunk in archive.chunks():
                yield copy_pb2.CopyIntoRequest(chunk=chunk)

        with archive.failing(), translated(self.address):
            return self._runtime.CopyInto(requests(), timeout=timeout_s)
