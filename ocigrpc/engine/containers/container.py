"""A container as it lives in memory: its processes, its cgroups, and what waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ocigrpc.engine.containers.cgroups import ContainerCgroups
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.ending import Ending
from ocigrpc.engine.model.record import ContainerView, Record
from ocigrpc.engine.model.values import State
from ocigrpc.engine.store.record_keeper import RecordKeeper
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import Busy, ContainerNotFound, Timeout
from ocigrpc.host.cgroups.descendants import unfrozen
from ocigrpc.host.processes.process import Process
from ocigrpc.mutex import Mutex
from ocigrpc.oci.runtime import Runtime
from ocigrpc.waiting import Deadline, Latch, Waitable

# Most calls that wait to change one container: each takes a thread that others may need.
WAITERS_LIMIT = 32

# Longest that a removal waits for those that use the files: a file system may hold one for ever.
_FILES_WAIT_S = 2.0


class FileUse(Waitable):
    """Those that use a container's files beside its programs, until the files are taken away.

    ``going`` is set when that begins, and stays set whatever comes of it.
    """

    def __init__(self, container_id: str) -> None:
        super().__init__()
        self.going = Latch()
        self._container_id = container_id
        self._count = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Keep the files there, in a ``with``; raises ``ContainerNotFound`` once they go."""
        with self._lock:
            self._count += 1
        try:
            # Once it is counted: either it sees that they go, or it is waited for.
            if self.going.is_set():
                raise ContainerNotFound.of(self._container_id)
            yield
        finally:
            with self._lock:
                self._count -= 1
                self._wake()

    def end(self, deadline: Deadline) -> None:
        """Wait for all, but not for long, and allow no more; raises ``Timeout``, ``Cancelled``."""
        self.going.set()
        deadline.wait(self, timeout_s=_FILES_WAIT_S)

    def is_ready(self) -> bool:
        """Whether there is none."""
        return not self._count


class Container(RecordKeeper):
    """One container. Readers take :attr:`record` and wait for nobody.

    ``settled`` is set when its creation has ended either way, ``exited`` when it has
    stopped and its exit status is final, ``removed`` when it has been removed.
    """

    def __init__(self, record: Record, store: Store, context: Context) -> None:
        super().__init__(record, store)
        self.context = context
        # Where it stands in lists, which are sorted by it.
        self.position = record.position
        self.paths = context.paths(record.container_id)
        self.cgroups = ContainerCgroups.of(record, context.hierarchies)
        self._lock = Mutex()
        self._cgroup_lock = Mutex()
        self.log_lock = Mutex()
        self._names_lock = threading.Lock()
        self._is_log_given_up = False
        # Whether files of its log may have got numbers, also from a service before this one.
        self.log_is_rotated = True
        self._count_lock = threading.Lock()
        self._waiters = 0
        self.verb = ""
        self.settled = Latch()
        self.exited = Latch()
        self.removed = Latch()
        self.files = FileUse(record.container_id)
        # Closed when they have ended: see Watcher.
        self.init: Process | None = None
        self.monitor: Process | None = None
        self.ending = Ending()
        self.program_pids: set[int] = set()
        # What it was observed to be last, if its record alone says how it is shown.
        self.shown: ContainerView | None = None
        self.stops = 0

    @property
    def container_id(self) -> str:
        """Its id."""
        return self._record.container_id

    @property
    def init_pid(self) -> int:
        """Process id of its first process, also when that has ended; 0 before it is created."""
        return self._record.init.pid if self._record.init is not None else 0

    @property
    def runtime(self) -> Runtime:
        """Its OCI runtime; raises ``RuntimeFailed`` (RUNTIME_NOT_CONFIGURED)."""
        return self.context.runtime(self._record.runtime_handler)

    def is_started(self) -> bool:
        """Whether it has been started, by us or by hand.

        Until then, and for a moment longer, its first process executes the runtime's program.
        """
        if self._record.started_ns or self._record.state is State.RUNNING:
            return True
        if self.init is None or not self.init.alive():
            return False
        return self.init.program() != self._record.init_program

    def unfrozen_pids(self) -> frozenset[int]:
        """Its processes that have a thread outside of its cgroup, which is frozen.

        They are those in its cgroup, its first one, the programs of Exec, and what descends
        from these or is conmon's child by now, as orphans are.
        """
        held = [each for each in (self.init, self.monitor) if each is not None]
        roots = {each.pid for each in held if each.alive()} | self.program_pids
        found = unfrozen(self.cgroups.container, roots)
        return found - {self.monitor.pid} if self.monitor is not None else found

    @contextmanager
    def lock(self, verb: str, deadline: Deadline) -> Iterator[None]:
        """Be the only one to change it, in a ``with``.

        Raises ``Busy`` when another verb does not end before the deadline, or at once when
        ``WAITERS_LIMIT`` wait for that already; ``Cancelled``.
        """
        with self._waiting():
            try:
                self._lock.acquire(deadline)
            except Timeout as error:
                raise Busy.of(self.container_id, self.verb) from error
        self.verb = verb
        try:
            yield
        finally:
            self.verb = ""
            self._lock.release()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        with self._count_lock:
            # The one that holds the lock does not wait any more.
            if self._waiters >= WAITERS_LIMIT:
                raise Busy.of(self.container_id, self.verb)
            self._waiters += 1
        try:
            yield
        finally:
            with self._count_lock:
                self._waiters -= 1

    @contextmanager
    def cgroup_lock(self, deadline: Deadline) -> Iterator[bool]:
        """Be the only one to kill in its cgroup, or to remove it, in a ``with``.

        False when the container is removed: the group may be that of another of the same
        id by now. Raises ``Timeout``, ``Cancelled``.
        """
        with self._cgroup_lock.held(deadline):
            yield not self.removed.is_set()

    @contextmanager
    def log_names(self) -> Iterator[bool]:
        """Be the only one to give files of its log other names, in a ``with``.

        False once they are being removed: then those names may be of another container's.
        """
        with self._names_lock:
            yield not (self._is_log_given_up or self.removed.is_set())

    def give_up_log(self) -> None:
        """From now on the files of its log keep their names, so that a removal misses none."""
        with self._names_lock:
            self._is_log_given_up = True

    @contextmanager
    def timed_out(self, reason: str, message: str) -> Iterator[None]:
        """Make a plain ``Timeout`` of the block one that says what was not done in time."""
        try:
            yield
        except Timeout as error:
            if error.reason != Timeout.reason:
                raise
            raise Timeout(message, reason=reason, container_id=self.container_id) from error

    @contextmanager
    def stopping(self) -> Iterator[bool]:
        """Count a stop in a ``with``; true for the first of those at work.

        The verb ends with the last of them, however that ends.
        """
        with self._count_lock:
            self.stops += 1
            first = self.stops == 1
        try:
            yield first
        finally:
            # Counted and stored in one go: the next stop must not have begun in between.
            with self._count_lock:
                self.stops -= 1
                if not self.stops and "stop" in self.record.begun:
                    self.update("stop")
