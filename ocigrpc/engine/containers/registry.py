"""Which containers there are: by id, by unique name, and by the logs that they write."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from ocigrpc.conmon.log_names import ROTATED_LIMIT, SPARE_SUFFIXES
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.model.record import ContainerFilter, Record
from ocigrpc.engine.model.values import Position
from ocigrpc.engine.store.registry import Registry, forget_key, remember_key
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import ContainerExists, ContainerNotFound, LimitReached

# What the names of the files of a rotation end with.
_ROTATED = tuple(f".{end}" for end in (*range(1, ROTATED_LIMIT + 1), *SPARE_SUFFIXES))


class ContainerRegistry(Registry[Container]):
    """The containers of a store, at most as many as the settings allow.

    :meth:`reserve` raises ``ContainerExists`` (NAME_IN_USE; LOG_PATH_IN_USE; CONTAINER_EXISTS
    when the id belongs to another request), ``LimitReached`` (TOO_MANY_CONTAINERS).
    """

    def __init__(self, context: Context, store: Store) -> None:
        super().__init__(store, context.settings.limits.containers)
        self._context = context
        self._ids_by_log: dict[str, str] = {}

    def make(self, record: Record) -> Container:
        """The container of a record."""
        return Container(record, self._store, self._context)

    def not_found(self, object_id: str) -> ContainerNotFound:
        """CONTAINER_NOT_FOUND."""
        return ContainerNotFound.of(object_id)

    def id_in_use(self, object_id: str) -> ContainerExists:
        """CONTAINER_EXISTS."""
        message = f"container {object_id!r} exists, from another request"
        return ContainerExists(message, container_id=object_id)

    def name_in_use(self, name: str, owner_id: str) -> ContainerExists:
        """NAME_IN_USE."""
        return ContainerExists(
            f"{name!r} is the id or the name of container {owner_id!r}",
            reason="NAME_IN_USE",
            name=name,
            container_id=owner_id,
        )

    def matching(
        self, container_filter: ContainerFilter, after: Position | None = None
    ) -> Sequence[Container]:
        """Those that match but for their state, which has to be observed, oldest first."""
        matching = (
            each
            for each in self.all()
            if container_filter.may_match(each.record) and (after is None or after < each.position)
        )
        return sorted(matching, key=attrgetter("position"))

    def too_many(self, limit: int) -> LimitReached:
        """TOO_MANY_CONTAINERS."""
        return LimitReached(
            f"there are {limit} containers already", reason="TOO_MANY_CONTAINERS", limit=limit
        )

    def refuse(self, record: Record) -> None:
        """Raise ``ContainerExists`` (LOG_PATH_IN_USE) if another one writes the record's log."""
        writer = self._writer(record)
        if writer is not None:
            raise log_in_use(record.log_path, writer)

    def forget(self, record: Record) -> None:
        """Free its log for another container."""
        forget_key(self._ids_by_log, record.log_place, record.container_id)

    def drop(self, dropped: Container, *, remembered: bool = False) -> None:
        """Remove a container, here and from the store, and wake everybody that waits for it."""
        super().drop(dropped, remembered=remembered)
        dropped.cgroups.container.release()
        dropped.removed.set()
        dropped.settled.set()

    def let_go(self) -> None:
        """Close what is held open of the containers that live on."""
        for container in self.all():
            container.cgroups.container.release()

    def _add(self, record: Record) -> Container:
        remember_key(self._ids_by_log, record.log_place, record)
        return super()._add(record)

    def _writer(self, record: Record) -> str | None:
        """The container that writes to the log of a record, or into a file of its rotation."""
        writer = self._ids_by_log.get(record.log_place)
        if writer is not None:
            return writer
        stem, _, suffix = record.log_place.rpartition(".")
        ours = suffix.isdecimal() or suffix in SPARE_SUFFIXES
        rotated = self._ids_by_log.get(stem) if ours else None
        if rotated is not None and self.get(rotated).record.log_is_ours:
            return rotated
        if not record.log_is_ours:
            return None
        place, ids = record.log_place, self._ids_by_log
        return next((ids[place + end] for end in _ROTATED if place + end in ids), None)


def log_in_use(log_path: str, container_id: str) -> ContainerExists:
    """The error that another container writes to a log already."""
    return ContainerExists(
        f"container {container_id!r} writes to {log_path!r} already",
        reason="LOG_PATH_IN_USE",
        path=log_path,
        container_id=container_id,
    )
