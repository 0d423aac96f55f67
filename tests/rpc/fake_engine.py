"""An engine that does only what a test wants, and records its calls."""

from __future__ import annotations

import queue
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

import msgspec

from ocigrpc.engine.containers.inspect import ContainerProcess, Inspection
from ocigrpc.engine.containers.resources.stats import ContainerStats
from ocigrpc.engine.copying.archive_in import CopyTarget
from ocigrpc.engine.copying.archive_out import CopySource, PathStat
from ocigrpc.engine.logs.reader import LogBatch, LogQuery
from ocigrpc.engine.model.events import EventBatch, EventFilter
from ocigrpc.engine.model.images import (
    FsInfo,
    FsUsage,
    ImageDetail,
    ImageFilter,
    ImageView,
    Pruned,
    PruneRequest,
    RemovedImage,
    Tagged,
    WritableLayer,
)
from ocigrpc.engine.model.pulls import PullProgress, PullRequest
from ocigrpc.engine.model.record import ContainerFilter, ContainerView, Record
from ocigrpc.engine.model.values import (
    Condition,
    Counts,
    Created,
    CreateRequest,
    ExitStatus,
    HandlerVersion,
    Position,
    Provenance,
    State,
    Versions,
)
from ocigrpc.engine.sessions.messages import AttachStart, ExecResult, ExecStart, Inputs, Reply
from ocigrpc.host.archives.unpack import Unpacked
from ocigrpc.host.cgroups.limits import Limits
from ocigrpc.host.processes.process import Identity
from ocigrpc.oci.images.archive import ArchiveForm
from ocigrpc.oci.spec.config import Resources
from ocigrpc.settings.values import MonitorLostPolicy
from ocigrpc.waiting import Deadline, Latch

RECORD = Record(
    container_id="c1",
    fingerprint="f",
    name="web",
    state=State.RUNNING,
    init=Identity(4711, 1, "boot"),
    created_ns=1_000_000_001,
    started_ns=2_000_000_002,
    log_path="/var/log/c1.log",
    labels={"tier": "front"},
    annotations={"note": "kept"},
    runtime_handler="crun",
    bundle_path="/run/ocigrpc/c1/bundle",
    cgroup_manager="cgroupfs",
    cgroup_parent="/ocigrpc",
    cgroup_path="/ocigrpc/c1",
    stop_signal=15,
    terminal=True,
    stdin=True,
    monitor_lost=True,
    monitor_lost_policy=MonitorLostPolicy.KILL,
)
VIEW = ContainerView(RECORD, State.RUNNING, None, "not sure", "thawing")


def view_of(**fields: object) -> ContainerView:
    """VIEW with other fields in its record."""
    return msgspec.structs.replace(VIEW, record=msgspec.structs.replace(RECORD, **fields))


# Longest that a test waits for what must happen at once.
LIMIT_S = 20.0


class FakeImages:
    """Has ``details``, and records what is to be changed."""

    def __init__(self) -> None:
        self.details: list[ImageDetail] = []
        self.layers: tuple[WritableLayer, ...] = ()
        self.progress: list[PullProgress] = []
        self.calls: list[tuple[object, ...]] = []

    def pull(self, request: PullRequest, deadline: Deadline) -> Generator[PullProgress | ImageView]:
        self.calls.append(("pull", request))
        yield from self.progress
        yield self.details[0].view

    def list_images(
        self, image_filter: ImageFilter, after: Position | None = None
    ) -> Iterator[ImageView]:
        self.calls.append(("list", image_filter))
        views = [each.view for each in self.details]
        return (each for each in views if after is None or after < each.position)

    def status(self, image: str) -> ImageDetail:
        return next(each for each in self.details if each.view.image_id == image)

    def remove(self, image: str, all_names: bool, deadline: Deadline) -> RemovedImage:
        self.calls.append(("remove", image, all_names))
        return RemovedImage(("r.io/a:1",), "1" * 64)

    def prune(self, request: PruneRequest, deadline: Deadline) -> Pruned:
        self.calls.append(("prune", request))
        return Pruned(tuple(each.view for each in self.details), 7)

    def fs_info(self) -> FsInfo:
        return FsInfo("/store", FsUsage(1, 2), FsUsage(3, 4), 5, 6, 7, self.layers)

    def save(self, image: str, form: ArchiveForm, deadline: Deadline) -> Generator[bytes]:
        yield f"{form} of {image}".encode()
        yield b"end"

    def load(self, name: str, pieces: Iterable[bytes], deadline: Deadline) -> Sequence[ImageView]:
        self.calls.append(("load", name, b"".join(pieces)))
        return [each.view for each in self.details]

    def tag(self, image: str, name: str, deadline: Deadline) -> Tagged:
        self.calls.append(("tag", image, name))
        return Tagged(f"localhost/{name}:latest", "2" * 64)


