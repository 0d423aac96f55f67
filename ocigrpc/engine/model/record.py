"""What is remembered of a container, in memory and in the store, and what is shown of it."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import msgspec
from msgspec import Struct

from ocigrpc.engine.model.values import (
    CreateRequest,
    ExitStatus,
    ObjectKey,
    ObjectKind,
    Position,
    State,
)
from ocigrpc.host.cgroups.cgroup import GroupIdentity
from ocigrpc.host.cgroups.limit_files import Snapshot
from ocigrpc.host.files.statx import FileIdentity
from ocigrpc.host.processes.process import Identity
from ocigrpc.settings.values import MonitorLostPolicy


class Record(Struct, frozen=True, omit_defaults=True):
    """One container. Changed only as a whole, by ``msgspec.structs.replace``.

    ``init`` and ``monitor`` name the container's first process and conmon for as long as a
    signal may have to reach them, also after a restart of the service; ``init_program`` is
    what ``init`` executes until the container is started (device and inode).
    ``oom_kills`` is how many of its processes the kernel is known to have killed for lack
    of memory.
    ``limits_before`` is what an update that is under way began with.
    ``stop_timeout_s`` is that of the last stop that was begun.
    ``log_place`` is ``log_path`` without links: no two containers have the same.
    ``log_is_new`` is whether the create makes the log, whether or not its path was asked for.
    ``log_limit_bytes`` is how large a log grows that the service rotates, else 0.
    ``command_line`` is the beginning of its program and arguments, as a shell would take them.
    ``seccomp_profile`` is the file that its filter was made from, if any.
    ``made_parent`` is the topmost of the cgroups above it that were not there before.
    ``runtime_entry`` is what the runtime keeps of the container in its own directory, if we know
    the path; without an inode until the container is made, which says that nothing was there before
    the create began, so that what is found there later is ours.
    ``begun`` are the intents: the verbs that have begun to change it and not ended, for the next
    start to finish or undo.
    ``auto_remove`` is an intent as well: to remove it when it has ended.
    ``container_group`` and ``monitor_group`` are its cgroups. The monitor's is below
    ``monitor_parent``, or beside the container's if that is empty.
    ``rootfs_id`` is the root filesystem that it was lent, if it was made of an image, and
    ``image_name`` what that was called then; it may grow to ``rootfs_limit_bytes``, unless that
    is 0.
    """

    kind: ClassVar[ObjectKind] = ObjectKind.CONTAINER

    container_id: str
    fingerprint: str
    created_ns: int
    state: State
    runtime_handler: str
    cgroup_manager: str
    cgroup_parent: str
    cgroup_path: str
    bundle_path: str
    log_path: str
    stop_signal: int
    name: str = ""
    log_place: str = ""
    log_is_ours: bool = False
    log_is_new: bool = False
    log_size_max_bytes: int = 0
    log_limit_bytes: int = 0
    made_parent: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    command_line: str = ""
    seccomp_profile: str = ""
    terminal: bool = False
    stdin: bool = False
    stdin_once: bool = False
    init: Identity | None = None
    init_program: tuple[int, int] | None = None
    monitor: Identity | None = None
    monitor_lost: bool = False
    monitor_lost_policy: MonitorLostPolicy = MonitorLostPolicy.LEAVE
    oom_kills: int = 0
    limits_before: Snapshot | None = None
    started_ns: int = 0
    stop_timeout_s: float = 0
    exit_status: ExitStatus | None = None
    runtime_entry: FileIdentity | None = None
    container_group: GroupIdentity | None = None
    monitor_group: GroupIdentity | None = None
    monitor_parent: str = ""
    begun: frozenset[str] = frozenset()
    auto_remove: bool = False
    rootfs_id: str = ""
    image_id: str = ""
    image_name: str = ""
    rootfs_limit_bytes: int = 0

    @property
    def key(self) -> ObjectKey:
        """What the store knows it by."""
        return ObjectKey(self.kind, self.container_id)

    @property
    def position(self) -> Position:
        """Where it stands in lists; never changes."""
        return self.created_ns, self.container_id


class ContainerView(Struct, frozen=True, eq=False, weakref=True):
    """What a client is shown of a container: its record, and in which state it is now.

    See ``ContainerStatus`` in the proto. A container that has not changed is mostly shown by the
    same view, so that what is made of one can be kept with it.
    """

    record: Record
    state: State
    exit_status: ExitStatus | None
    message: str = ""
    runtime_state: str = ""

    @property
    def pid(self) -> int:
        """Process id of the first process while it lives, otherwise 0."""
        init = self.record.init
        return init.pid if init is not None and self.state is not State.STOPPED else 0


class ContainerFilter(Struct, frozen=True):
    """Which containers; empty fields match all."""

    id_prefix: str = ""
    name: str = ""
    states: frozenset[State] = frozenset()
    label_selector: dict[str, str] = {}

    def may_match(self, record: Record) -> bool:
        """Whether all but the state, which has to be observed, matches."""
        return (
            record.container_id.startswith(self.id_prefix)
            and self.name in ("", record.name)
            and self.label_selector.items() <= record.labels.items()
        )


def fingerprint(request: CreateRequest) -> str:
    """Equal for equal requests, and different for all others."""
    return hashlib.sha256(msgspec.json.encode(request, order="deterministic")).hexdigest()
