"""The two sides that take turns: bare programs, and the service."""

from __future__ import annotations

import os
import select
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Protocol

from ocigrpc.v1 import runtime_pb2 as pb
from tests.bed.bundles.bundle import make_bundle
from tests.bed.faults.hanging import Hanging
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.measures.bare import Bare
from tests.bed.services.service import Service

# What containers run, unless a measure needs something else.
PROGRAM = ["/bin/sleep", "1000"]


class Side(Protocol):
    """Containers of one bundle, by either of them."""

    @property
    def name(self) -> str:
        """Of the column with its figures."""

    def prepare(self, container_id: str) -> None:
        """Make what is there before a container is run."""

    def run(self, container_id: str) -> None:
        """Create and start a container that was prepared."""

    def pause(self, container_id: str) -> None: ...

    def resume(self, container_id: str) -> None: ...

    def exec(self, container_id: str, *command: str) -> None:
        """Run a program in a container to its good end, and read its output."""

    def stop_and_remove(self, container_id: str) -> None: ...


class Bundled:
    """Containers of one bundle, by the service."""

    name = "service"

    def __init__(self, service: Service, bundle: str, handler: str = "") -> None:
        self.service = service
        self.bundle = bundle
        self._handler = handler

    def prepare(self, container_id: str) -> None:
        """All that it takes is the service's to make."""

    def create(self, container_id: str) -> None:
        request = pb.CreateContainerRequest(
            bundle_path=self.bundle, container_id=container_id, runtime_handler=self._handler
        )
        self.service.client.create_container(request)

    def run(self, container_id: str) -> None:
        self.create(container_id)
        self.service.start_container(container_id)

    def pause(self, container_id: str) -> None:
        self.service.pause(container_id)

    def resume(self, container_id: str) -> None:
        self.service.resume(container_id)

    def exec(self, container_id: str, *command: str) -> None:
        if code := self.service.client.exec_sync(container_id, command).exit.exit_code:
            raise RuntimeError(f"{command} ended with exit code {code}")

    def stop_and_remove(self, container_id: str) -> None:
        self.service.stop(container_id, 0)
        self.service.remove(container_id)

    def exit_delay_ms(self, container_id: str) -> float:
        """Kill it; from conmon's end as we see it to the answer of WaitContainer."""
        conmon = os.pidfd_open(self.service.monitor_pid(container_id))
        answered: Queue[float] = Queue()
        request = pb.WaitContainerRequest(container_id=container_id)
        waiting = self.service.wire.WaitContainer.future(request)
        waiting.add_done_callback(lambda _: answered.put(time.perf_counter()))
        self.service.kill(container_id)
        select.select([conmon], [], [])
        ended_s = time.perf_counter()
        os.close(conmon)
        return (answered.get(timeout=LIMIT_S) - ended_s) * 1000


@dataclass(frozen=True)
class Bench:
    """What a measure needs. ``runtime`` names a program and its handler."""

    service: Service
    runtime: str
    samples: int
    hanging: Hanging

    def sides(self, *command: str) -> tuple[Bare, Bundled]:
        """Containers that run a command, by both sides, of a bundle of their own."""
        directory = Path(tempfile.mkdtemp(dir=self.service.directory))
        state = Path(tempfile.mkdtemp(dir=self.service.state_dir))
        bundle = make_bundle(directory / "bundle", command)
        conmon, runtime = program("conmon"), program(self.runtime)
        parent = self.service.cgroup_parent
        return (
            Bare(bundle, directory, state, parent, conmon, runtime),
            Bundled(self.service, str(bundle), self.runtime),
        )


@contextmanager
def alive(sides: Sequence[Side], name: str) -> Iterator[None]:
    """A container of each side for as long as a block; its id begins with the side's name."""
    for side in sides:
        side.prepare(f"{side.name}-{name}")
        side.run(f"{side.name}-{name}")
    yield
    for side in sides:
        side.stop_and_remove(f"{side.name}-{name}")


def program(name: str) -> str:
    """The path of a program; without it the bench ends."""
    path = shutil.which(name)
    if path is None:
        sys.exit(f"{name} is not on PATH")
    return path
