"""Containers and files that are not the service's, and must outlive every test."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bed.bundles.bundle import spec_json
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service


@contextmanager
def stranger() -> Iterator[int]:
    """The pid of a process to which no signal may go in the block."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            yield process.pid
            assert process.poll() is None
        finally:
            process.kill()


class Strangers:
    """Containers that are run by hand, with the runtime and in the root of a service."""

    def __init__(
        self, service: Service, directory: Path, runtime: str = "runc", *, root: str = ""
    ) -> None:
        self._service = service
        self._bundle = directory
        self._argv = [runtime, "--root", root or str(service.directory / runtime)]
        directory.mkdir(exist_ok=True)
        spec = json.loads(spec_json(service.rootfs, ["sleep", "1000"]))
        spec["linux"]["cgroupsPath"] = f"/{directory.name}-of-a-stranger"
        (directory / "config.json").write_text(json.dumps(spec))

    def call(self, *words: str) -> str:
        """The output of one verb of the runtime."""
        argv = self._service.host.command([*self._argv, *words])
        ended = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            # A pipe would be the container's, too.
            stdout=subprocess.DEVNULL if words[0] in ("run", "create") else subprocess.PIPE,
            text=True,
            timeout=LIMIT_S,
            check=True,
        )
        return ended.stdout or ""

    def inspect(self, container_id: str) -> Sequence[object]:
        """What is to stay as it is of a container: its state, its process, its bundle."""
        state = json.loads(self.call("state", container_id))
        return [state[key] for key in ("status", "pid", "bundle")]

    def take(self, container_id: str, state: str = "running") -> None:
        """Give the id to a container in a state."""
        words = ["create"] if state == "created" else ["run", "--detach"]
        self.call(*words, "--bundle", str(self._bundle), container_id)
        if state == "paused":
            self.call("pause", container_id)

    def delete(self, container_id: str) -> None:
        self.call("delete", "--force", container_id)

    @contextmanager
    def have(self, container_id: str, state: str = "running") -> Iterator[None]:
        """The id is that of a container to which nothing may happen in the block."""
        self.take(container_id, state)
        with self.keep(container_id):
            yield

    @contextmanager
    def keep(self, container_id: str) -> Iterator[None]:
        """Nothing may happen in the block to the container that has the id now."""
        before = self.inspect(container_id)
        try:
            assert before[2] == str(self._bundle)
            yield
            assert self.inspect(container_id) == before
        finally:
            self.delete(container_id)
