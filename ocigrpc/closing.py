"""What a ``with`` closes at its end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import Self


class Closing(ABC):
    """Something to be closed, which the end of a ``with`` does."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Close it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ClosingStack(Closing):
    """Something whose parts are on a stack, which it is closed by."""

    _stack: ExitStack

    def close(self) -> None:
        """Close all its parts, the last one first."""
        self._stack.close()
