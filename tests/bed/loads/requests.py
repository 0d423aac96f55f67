"""Requests of clients that call every RPC at random."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TypeAlias

from google.protobuf.message import Message

from ocigrpc.v1 import (
    attach_pb2,
    config_pb2,
    copy_pb2,
    event_pb2,
    exec_pb2,
    log_pb2,
    process_pb2,
)
from ocigrpc.v1 import runtime_pb2 as pb
from tests.bed.clients.exec import seconds, shell

_SCRIPTS = (
    "exec sleep 1000",
    "trap 'exit 3' TERM; sleep 1000 & wait",
    "while echo tick; do sleep 1; done",
    "sleep 3; exit 7",
)

# So many containers get half of the calls, so that calls meet there.
_HOT = 8

# Longest that a program may run whose end is waited for.
_EXEC_S = 10.0

# What a client asks for in one go, about one container.
_Plan: TypeAlias = Callable[[Random, str], Sequence[Message]]


class Requests:
    """Requests about containers ``load-0`` to ``load-N`` of a root filesystem.

    Every other one has a log in ``logs``, for clients to rotate.
    """

    def __init__(self, rootfs: Path, logs: Path, containers: int) -> None:
        self.ids = [f"load-{number}" for number in range(containers)]
        self._rootfs = rootfs
        self._logs = logs
        self._unary: dict[_Plan, int] = {
            self._life: 16,
            self._standstill: 10,
            self._stop: 5,
            self._kill: 4,
            self._remove: 5,
            self._look: 10,
            self._update: 6,
            self._exec_sync: 8,
            self._reopen: 4,
            self._overview: 2,
        }
        self._streams: dict[_Plan, int] = {
            self._watch_events: 3,
            self._watch_stats: 1,
            self._back_up: 1,
            self._copy_out: 2,
            self._copy_into: 2,
            self._follow: 3,
            self._wait: 3,
            self._attach: 3,
            self._exec: 2,
        }

    def unary(self, random: Random) -> Sequence[Message]:
        """Requests that are answered with one message each, soon."""
        return self._chosen(self._unary, random)

    def stream(self, random: Random) -> Message:
        """A request that is answered for long; of Exec and Attach, the first one."""
        (request,) = self._chosen(self._streams, random)
        return request

    def _chosen(self, plans: dict[_Plan, int], random: Random) -> Sequence[Message]:
        (plan,) = random.choices(list(plans), list(plans.values()))
        ids = self.ids if random.random() < 0.5 else self.ids[:_HOT]
        return plan(random, random.choice(ids))

    def create(self, container_id: str) -> pb.CreateContainerRequest:
        """The one request for a container, by whichever call comes first."""
        number = self.ids.index(container_id)
        script = _SCRIPTS[number % len(_SCRIPTS)]
        config = config_pb2.ContainerConfig(
            rootfs_path=str(self._rootfs), command=["/bin/sh", "-c", script]
        )
        log_path = str(self._log_of(container_id)) if number % 2 else ""
        return pb.CreateContainerRequest(
            container_id=container_id, config=config, stdin=True, log_path=log_path
        )

    def _log_of(self, container_id: str) -> Path:
        return self._logs / f"{container_id}.log"

    def _life(self, _: Random, container_id: str) -> Sequence[Message]:
        return self.create(container_id), pb.StartContainerRequest(container_id=container_id)

    def _standstill(self, _: Random, container_id: str) -> Sequence[Message]:
        return (
            pb.PauseContainerRequest(container_id=container_id),
            pb.ResumeContainerRequest(container_id=container_id),
        )

    def _stop(self, random: Random, container_id: str) -> Sequence[Message]:
        timeout = seconds(random.choice((0, 0.2, 1)))
        return (
            pb.StopContainerRequest(container_id=container_id, timeout=timeout),
            pb.WaitContainerRequest(container_id=container_id),
        )

    def _kill(self, random: Random, container_id: str) -> Sequence[Message]:
        signal, everyone = random.choice(("KILL", "TERM", "HUP")), random.random() < 0.5
        return (pb.KillContainerRequest(container_id=container_id, signal=signal, all=everyone),)

    def _remove(self, random: Random, container_id: str) -> Sequence[Message]:
        force = random.random() < 0.6
        return (pb.RemoveContainerRequest(container_id=container_id, force=force),)

    def _look(self, random: Random, container_id: str) -> Sequence[Message]:
        verbose = random.random() < 0.2
        return (
            pb.ContainerStatusRequest(container_id=container_id, verbose=verbose),
            pb.ContainerStatsRequest(container_id=container_id),
            process_pb2.ListProcessesRequest(container_id=container_id),
        )

    def _overview(self, _: Random, container_id: str) -> Sequence[Message]:
        few = pb.ContainerFilter(id_prefix=container_id[:-1])
        return (
            pb.VersionRequest(),
            pb.StatusRequest(),
            pb.ListContainersRequest(),
            pb.ListContainersRequest(filter=few),
            pb.ListContainerStatsRequest(filter=few),
        )

    def _update(self, random: Random, container_id: str) -> Sequence[Message]:
        limits = config_pb2.LinuxContainerResources(pids_limit=random.randint(50, 100))
        return (pb.UpdateContainerResourcesRequest(container_id=container_id, resources=limits),)

    def _exec_sync(self, random: Random, container_id: str) -> Sequence[Message]:
        script = random.choice(("echo here", "exit 5", "setsid sleep 1 & echo gone", "sleep 1"))
        timeout = seconds(random.uniform(0.1, _EXEC_S))
        return (
            exec_pb2.ExecSyncRequest(
                container_id=container_id, process=shell(script), timeout=timeout
            ),
        )

    def _reopen(self, _: Random, container_id: str) -> Sequence[Message]:
        log = self._log_of(container_id)
        with suppress(FileNotFoundError):
            os.replace(log, f"{log}.1")
        return (log_pb2.ReopenContainerLogRequest(container_id=container_id),)

    def _watch_events(self, random: Random, _: str) -> Sequence[Message]:
        return (event_pb2.WatchEventsRequest(after=random.choice((None, 0))),)

    def _watch_stats(self, _: Random, container_id: str) -> Sequence[Message]:
        few = pb.ContainerFilter(id_prefix=container_id[:-1])
        return (pb.WatchStatsRequest(filter=few),)

    def _back_up(self, *_: object) -> Sequence[Message]:
        return (pb.BackupStoreRequest(),)

    def _copy_out(self, _: Random, container_id: str) -> Sequence[Message]:
        return (copy_pb2.CopyOutRequest(container_id=container_id, path="/bin"),)

    def _copy_into(self, _: Random, container_id: str) -> Sequence[Message]:
        start = copy_pb2.CopyIntoStart(container_id=container_id, path="/tmp")
        return (copy_pb2.CopyIntoRequest(start=start),)

    def _follow(self, _: Random, container_id: str) -> Sequence[Message]:
        return (log_pb2.ContainerLogsRequest(container_id=container_id, follow=True),)

    def _wait(self, _: Random, container_id: str) -> Sequence[Message]:
        return (pb.WaitContainerRequest(container_id=container_id),)

    def _attach(self, random: Random, container_id: str) -> Sequence[Message]:
        stdin = random.random() < 0.5
        start = attach_pb2.AttachStart(
            container_id=container_id, stdin=stdin, stdout=True, stderr=True
        )
        return (attach_pb2.AttachRequest(start=start),)

    def _exec(self, random: Random, container_id: str) -> Sequence[Message]:
        script = random.choice(("echo here; sleep 2", "yes", "cat"))
        start = exec_pb2.ExecStart(
            container_id=container_id, process=shell(script), stdin=script == "cat"
        )
        return (exec_pb2.ExecRequest(start=start),)
