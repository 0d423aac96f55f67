"""Where a frame of HTTP/2 ends in a stream of bytes, and the frame that sends clients away."""

from __future__ import annotations

_HEAD_BYTES = 9
_HEADERS, _PUSH_PROMISE, _CONTINUATION = 1, 5, 9
_END_HEADERS = 0x4

# RFC 9113, section 6.8. Its stream is the greatest one: all that the client has begun are still
# served. It begins further ones at another connection, and closes this one after the last.
GOAWAY = bytes.fromhex("000008 07 00 00000000 7fffffff 00000000")


class Frames:
    """Follows the frames that a server sends; RFC 9113, section 4.1."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._in_headers = False
        self._is_first = True

    def gap(self) -> bool:
        """Whether another frame may be sent now: not within one, and not before the first."""
        return not (self._head or self._left or self._in_headers or self._is_first)

    def pass_on(self, data: bytes) -> int:
        """Follow further data; the last position in it where :meth:`gap` holds, or 0."""
        found = position = 0
        while position < len(data):
            if not self._left:
                taken = data[position : position + _HEAD_BYTES - len(self._head)]
                self._head += taken
                position += len(taken)
                if len(self._head) < _HEAD_BYTES:
                    break
                self._begin()
            taken_bytes = min(self._left, len(data) - position)
            self._left -= taken_bytes
            position += taken_bytes
            if self.gap():
                found = position
        return found

    def _begin(self) -> None:
        head, self._head = self._head, b""
        self._left = int.from_bytes(head[:3])
        self._is_first = False
        # Nothing may come between the parts of a block of headers.
        if head[3] in (_HEADERS, _PUSH_PROMISE, _CONTINUATION):
            self._in_headers = not head[4] & _END_HEADERS
