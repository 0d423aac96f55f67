"""What a ``with`` closes at its end."""

from __future__ import annotations

from typing import Self


class Closing:
    """Something to be closed, which the end of a ``with`` does."""

    __slots__ = ()

    def close(self) -> None:
        """Close it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
