"""What an administrator can set: one frozen value, whose tables are those of the settings file.

Every setting is defined once, as a field of :class:`Settings` or of one of its tables; its
variable, its flag and its help come from there, in ``ocigrpc.settings.table``.
``ocigrpc.settings.sources`` reads it from files, the environment and flags, and
``ocigrpc.settings.rules`` has the rules between and behind the fields.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from ocigrpc.log import LogFormat, LogLevel
from ocigrpc.settings.access import (
    FileMode,
    MetricsSettings,
    ReadonlySocketSettings,
    SocketSettings,
    Table,
    TcpSettings,
    TlsSettings,
    TracesSettings,
)
from ocigrpc.settings.images import ImagesSettings

_DAY_S = 86400.0

_Timeout = Annotated[float, Meta(gt=0, le=_DAY_S)]
_Threads = Annotated[int, Meta(ge=1, le=4096)]
_PausedBy = Literal["auto", "freezer", "runtime"]
LoggedCalls = Literal["all", "changes", "none"]
_ConmonLogLevel = Literal["error", "warning", "info", "debug", "trace"]


class CgroupManager(StrEnum):
    """What makes cgroups: the service itself, or systemd."""

    CGROUPFS = "cgroupfs"
    SYSTEMD = "systemd"


class MonitorLostPolicy(StrEnum):
    """What becomes of a container whose monitor is gone while it lives."""

    LEAVE = "leave"
    KILL = "kill"


_DEFAULT_PARENT = {CgroupManager.CGROUPFS: "/ocigrpc", CgroupManager.SYSTEMD: "machine.slice"}


class LogsSettings(Table, frozen=True):
    """Logs of containers."""

    dir: Annotated[
        str, Meta(description="Directory of container logs whose path the service chooses.")
    ] = "/var/log/ocigrpc"
    max_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Size in bytes at which a log in this directory is rotated, unless"
            " its container has its own log_size_max_bytes. For new containers. 0:"
            " no limit.",
        ),
    ] = 10 << 20
    max_files: Annotated[
        int, Meta(ge=2, le=64, description="Files kept of such a log, itself among them.")
    ] = 5


class CgroupSettings(Table, frozen=True):
    """Where containers are, and what makes their cgroups."""

    manager: Annotated[
        CgroupManager, Meta(description="What makes cgroups: the service, or systemd.")
    ] = CgroupManager.CGROUPFS
    parent: Annotated[
        str,
        Meta(
            description="Parent of every container's cgroup: an absolute path with cgroupfs, a"
            " slice with systemd. Empty: /ocigrpc or machine.slice."
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Put in the manager's own parent for an empty one."""
        if not self.parent:
            msgspec.structs.force_setattr(self, "parent", _DEFAULT_PARENT[self.manager])


class ConmonSettings(Table, frozen=True):
    """The monitor of each container."""

    path: Annotated[
        str, Meta(description="The monitor: an absolute path, or a name to look up on PATH.")
    ] = "conmon"
    log_level: Annotated[
        _ConmonLogLevel, Meta(description="Lowest level of conmon's own messages.")
    ] = "warning"
    cgroup_parent: Annotated[
        str,
        Meta(
            description="Parent of every conmon's cgroup, in the form of cgroup.parent, so that no"
            " conmon counts against what limits its container's parent. Empty: that parent."
        ),
    ] = ""


class TimeoutSettings(Table, frozen=True):
    """How long things may take, in seconds."""

    verb_s: Annotated[
        _Timeout,
        Meta(description="Time limit for a runtime's start, pause, resume, update or delete."),
    ] = 60.0
    stop_s: Annotated[
        _Timeout,
        Meta(description="Seconds from the stop signal to SIGKILL, unless the call sets it."),
    ] = 10.0
    kill_s: Annotated[
        _Timeout,
        Meta(
            description="Seconds that a container may live on after SIGKILL, and its conmon may"
            " take to report the end."
        ),
    ] = 10.0
    undo_s: Annotated[_Timeout, Meta(description="Time limit for undoing a failed create.")] = 30.0
    drain_s: Annotated[
        _Timeout, Meta(description="Seconds that calls have to finish once the service ends.")
    ] = 30.0


class LimitSettings(Table, frozen=True):
    """Limits of what exists and runs at once."""

    containers: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Most containers at once, stopped ones too. 0: 10000, or fewer if the"
            " service's limit of open files is too low for them.",
        ),
    ] = 0
    message_bytes: Annotated[
        int, Meta(ge=1 << 16, le=1 << 28, description="Largest message of a client, in bytes.")
    ] = 4 << 20
    unary_threads: Annotated[
        _Threads,
        Meta(
            description="Calls of each RPC that may run at once; each RPC has this limit for"
            " itself."
        ),
    ] = 64
    stream_threads: Annotated[
        _Threads,
        Meta(
            description="The same for streams and waits, StopContainer among them; Exec and"
            " ExecSync share one limit."
        ),
    ] = 512


