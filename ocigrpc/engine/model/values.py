"""Requests and answers of the engine: plain frozen values that name no face and no program."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, NamedTuple, Protocol, TypeAlias

from msgspec import Struct

from ocigrpc.oci.spec.config import ContainerConfig
from ocigrpc.settings.values import MonitorLostPolicy


class ObjectKind(StrEnum):
    """What kinds of objects there are records and events of."""

    CONTAINER = "container"
    IMAGE = "image"
    PULL = "pull"
    REMOVAL = "removal"
    ROOTFS = "rootfs"


class ObjectKey(NamedTuple):
    """The key of a record and of its events."""

    kind: ObjectKind
    object_id: str


class StoredRecord(Protocol):
    """What the store has of an object: a frozen value, of one type for each kind."""

    kind: ClassVar[ObjectKind]

    @property
    def key(self) -> ObjectKey:
        """What the store knows it by."""


class State(StrEnum):
    """What a container does now; the middle four are the OCI runtime spec's words."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    UNKNOWN = "unknown"


class Provenance(StrEnum):
    """Where an exit status comes from, or why there is none."""

    EXIT_FILE = "exit_file"
    PENDING = "pending"
    FILE_MISSING = "file_missing"
    FILE_EMPTY = "file_empty"
    FILE_INVALID = "file_invalid"
    MONITOR_LOST = "monitor_lost"
    REBOOT = "reboot"
    MONITOR_HUNG = "monitor_hung"


class ExitStatus(Struct, frozen=True, omit_defaults=True):
    """How a container ended; ``exit_code`` is None when nobody knows."""

    provenance: Provenance
    finished_ns: int
    exit_code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    message: str = ""


class BundleSource(Struct, frozen=True, tag="bundle"):
    """Run the OCI bundle at this absolute path."""

    bundle_path: str


class SpecSource(Struct, frozen=True, tag="spec"):
    """Run this OCI runtime spec, JSON text."""

    spec_json: str


class ConfigSource(Struct, frozen=True, tag="config"):
    """Run this config."""

    config: ContainerConfig


class CreateRequest(Struct, frozen=True, omit_defaults=True):
    """What CreateContainer asks for; see ``CreateContainerRequest`` in the proto."""

    source: BundleSource | SpecSource | ConfigSource
    container_id: str = ""
    name: str = ""
    runtime_handler: str = ""
    stdin: bool = False
    stdin_once: bool = False
    terminal: bool = False
    log_path: str = ""
    log_size_max_bytes: int = 0
    stop_signal: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    cgroup_parent: str = ""
    no_pivot: bool = False
    monitor_lost_policy: MonitorLostPolicy | None = None
    auto_remove: bool = False


class Created(Struct, frozen=True):
    """A container that is ready to start."""

    container_id: str
    pid: int


# Where a container stands in a list: when its create was begun, in ns, and its id.
Position: TypeAlias = tuple[int, str]


class Condition(Struct, frozen=True):
    """One thing that has to work; ``reason`` and ``message`` are empty when it does."""

    type: str
    status: bool
    reason: str = ""
    message: str = ""


class Counts(Struct, frozen=True):
    """What there is: containers by their state, the events that are kept, and the store.

    ``first_event`` is 0 when none is kept; ``last_event`` is the greatest number until now.
    """

    uptime_ns: int
    states: tuple[State, ...]
    container_limit: int
    events_kept: int
    first_event: int
    last_event: int
    store_bytes: int


class HandlerVersion(Struct, frozen=True):
    """An OCI runtime of the settings; ``version`` is empty when it can't be asked."""

    name: str
    path: str
    version: str


class Versions(Struct, frozen=True):
    """Versions of the programs that the service drives; empty when they can't be asked."""

    conmon: str
    handlers: tuple[HandlerVersion, ...]
