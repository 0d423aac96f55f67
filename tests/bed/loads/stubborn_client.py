"""Clients that repeat a call until it is answered, and the lives that they give containers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import grpc

from ocigrpc.errors import OcigrpcError
from ocigrpc.waiting import Deadline
from tests.bed.clients.error_info import code_of, error_details
from tests.bed.clients.exec import exec_sync, shell
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service

T = TypeVar("T")

KILLED = 137
STOP_TIMEOUT_S = 20.0
_PAUSE_S = 0.05

# How long a service may be away.
_PATIENCE_S = 300.0


class Fate(NamedTuple):
    """What must be reported of a container's life."""

    exit_code: int
    started: bool = True

    def events(self) -> list[str]:
        """The events of it, without those that may be missing."""
        return ["created", *(["started"] if self.started else []), "exited", "removed"]


class Door:
    """Lets calls in, so many at once, or none while the host is inspected."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._places = threading.BoundedSemaphore(width)
        self._open = threading.Event()
        self._open.set()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be inside for the length of a block."""
        self._open.wait()
        with self._places:
            yield

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Have no call inside for the length of a block."""
        # A place that is given back would be taken again before we come to have it.
        self._open.clear()
        for _ in range(self._width):
            self._places.acquire()
        try:
            yield
        finally:
            self._places.release(self._width)
            self._open.set()


class Client:
    """A client that repeats its calls until the service is back.

    Enters by a ``door`` for each call, and reports each call that was ``cut_off``. Its
    containers have this ``runtime``.
    """

    def __init__(
        self, service: Service, door: Door, cut_off: Callable[[], None], runtime: str
    ) -> None:
        self._service = service.another()
        self._door = door
        self._runtime = runtime
        self._note_cut_off = cut_off

    def run(self, container_id: str, script: str, stop_signal: str = "TERM") -> None:
        self.create(container_id, script, stop_signal)
        self._surely(lambda: self._service.start_container(container_id), "running", "stopped")

    def create(self, container_id: str, script: str, stop_signal: str = "TERM") -> None:
        self._surely(
            lambda: self._service.create(
                script,
                container_id=container_id,
                stop_signal=stop_signal,
                runtime_handler=self._runtime,
            )
        )

    def await_ready(self, container_id: str) -> None:
        """Wait until its program has written so."""
        self._surely(lambda: until(lambda: self._service.output(container_id) == ["ready"]))

    def pause(self, container_id: str) -> None:
        self._surely(lambda: self._service.pause(container_id), "paused")

    def resume(self, container_id: str) -> None:
        self._surely(lambda: self._service.resume(container_id), "running")

    def exec(self, container_id: str, exit_code: int) -> None:
        """Run a program in it to its end."""
        program = shell(f"exit {exit_code}")
        ran = self._surely(lambda: exec_sync(self._service, container_id, program))
        assert ran is not None
        assert ran.exit.exit_code == exit_code

    def stop(self, container_id: str, timeout_s: float) -> None:
        self._surely(lambda: self._service.stop(container_id, timeout_s))

    def bury(self, container_id: str, exit_code: int) -> None:
        """Wait for its end, which must be reported exactly, and remove it."""
        ended = self._surely(lambda: self._service.wait(container_id))
        assert ended is not None
        assert ended.HasField("exit_code"), ended
        assert ended.exit_code == exit_code
        self.remove(container_id)

    def remove(self, container_id: str) -> None:
        """Remove it, in whatever state it is."""
        self._surely(lambda: self._service.remove(container_id, force=True))

    def _surely(self, call: Callable[[], T], *done: str) -> T | None:
        """Repeat a call until it is answered.

        None when it is refused because a call before it, though cut off, was ``done``: the
        container is in one of these states.
        """
        cut_off = False
        patience = Deadline(_PATIENCE_S)
        while True:
            try:
                with self._door.inside():
                    return call()
            except (OcigrpcError, grpc.RpcError) as error:
                info, _ = error_details(error)
                if cut_off and info.reason == "WRONG_STATE" and info.metadata["state"] in done:
                    return None
                if code_of(error) is not grpc.StatusCode.UNAVAILABLE:
                    raise
            if not cut_off:
                self._note_cut_off()
            cut_off = True
            patience.wait(timeout_s=_PAUSE_S)


def ends_by_itself(client: Client, container_id: str, exit_code: int) -> None:
    client.run(container_id, f"exit {exit_code}")
    client.bury(container_id, exit_code)


def is_asked_to_end(client: Client, container_id: str, exit_code: int) -> None:
    client.run(
        container_id, f"trap 'exit {exit_code}' TERM; echo ready; while :; do sleep 0.1; done"
    )
    client.await_ready(container_id)
    client.exec(container_id, exit_code)
    client.stop(container_id, STOP_TIMEOUT_S)
    client.bury(container_id, exit_code)


def is_paused_and_killed(client: Client, container_id: str, exit_code: int) -> None:
    client.run(container_id, "exec sleep 1000", stop_signal="KILL")
    client.pause(container_id)
    if exit_code % 2:
        client.resume(container_id)
    client.stop(container_id, 0)
    client.bury(container_id, KILLED)


def is_removed_alive(client: Client, container_id: str, exit_code: int) -> None:
    client.run(container_id, "exec sleep 1000")
    client.remove(container_id)


def never_starts(client: Client, container_id: str, exit_code: int) -> None:
    client.create(container_id, f"exit {exit_code}")
    client.remove(container_id)


# Ways to live; where there is no fate, the exit code is the life's own.
LIVES: list[tuple[Callable[[Client, str, int], None], Fate | None]] = [
    (ends_by_itself, None),
    (is_asked_to_end, None),
    (is_paused_and_killed, Fate(KILLED)),
    (is_removed_alive, Fate(KILLED)),
    (never_starts, Fate(KILLED, started=False)),
]