class RuntimeHandler(Table, frozen=True):
    """An OCI runtime that containers can name."""

    path: Annotated[str, Meta(description="Absolute path, or a name to look up on PATH.")]
    root: Annotated[
        str,
        Meta(
            description="Its --root. Empty: the runtime's own default, so that `runc list`"
            " shows the same."
        ),
    ] = ""
    args: Annotated[
        tuple[str, ...], Meta(max_length=64, description="Further global arguments.")
    ] = ()
    create_timeout_s: Annotated[
        _Timeout, Meta(description="Time limit for creating a container, in seconds.")
    ] = 240.0
    pause: Annotated[
        _PausedBy,
        Meta(
            description="How its containers are paused and resumed: `freezer`, by the service, for"
            " runtimes that only freeze the cgroup; `runtime`, by its own verbs. `auto`: by the"
            " freezer if its program, links followed, is named runc or crun."
        ),
    ] = "auto"


class Settings(Table, frozen=True):
    """All settings.

    Types and bounds are checked when text is decoded into it, the rules between and
    behind the fields by :func:`ocigrpc.settings.rules.problems`.
    """

    root_dir: Annotated[
        str, Meta(description="Directory of the store, which outlives a reboot.")
    ] = "/var/lib/ocigrpc"
    run_dir: Annotated[
        str, Meta(description="Directory of bundles, attach sockets and exit files.")
    ] = "/run/ocigrpc"
    log_level: Annotated[
        LogLevel, Meta(description="Lowest level of events that the service logs.")
    ] = "info"
    log_format: Annotated[
        LogFormat,
        Meta(description="Form of its log; auto: console on a terminal, json otherwise."),
    ] = "auto"
    log_calls: Annotated[
        LoggedCalls,
        Meta(
            description="Calls whose end is logged at level info, not debug: all, those that change"
            " something or are refused, or none. Failures of the node are warnings in any case."
        ),
    ] = "changes"
    channelz: Annotated[
        bool,
        Meta(
            description="Serve gRPC's channelz, which shows connections and calls, to clients that"
            " may change something. It names the addresses of all clients."
        ),
    ] = False
    event_history: Annotated[
        int, Meta(ge=10, le=1_000_000, description="Events kept for WatchEvents, at least.")
    ] = 10_000
    monitor_lost_policy: Annotated[
        MonitorLostPolicy,
        Meta(
            description="What happens to a live container whose conmon is gone, unless the"
            " request sets it."
        ),
    ] = MonitorLostPolicy.LEAVE
    default_runtime: Annotated[
        str, Meta(description="Runtime of containers that name none; one of `runtimes`.")
    ] = "runc"
    runtimes: Annotated[
        dict[str, RuntimeHandler],
        Meta(
            max_length=64,
            description="OCI runtimes by name; as JSON in the environment and in flags. They"
            " are merged with those of sources of lower precedence and the"
            " defaults.",
        ),
    ] = field(
        default_factory=lambda: {name: RuntimeHandler(path=name) for name in ("runc", "crun")}
    )
    socket: SocketSettings = SocketSettings()
    readonly_socket: ReadonlySocketSettings = ReadonlySocketSettings()
    tcp: TcpSettings = TcpSettings()
    tls: TlsSettings = TlsSettings()
    cgroup: CgroupSettings = CgroupSettings()
    conmon: ConmonSettings = ConmonSettings()
    logs: LogsSettings = LogsSettings()
    timeouts: TimeoutSettings = TimeoutSettings()
    limits: LimitSettings = LimitSettings()
    images: ImagesSettings = ImagesSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: TracesSettings = TracesSettings()

    @property
    def images_root(self) -> str:
        """Where images are, whether or not ``images.root`` says so."""
        return self.images.root or f"{self.root_dir}/images"

    @property
    def images_run(self) -> str:
        """What ``images.run`` means."""
        return self.images.run or f"{self.run_dir}/images"

    def effective(self) -> dict[str, object]:
        """Every setting, named as in the settings file, in types that JSON has."""
        # By way of JSON, which knows no tuples; nor does google.protobuf.Struct.
        text = msgspec.json.encode(self, enc_hook=encode_hook)
        return msgspec.json.decode(text, type=dict[str, object])


def decode_hook(wanted: type, value: object) -> object:
    """``value`` as the type of a setting that msgspec does not know."""
    if wanted is FileMode and isinstance(value, str) and re.fullmatch("0?[0-7]{3}", value):
        return FileMode(value, 8)
    raise ValueError('expected octal permissions as text, such as "0660"')


def encode_hook(value: object) -> str:
    """The text of such a value."""
    if isinstance(value, FileMode):
        return f"{value:04o}"
    raise TypeError(f"no setting has type {type(value).__name__}")
