"""Which objects of one kind there are, in memory: by id and by unique name."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.values import State
from ocigrpc.engine.store.record_keeper import RecordKeeper
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import OcigrpcError

T = TypeVar("T", bound=RecordKeeper)


class Registry(ABC, Generic[T]):
    """The live objects of one kind, at most ``limit`` of them.

    A subclass makes them of records, and knows the errors, and what else must be unique.
    """

    def __init__(self, store: Store, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._lock = threading.Lock()
        self._by_id: dict[str, T] = {}
        self._ids_by_name: dict[str, str] = {}

    def limit_to(self, limit: int) -> None:
        """Have at most so many from now on; those that there are stay."""
        self._limit = limit

    @abstractmethod
    def make(self, record: Record) -> T:
        """The object of a record."""

    @abstractmethod
    def not_found(self, object_id: str) -> OcigrpcError:
        """The error that there is none of this id."""

    @abstractmethod
    def id_in_use(self, object_id: str) -> OcigrpcError:
        """The error that the id is that of an object of another request."""

    @abstractmethod
    def name_in_use(self, name: str, owner_id: str) -> OcigrpcError:
        """The error that the name is that of another object."""

    @abstractmethod
    def too_many(self, limit: int) -> OcigrpcError:
        """The error that there are as many as there may be."""

    def refuse(self, record: Record) -> None:
        """Raise any other reason why there can be no such object; the lock is held."""

    def forget(self, record: Record) -> None:
        """Free what else is unique to it; the lock is held."""

    def get(self, key: str) -> T:
        """The object of this id or name; raises :meth:`not_found`."""
        found = self.find(key)
        if found is None:
            raise self.not_found(key)
        return found

    def find(self, key: str) -> T | None:
        """The object of this id or name, if there is one."""
        return self._by_id.get(key) or self._by_id.get(self._ids_by_name.get(key, ""))

    def all(self) -> Sequence[T]:
        """Every object, in no order; waits for nobody."""
        # The copy is one step of the interpreter, which no other thread comes into.
        return list(self._by_id.values())

    def reserve(self, record: Record) -> tuple[T, bool]:
        """The object of the record's id, and whether it was made just now.

        One that is there already is that of the same request, by its fingerprint. Raises the
        errors above.
        """
        with self._lock:
            present = self._by_id.get(record.key.object_id)
            if present is not None:
                if present.record.fingerprint != record.fingerprint:
                    raise self.id_in_use(record.key.object_id)
                return present, False
            self._refuse_ambiguous(record)
            self.refuse(record)
            if len(self._by_id) >= self._limit:
                raise self.too_many(self._limit)
            return self._add(record), True

    def _refuse_ambiguous(self, record: Record) -> None:
        """Raise :meth:`name_in_use` if the id or the name already means another object."""
        for key in filter(None, (record.name, record.key.object_id)):
            owner_id = key if key in self._by_id else self._ids_by_name.get(key)
            if owner_id is not None:
                raise self.name_in_use(key, owner_id)

    def load(self) -> Sequence[T]:
        """The objects that the store remembers, now in the registry."""
        with self._lock:
            return [self._add(record) for record in self._store.records(Record)]

    def adopt(self, record: Record) -> T:
        """An object of which the store knows nothing, now in the registry alone."""
        with self._lock:
            return self._add(record)

    def drop(self, dropped: T, *, remembered: bool = False) -> None:
        """Remove an object, here and from the store.

        The store keeps what is ``remembered``, for the next start to try again to undo it.
        Raises ``StoreFailed``, and then nothing is removed.
        """
        if not remembered:
            dropped.delete()
        with self._lock:
            self._by_id.pop(dropped.record.key.object_id, None)
            self.forget(dropped.record)
            forget_key(self._ids_by_name, dropped.record.name, dropped.record.key.object_id)

    def _add(self, record: Record) -> T:
        added = self.make(record)
        self._by_id[record.key.object_id] = added
        remember_key(self._ids_by_name, record.name, record)
        return added


def remember_key(ids: dict[str, str], key: str, record: Record) -> None:
    """Let a unique key stand for an object, unless the key is empty.

    An object that is being created takes no key from another: its undoing may have failed, and
    then the key was free for others.
    """
    if key and (record.state is not State.CREATING or key not in ids):
        ids[key] = record.key.object_id


def forget_key(ids: dict[str, str], key: str, object_id: str) -> None:
    """Free a key, if it stands for this object."""
    if ids.get(key) == object_id:
        del ids[key]