class FakeEngine:
    """Answers the verbs that tests ask for.

    ``failure`` makes it fail, ``held`` makes it wait for ``release``.
    ``entered`` gets the name of a verb when it begins to wait, ``left`` what ended the wait:
    the class of the exception, or None.
    """

    def __init__(self) -> None:
        self.images = FakeImages()
        self.reset()

    def reset(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.deadlines: list[Deadline] = []
        self.failure: Exception | None = None
        self.held: frozenset[str] = frozenset()
        self.view = VIEW
        self.views: Sequence[ContainerView] = (VIEW,)
        self.inspection = Inspection(None, "", True)
        self.exit_status = ExitStatus(Provenance.EXIT_FILE, 3_000_000_003, exit_code=0)
        self.entered: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.left: queue.SimpleQueue[type[Exception] | None] = queue.SimpleQueue()
        self.release = Latch()

    def _do(self, verb: str, *arguments: object, deadline: Deadline | None = None) -> None:
        self.calls.append((verb, *arguments))
        if deadline is not None:
            self.deadlines.append(deadline)
            if verb in self.held:
                self._hold(verb, deadline)
        if self.failure is not None:
            raise self.failure

    def _hold(self, verb: str, deadline: Deadline) -> None:
        self.entered.put(verb)
        try:
            deadline.wait(self.release)
        except Exception as error:
            self.left.put(type(error))
            raise
        self.left.put(None)

    def versions(self, deadline: Deadline) -> Versions:
        self._do("versions", deadline=deadline)
        return Versions("conmon version 2.1.6", (HandlerVersion("runc", "/usr/bin/runc", "1.1"),))

    def default_seccomp_profile(self) -> str:
        return "/seccomp.json"

    def conditions(self, deadline: Deadline) -> Sequence[Condition]:
        self._do("conditions", deadline=deadline)
        return [
            Condition("RuntimeReady", True),
            Condition("MonitorReady", False, "ConmonBroken", "install conmon"),
        ]

    def effective_settings(self) -> dict[str, object]:
        return {"timeouts": {"stop_s": 10.0}, "runtimes": {"runc": {"args": ["-v"]}}}

    def counts(self, deadline: Deadline) -> Counts:
        self._do("counts", deadline=deadline)
        return Counts(
            uptime_ns=90_000_000_001,
            states=(State.RUNNING, State.RUNNING, State.STOPPED),
            container_limit=100,
            events_kept=5,
            first_event=11,
            last_event=15,
            store_bytes=4096,
        )

    def create(self, request: CreateRequest, deadline: Deadline, *, start: bool = False) -> Created:
        self._do("create", request, *["start"] * start, deadline=deadline)
        return Created(request.container_id or "made", 4711)

    def start(self, container_id: str, deadline: Deadline) -> None:
        self._do("start", container_id, deadline=deadline)

    def pause(self, container_id: str, deadline: Deadline) -> None:
        self._do("pause", container_id, deadline=deadline)

    def resume(self, container_id: str, deadline: Deadline) -> None:
        self._do("resume", container_id, deadline=deadline)

    def stop(self, container_id: str, timeout_s: float | None, deadline: Deadline) -> None:
        self._do("stop", container_id, timeout_s, deadline=deadline)

    def kill(self, container_id: str, number: int, everyone: bool, deadline: Deadline) -> None:
        self._do("kill", container_id, number, everyone, deadline=deadline)

    def remove(self, container_id: str, force: bool, deadline: Deadline) -> None:
        self._do("remove", container_id, force, deadline=deadline)

    def status(self, container_id: str, deadline: Deadline) -> ContainerView:
        self._do("status", container_id, deadline=deadline)
        return self.view

    def inspect(self, container_id: str) -> Inspection:
        return self.inspection

    def limits(self, container_id: str) -> Limits:
        return Limits(pids_limit=33)

    def runtime_info(self, container_id: str, deadline: Deadline) -> Mapping[str, str]:
        self._do("runtime_info", container_id, deadline=deadline)
        return {"state": "{}", "monitor_pid": "12"}

    def list_containers(
        self, container_filter: ContainerFilter, after: Position | None = None
    ) -> Iterator[ContainerView]:
        self._do("list", container_filter)
        for view in self.views:
            if after is None or after < (view.record.created_ns, view.record.container_id):
                yield view

    def wait(self, container_id: str, deadline: Deadline) -> ExitStatus:
        self._do("wait", container_id, deadline=deadline)
        return self.exit_status

    def watch_events(
        self, after: int | None, event_filter: EventFilter, deadline: Deadline
    ) -> Iterator[EventBatch]:
        yield EventBatch(15)
        self._do("watch", after, event_filter, deadline=deadline)

    def backup_store(self, deadline: Deadline) -> Iterator[bytes]:
        yield b"store"
        self._do("backup", deadline=deadline)

    # What no test asks this engine for; with it, mypy compares the rest with the Protocol.

    def processes(
        self, container_id: str, after_pid: int, deadline: Deadline
    ) -> Iterator[ContainerProcess]:
        raise NotImplementedError

    def update(self, container_id: str, resources: Resources, deadline: Deadline) -> Limits:
        raise NotImplementedError

    def stats(self, container_id: str) -> ContainerStats:
        raise NotImplementedError

    def list_stats(
        self, container_filter: ContainerFilter, deadline: Deadline, after: Position | None = None
    ) -> Iterator[ContainerStats]:
        raise NotImplementedError

    def watch_stats(
        self, container_filter: ContainerFilter, interval_s: float, deadline: Deadline
    ) -> Iterator[Iterable[ContainerStats]]:
        raise NotImplementedError

    def logs(self, query: LogQuery, deadline: Deadline) -> Iterator[LogBatch]:
        raise NotImplementedError

    def reopen_log(self, container_id: str, deadline: Deadline) -> None:
        raise NotImplementedError

    def copy_out(self, source: CopySource, deadline: Deadline) -> Generator[PathStat | bytes]:
        raise NotImplementedError

    def copy_into(
        self, target: CopyTarget, chunks: Iterable[bytes], deadline: Deadline
    ) -> Unpacked:
        raise NotImplementedError

    def exec_sync(self, start: ExecStart, deadline: Deadline) -> ExecResult:
        raise NotImplementedError

    def exec(self, start: ExecStart, inputs: Inputs, deadline: Deadline) -> Generator[Reply]:
        raise NotImplementedError

    def attach(self, start: AttachStart, inputs: Inputs, deadline: Deadline) -> Generator[Reply]:
        raise NotImplementedError
