"""What there is of containers, images, events and the store, as metrics show it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from ocigrpc import __version__, metrics
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.ending import EXIT_CLASSES
from ocigrpc.engine.containers.registry import ContainerRegistry
from ocigrpc.engine.images.images import Images
from ocigrpc.engine.model.values import State
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import OcigrpcError
from ocigrpc.metrics import Reading

# How long a disk may take to answer.
_DISK_S = 0.2

_T = TypeVar("_T")


class Gauges:
    """Reads what is in memory, which no hanging runtime, lock or disk delays."""

    def __init__(
        self, context: Context, store: Store, registry: ContainerRegistry, images: Images
    ) -> None:
        self._context = context
        self._store = store
        self._registry = registry
        self._images = images
        self._store_bytes = OnDisk(store.size_bytes)
        self._image_figures = OnDisk(images.count_and_bytes)

    def read(self) -> Iterator[Reading]:
        """Every gauge of the engine."""
        for labels in EXIT_CLASSES:
            metrics.EXITS.expect(*labels)
        yield Reading(metrics.BUILD_INFO, 1, (__version__,))
        yield from self._containers()
        yield from self._events()
        yield from self._of_images()
        size_bytes = self._store_bytes.read()
        if size_bytes is not None:
            yield Reading(metrics.STORE_BYTES, size_bytes)
        yield Reading(metrics.STORE_OWED_WRITES, self._store.owed())

    def _containers(self) -> Iterator[Reading]:
        # Not as the kernel shows each: that takes a look at all their processes.
        states = Counter(each.record.state for each in self._registry.all())
        for state in State:
            # An answer, which is never remembered.
            if state is not State.UNKNOWN:
                yield Reading(metrics.CONTAINERS, states[state], (state.value,))
        yield Reading(metrics.CONTAINERS_LIMIT, self._context.settings.limits.containers)

    def _events(self) -> Iterator[Reading]:
        followers, lag = self._store.event_log.lag()
        yield Reading(metrics.EVENTS_KEPT, self._store.event_log.extent()[0])
        yield Reading(metrics.EVENT_FOLLOWERS, followers)
        yield Reading(metrics.EVENT_LAG, lag)

    def _of_images(self) -> Iterator[Reading]:
        yield Reading(metrics.PULLS_RUNNING, self._images.pulls_running())
        figures = self._image_figures.read()
        if figures is not None:
            count, size_bytes = figures
            yield Reading(metrics.IMAGES, count)
            yield Reading(metrics.IMAGE_BYTES, size_bytes)


class OnDisk(Generic[_T]):
    """Reads something in a thread, in which its disk may hang for as long as it does."""

    def __init__(self, read: Callable[[], _T]) -> None:
        self._on_disk = read
        self._lock = threading.Lock()
        self._reading: threading.Thread | None = None
        self._value: _T | None = None

    def read(self) -> _T | None:
        """What there is now; None while the disk does not answer."""
        with self._lock:
            if self._reading is None or not self._reading.is_alive():
                self._reading = threading.Thread(target=self._read, name="size", daemon=True)
                self._reading.start()
            reading = self._reading
        reading.join(_DISK_S)
        return None if reading.is_alive() else self._value

    def _read(self) -> None:
        self._value = None
        try:
            self._value = self._on_disk()
        except OcigrpcError:
            # Absent, as while it hangs; what is wrong with the disk is for Status.
            return
