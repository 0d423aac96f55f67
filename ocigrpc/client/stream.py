"""What a call answers with piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

import grpc

from ocigrpc.client.failures import failure_of
from ocigrpc.closing import Closing

_Item_co = TypeVar("_Item_co", covariant=True)


class _Cancellable(Protocol):
    """A call under way, as gRPC has it."""

    def cancel(self) -> bool: ...


class Stream(Closing, Iterator[_Item_co]):
    """An iterator of what a call answers with; a context manager that ends the call.

    One thread reads. ``close`` cancels the call, and may be called by any thread: a read that
    waits then ends, and the iteration with it. A stream that nobody refers to closes itself.
    """

    def __init__(self, call: _Cancellable, items: Iterator[_Item_co], address: str) -> None:
        self._call = call
        self._items = items
        self._address = address
        self._is_closed = False

    def __next__(self) -> _Item_co:
        try:
            return next(self._items)
        except grpc.RpcError as error:
            if self._is_closed:
                raise StopIteration from None
            raise failure_of(error, self._address) from None

    def close(self) -> None:
        """End the call; may be called twice, and after its end."""
        self._is_closed = True
        self._call.cancel()
