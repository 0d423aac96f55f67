"""Long lists in parts: pages that a client requests, and messages of a stream.

See https://google.aip.dev/158. A token names the last container of a page, so that no container
is repeated or missed on the next one, even if others come and go meanwhile.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol, TypeVar

import msgspec
from google.protobuf.message import Message

from ocigrpc.engine.model.values import Position
from ocigrpc.oci.decoding import decoded
from ocigrpc.v1 import runtime_pb2
from ocigrpc.violations import Violations

# Most processes of a page: the kernel works for each.
PROCESSES_LIMIT = 1000

# Most bytes of a list in one message, which then fits the 4 MiB that clients of gRPC accept by
# default. One container takes at most a sixth of that.
ANSWER_LIMIT_BYTES = 3 << 20

# Bytes of an entry besides its content: tag and length.
_ENTRY_BYTES = 8

_TOKEN_LIMIT_BYTES = 512

_E = TypeVar("_E", bound="_Entries")
_M = TypeVar("_M", bound=Message)
_T = TypeVar("_T")


class Page(NamedTuple):
    """The requested part of a list: the container before it, and the most entries.

    ``filter_mark`` is a hash of the request's filter, which must be the same for all pages.
    """

    after: Position | None
    size: int
    filter_mark: str


class _Token(msgspec.Struct, frozen=True, array_like=True):
    created_ns: int
    container_id: str
    filter_mark: str


# Made at import: msgspec crashes when two threads use a type for the first time.
_TOKEN = msgspec.json.Decoder(_Token)


class _Entries(Protocol):
    def __delitem__(self, index: int, /) -> None: ...


class _Paged(Protocol):
    @property
    def page_size(self) -> int: ...
    @property
    def page_token(self) -> str: ...


def page_of(request: _Paged, wanted: bytes) -> Page:
    """The requested page of a list; ``wanted`` is what selects its items: a filter or an id.

    Raises ``InvalidArgument`` (OUT_OF_RANGE, INVALID_PAGE_TOKEN).
    """
    violations = Violations()
    violations.allow(request.page_size >= 0, "page_size", "is negative", "OUT_OF_RANGE")
    filter_mark = hashlib.blake2b(wanted, digest_size=8).hexdigest()
    token = _token_of(request.page_token)
    violations.allow(
        not request.page_token or (token is not None and token.filter_mark == filter_mark),
        "page_token",
        "is none of this service's for this filter",
        "INVALID_PAGE_TOKEN",
    )
    violations.raise_any()
    after = None if token is None else (token.created_ns, token.container_id)
    return Page(after, request.page_size, filter_mark)


class _Filtered(_Paged, Protocol):
    @property
    def filter(self) -> runtime_pb2.ContainerFilter: ...


def filtered_page_of(request: _Filtered) -> Page:
    """The page of the containers that match a request's filter; raises what that does."""
    return page_of(request, request.filter.SerializeToString(deterministic=True))


def fill_page(
    entries: _E, items: Iterable[_T], add: Callable[[_E, _T], tuple[Position, int]], page: Page
) -> str:
    """Fill a list of an answer; the token of the next page, empty for the last one.

    ``add`` makes an entry of an item, and gives where it stands and its size in bytes. It makes
    the entry in place: protobuf copies a message that is passed.
    """
    size_bytes = 0
    last: Position | None = None
    for count, item in enumerate(items):
        position, entry_bytes = add(entries, item)
        size_bytes += entry_bytes
        if last is not None and (count == page.size > 0 or size_bytes > ANSWER_LIMIT_BYTES):
            del entries[-1]
            token = msgspec.json.encode(_Token(*last, page.filter_mark))
            return base64.urlsafe_b64encode(token).decode()
        last = position
    return ""


def size_of(entry: Message) -> int:
    """The most bytes that an entry of a list takes."""
    return entry.ByteSize() + _ENTRY_BYTES


def parts(messages: Iterable[_M]) -> Iterator[list[_M]]:
    """The messages in parts that each fit an answer; at least one part."""
    part: list[_M] = []
    size_bytes = 0
    for message in messages:
        size_bytes += size_of(message)
        if part and size_bytes > ANSWER_LIMIT_BYTES:
            yield part
            part, size_bytes = [], size_of(message)
        part.append(message)
    yield part


def _token_of(text: str) -> _Token | None:
    if not text or len(text) > _TOKEN_LIMIT_BYTES:
        return None
    try:
        return decoded(_TOKEN, base64.b64decode(text.encode(), altchars=b"-_", validate=True))
    except ValueError:
        # Also of base64, and of text that is none.
        return None
