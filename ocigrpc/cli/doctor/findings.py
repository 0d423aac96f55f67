"""What checks find, and what they look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ocigrpc.engine.containers.context import Context
    from ocigrpc.settings.values import Settings


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """Something does not work, or could not be checked, that containers may never need."""
    FAILED = "failed"
    """The service can't start, or no container can be made."""


class Finding(NamedTuple):
    """One line of a check; ``remedy`` is what to do, empty if there is nothing to be done."""

    level: Level
    message: str
    remedy: str = ""


class Host(NamedTuple):
    """This host, as the settings of the service see it."""

    settings: Settings
    context: Context
    is_root: bool
    """Whether this process may look and try as the service does."""
    is_answering: bool
    """Whether something listens at the service's socket that this process may call."""
    address: str
    """Of the service to check: the socket, unless another was given."""
    is_address_given: bool


Check = Callable[[Host], Iterator[Finding]]


def fine(message: str) -> Finding:
    """The finding of what is as it should be."""
    return Finding(Level.OK, message)


def warning(message: str, remedy: str) -> Finding:
    """The finding of what some containers may lack."""
    return Finding(Level.WARNING, message, remedy)


def failed(message: str, remedy: str) -> Finding:
    """The finding of what keeps the service or every container from running."""
    return Finding(Level.FAILED, message, remedy)
