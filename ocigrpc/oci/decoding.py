"""JSON of registries and of other programs, into types."""

from __future__ import annotations

from typing import Protocol, TypeVar

_T = TypeVar("_T", covariant=True)


class _Decoder(Protocol[_T]):
    """A decoder of msgspec for one type."""

    def decode(self, buf: bytes | str, /) -> _T: ...


def decoded(decoder: _Decoder[_T], text: bytes | str) -> _T:
    """The value of a JSON text. Raises ``ValueError``, also for what is nested too deeply."""
    try:
        return decoder.decode(text)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
