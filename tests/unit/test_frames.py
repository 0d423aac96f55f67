"""Where another frame may come between those of a server."""

from __future__ import annotations

from ocigrpc.rpc.handover.frames import Frames


def frame(kind: int, flags: int, size: int) -> bytes:
    """One of stream 1, as RFC 9113, section 4.1 has it."""
    return size.to_bytes(3) + bytes([kind, flags]) + (1).to_bytes(4) + bytes(size)


SETTINGS = frame(4, 0, 12)
DATA = frame(0, 0, 300)
# A block of headers in two parts, which must stay together.
HEADERS = frame(1, 0, 50) + frame(9, 4, 20)
WORDS = SETTINGS + HEADERS + frame(6, 1, 0) + DATA + frame(1, 4, 5)

ENDS = [len(SETTINGS), len(SETTINGS + HEADERS), len(SETTINGS + HEADERS) + 9]
ENDS += [ENDS[-1] + len(DATA), len(WORDS)]


def test_it_may_between_frames_but_not_before_the_first_or_within_headers() -> None:
    frames = Frames()
    found = []
    assert not frames.gap()
    for position in range(len(WORDS)):
        if frames.pass_on(WORDS[position : position + 1]):
            found.append(position + 1)
        assert frames.gap() == (position + 1 in ENDS)
    assert found == ENDS


def test_of_a_chunk_it_is_the_last_position() -> None:
    for size in range(1, len(WORDS)):
        frames = Frames()
        assert frames.pass_on(WORDS[:size]) == max([0, *(end for end in ENDS if end <= size)])
        rest = frames.pass_on(WORDS[size:])
        assert rest == len(WORDS) - size
