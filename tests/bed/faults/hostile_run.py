"""Hostile requests, one after the other, to a service that none of them may change."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import grpc

from ocigrpc.conmon.log_names import SPARE_SUFFIXES
from ocigrpc.errors import Timeout
from ocigrpc.v1 import config_pb2, runtime_pb2
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from tests.bed.faults.hostile import Case
from tests.bed.faults.hostile_check import Answer, ask, made_by, values_in
from tests.bed.faults.hostile_places import File, Places
from tests.bed.faults.hostile_values import ENDED, LIVING
from tests.bed.hosts.leaks import LIMIT_S, until

# Cases between two checks of what is slow to inspect: processes, cgroups and mounts.
_INSPECT_EVERY = 100

# Directories of the service in which each container has something.
_OWN = ("run/containers", "run/exits", "run/sockets", "log", "runc")

# Fields of the directories of a request that the runtime mounts things in.
_MOUNTED_IN = ("config.rootfs_path", "config.mounts.host_path")


class HostileRun:
    """Sends cases to the service of a channel, and judges what comes of each.

    ``directory`` is where the service has its directories; ``leaks`` lists what is there
    of containers.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        places: Places,
        directory: Path,
        leaks: Callable[[], Sequence[str]],
    ) -> None:
        self._channel = channel
        self._rpc = RuntimeServiceStub(channel)
        self._places = places
        self._directory = directory
        self._leaks = leaks
        self.answers: Counter[str] = Counter()
        """How often each RPC gave each answer."""
        self.first_fault = ""
        """What was wrong first, before it was made smaller; empty while nothing is."""

    def prepare(self) -> None:
        """Make the containers that requests are about."""
        for container_id, command in ((LIVING, ["/bin/sleep", "100000"]), (ENDED, ["/bin/true"])):
            config = config_pb2.ContainerConfig(
                rootfs_path=str(self._places.rootfs), command=command
            )
            create = runtime_pb2.CreateContainerRequest(container_id=container_id, config=config)
            self._rpc.CreateContainer(create, timeout=LIMIT_S)
            start = runtime_pb2.StartContainerRequest(container_id=container_id)
            self._rpc.StartContainer(start, timeout=LIMIT_S)
        wait = runtime_pb2.WaitContainerRequest(container_id=ENDED)
        self._rpc.WaitContainer(wait, timeout=LIMIT_S)
        # Its log is tidied soon after, which is no doing of the requests to come.
        log = self._directory / "log"
        spare = [log / f"{ENDED}.log.{suffix}" for suffix in SPARE_SUFFIXES]
        until(lambda: not any(name.exists() for name in spare))
        self._before = self._snapshot()
        self._leaks_before = set(self._leaks())

    def send(self, case: Case) -> None:
        """Send a case; raises ``AssertionError`` with all that is wrong."""
        answer = ask(self._channel, case)
        self.answers[f"{case.method.name} {answer.code} {answer.info.reason}"] += 1
        made = made_by(case, answer)
        # Their own requests may come again by chance, and are answered with themselves.
        if made not in ("", LIVING, ENDED):
            remove = runtime_pb2.RemoveContainerRequest(container_id=made, force=True)
            self._rpc.RemoveContainer(remove, timeout=LIMIT_S)
        self._accept_mount_points(case, answer)
        faults = list(answer.faults(case))
        if self._snapshot() != self._before or self.answers.total() % _INSPECT_EVERY == 0:
            faults += self.changes()
        if faults:
            # So that whatever comes next is not blamed for it.
            self._before, self._leaks_before = self._snapshot(), set(self._leaks())
            self.first_fault = self.first_fault or f"{case!r}\n{answer}\n{faults}"
        assert not faults, f"{case!r}\n{answer}\n{faults}"

    def _accept_mount_points(self, case: Case, answer: Answer) -> None:
        """Expect the mount points that the runtime makes in directories that it may mount in."""
        # A program that is not in the root filesystem fails only after the mounts.
        if answer.code == "OK" or answer.info.metadata.get("phase") == "runtime":
            given = {str(value) for path, _, value in values_in(case) if path in _MOUNTED_IN}
            now = {file.path: file for file in self._snapshot() if file.path in given}
            self._before = [now.get(file.path, file) for file in self._before]

    def changes(self) -> list[str]:
        """What is there that was not, or the reverse, once everything has settled."""
        with suppress(Timeout):
            until(lambda: not self._changes(), LIMIT_S)
        return self._changes()

    def _changes(self) -> list[str]:
        leaks, seen = set(self._leaks()), set(self._snapshot())
        before = self._leaks_before | set(self._before)
        return sorted(map(str, before ^ (leaks | seen)))

    def _snapshot(self) -> list[File]:
        """What can be seen quickly, which is looked at after each case."""
        own = [
            File(f"{self._directory}/{name}/{entry}", 0, 0)
            for name in _OWN
            for entry in os.listdir(self._directory / name)
        ]
        return [*self._places.snapshot(), *own]
