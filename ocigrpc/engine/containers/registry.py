"""Which containers there are: by id, and by their unique names."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ocigrpc.conmon.log_names import ROTATED_LIMIT, SPARE_SUFFIXES
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import ContainerExists, ContainerNotFound, LimitReached


class Registry:
    """The containers of a store, at most as many as the settings allow."""

    def __init__(self, node: Context, store: Store) -> None:
        self._node = node
        self._store = store
        self._limit = node.settings.limits.containers
        self._lock = threading.Lock()
        self._by_id: dict[str, Container] = {}
        self._ids_by_name: dict[str, str] = {}
        self._ids_by_log: dict[str, str] = {}

    def get(self, container_id: str) -> Container:
        """The container of this id; raises ``ContainerNotFound``."""
        try:
            return self._by_id[container_id]
        except KeyError:
            raise ContainerNotFound.of(container_id) from None

    def find(self, container_id: str) -> Container | None:
        """The container of this id, if there is one."""
        return self._by_id.get(container_id)

    def all(self) -> Sequence[Container]:
        """Every container, in no order."""
        with self._lock:
            return list(self._by_id.values())

    def reserve(self, record: Record) -> tuple[Container, bool]:
        """The container of the record's id, and whether it was made just now.

        Raises ``ContainerExists`` (NAME_IN_USE; LOG_PATH_IN_USE; CONTAINER_EXISTS when the id
        belongs to another request), ``LimitReached`` (TOO_MANY_CONTAINERS).
        """
        with self._lock:
            present = self._by_id.get(record.container_id)
            if present is not None:
                if present.record.fingerprint != record.fingerprint:
                    raise ContainerExists(
                        f"container {record.container_id!r} exists, from another request",
                        container_id=record.container_id,
                    )
                return present, False
            owner = self._ids_by_name.get(record.name) if record.name else None
            if owner is not None:
                raise ContainerExists(
                    f"the name {record.name!r} is that of container {owner!r}",
                    reason="NAME_IN_USE",
                    name=record.name,
                    container_id=owner,
                )
            writer = self._writer(record)
            if writer is not None:
                raise log_in_use(record.log_path, writer)
            if len(self._by_id) >= self._limit:
                raise LimitReached(
                    f"there are {self._limit} containers already",
                    reason="TOO_MANY_CONTAINERS",
                    limit=self._limit,
                )
            container = self._add(record)
            return container, True

    def load(self) -> Sequence[Container]:
        """The containers that the store remembers, now in the registry."""
        with self._lock:
            return [self._add(record) for record in self._store.records()]

    def adopt(self, record: Record) -> Container:
        """A container of which the store knows nothing, now in the registry alone."""
        with self._lock:
            return self._add(record)

    def drop(self, container: Container, *, remembered: bool = False) -> None:
        """Forget a container, here and in the store, and wake who waits for it.

        The store keeps what is ``remembered``, for the next start to try again to undo it.
        Raises ``StoreFailed``, and then nothing is forgotten.
        """
        record = container.record
        if not remembered:
            container.delete()
        with self._lock:
            self._by_id.pop(record.container_id, None)
            self._ids_by_name.pop(record.name, None)
            self._ids_by_log.pop(record.log_place, None)
        container.cgroups.container.let_go()
        container.removed.set()
        container.settled.set()

    def let_go(self) -> None:
        """Hold nothing open any more of the containers that live on."""
        for container in self.all():
            container.cgroups.container.let_go()

    def _add(self, record: Record) -> Container:
        container = Container(record, self._store, self._node.cgroups_of(record))
        self._by_id[record.container_id] = container
        if record.name:
            self._ids_by_name[record.name] = record.container_id
        if record.log_place:
            self._ids_by_log[record.log_place] = record.container_id
        return container

    def _writer(self, record: Record) -> str | None:
        """The container that writes to the log of a record, or into a file of its rotation."""
        writer = self._ids_by_log.get(record.log_place)
        if writer is not None:
            return writer
        stem, _, suffix = record.log_place.rpartition(".")
        ours = suffix.isdecimal() or suffix in SPARE_SUFFIXES
        rotated = self._ids_by_log.get(stem) if ours else None
        if rotated is not None and self._by_id[rotated].record.log_is_ours:
            return rotated
        if not record.log_is_ours:
            return None
        numbers = (str(each + 1) for each in range(ROTATED_LIMIT))
        names = (f"{record.log_place}.{each}" for each in (*numbers, *SPARE_SUFFIXES))
        return next((self._ids_by_log[name] for name in names if name in self._ids_by_log), None)


def log_in_use(log_path: str, container_id: str) -> ContainerExists:
    """The error that another container writes to a log already."""
    return ContainerExists(
        f"container {container_id!r} writes to {log_path!r} already",
        reason="LOG_PATH_IN_USE",
        path=log_path,
        container_id=container_id,
    )
