"""A client of WatchEvents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ocigrpc.v1 import event_pb2
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service


class Events:
    """A watch of a service's events, and the cursor of what came last."""

    def __init__(self, service: Service, after: int | None = None, container_id: str = "") -> None:
        wanted = event_pb2.EventFilter(container_id=container_id)
        self._stream = service.client.watch_events(after, wanted, timeout_s=LIMIT_S)
        first = next(self._stream)
        self.cursor = first.cursor
        self.gap = first.gap if first.HasField("gap") else None
        self._events = self._all()

    def _all(self) -> Iterator[event_pb2.ContainerEvent]:
        for message in self._stream:
            for event in message.events:
                self.cursor = event.sequence
                yield event

    def next(self) -> event_pb2.ContainerEvent:
        return next(self._events)

    def until(self, kind: str) -> Sequence[event_pb2.ContainerEvent]:
        """The next events, up to the first of this kind."""
        found = []
        for event in self._events:
            found.append(event)
            if word(event) == kind:
                break
        return found

    def words_until(self, kind: str) -> list[str]:
        return [word(event) for event in self.until(kind)]


def word(event: event_pb2.ContainerEvent) -> str:
    """The kind of an event, in one word."""
    return event_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_").lower()
