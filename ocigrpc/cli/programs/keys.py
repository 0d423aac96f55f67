"""The keys with which people leave a program without ending it."""

from __future__ import annotations


class DetachKeys:
    """Finds a sequence of keys in what is typed; an empty one is never found."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._held = bytearray()

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the whole sequence was typed.

        The beginning of a sequence is held back until it is clear that it is none.
        """
        if not self._sequence:
            return typed, False
        passed = bytearray()
        for key in typed:
            self._held.append(key)
            while not self._sequence.startswith(self._held):
                passed.append(self._held.pop(0))
            if self._held == self._sequence:
                return bytes(passed), True
        return bytes(passed), False
