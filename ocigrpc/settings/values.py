"""What an administrator can set: one frozen value, and the rules it has to keep.

Every setting is defined once, as a field of :class:`Settings`; its variable, its flag and
its help come from there, in ``ocigrpc.settings.table``. ``ocigrpc.settings.sources`` reads it
from files, the environment and flags.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from ocigrpc.log import LogFormat, LogLevel

_DAY_S = 86400.0

_Timeout = Annotated[float, Meta(gt=0, le=_DAY_S)]
_Threads = Annotated[int, Meta(ge=1, le=4096)]
_MonitorLostPolicy = Literal["leave", "kill"]
_ConmonLogLevel = Literal["error", "warning", "info", "debug", "trace"]


class CgroupManager(StrEnum):
    """What makes cgroups: the service itself, or systemd."""

    CGROUPFS = "cgroupfs"
    SYSTEMD = "systemd"


_DEFAULT_PARENT = {CgroupManager.CGROUPFS: "/ocigrpc", CgroupManager.SYSTEMD: "machine.slice"}


class FileMode(int):
    """Permission bits, written as octal text such as ``"0660"``."""


class RuntimeHandler(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An OCI runtime that containers can ask for by its name."""

    path: Annotated[str, Meta(description="Absolute path, or a name to look up on PATH.")]
    root: Annotated[
        str, Meta(description="Its --root. Empty: its own, so that `runc list` shows the same.")
    ] = ""
    args: Annotated[
        tuple[str, ...], Meta(max_length=64, description="Further global arguments.")
    ] = ()
    create_timeout_s: Annotated[
        _Timeout, Meta(description="Longest that creating a container may take, in seconds.")
    ] = 240.0


def _default_runtimes() -> dict[str, RuntimeHandler]:
    return {name: RuntimeHandler(path=name) for name in ("runc", "crun")}


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings.

    Types and bounds are checked when text is decoded into it, the rules between and
    behind the fields by :func:`ocigrpc.settings.rules.problems`.
    """

    socket_path: Annotated[
        str, Meta(description="Unix socket that clients connect to; at most 107 bytes.")
    ] = "/run/ocigrpc/ocigrpc.sock"
    socket_mode: Annotated[FileMode, Meta(description="Permissions of the socket, in octal.")] = (
        FileMode(0o660)
    )
    socket_group: Annotated[
        str, Meta(description="Group of the socket, a name or a number. Empty: the service's own.")
    ] = ""
    readonly_socket_path: Annotated[
        str, Meta(description="A second socket, for calls that change nothing. Empty: none.")
    ] = ""
    readonly_socket_mode: Annotated[FileMode, Meta(description="Its permissions, in octal.")] = (
        FileMode(0o660)
    )
    readonly_socket_group: Annotated[
        str, Meta(description="Its group, a name or a number. Empty: the service's own.")
    ] = ""
    tcp_address: Annotated[
        str,
        Meta(
            description="IP address and port, such as 127.0.0.1:7443 or [::1]:7443, to serve with"
            " mutual TLS 1.3. Empty: none."
        ),
    ] = ""
    tls_cert_path: Annotated[
        str, Meta(description="Certificate of the service, in PEM, with those that vouch for it.")
    ] = ""
    tls_key_path: Annotated[str, Meta(description="Its private key, in PEM.")] = ""
    tls_client_ca_path: Annotated[
        str, Meta(description="Certificates that vouch for clients, in PEM.")
    ] = ""
    tcp_insecure_loopback: Annotated[
        bool,
        Meta(description="Serve a loopback tcp_address without TLS, to every user of the host."),
    ] = False
    root_dir: Annotated[
        str, Meta(description="Directory of the store, which outlives a reboot.")
    ] = "/var/lib/ocigrpc"
    run_dir: Annotated[
        str, Meta(description="Directory of bundles, attach sockets and exit files.")
    ] = "/run/ocigrpc"
    log_dir: Annotated[
        str, Meta(description="Directory of container logs whose path the service chooses.")
    ] = "/var/log/ocigrpc"
    cgroup_manager: Annotated[
        CgroupManager, Meta(description="Who makes cgroups: the service, or systemd.")
    ] = CgroupManager.CGROUPFS
    cgroup_parent: Annotated[
        str,
        Meta(
            description="Parent of every container's cgroup: an absolute path with cgroupfs, a"
            " slice with systemd. Empty: /ocigrpc or machine.slice."
        ),
    ] = ""
    conmon_path: Annotated[
        str, Meta(description="The monitor: an absolute path, or a name to look up on PATH.")
    ] = "conmon"
    conmon_log_level: Annotated[
        _ConmonLogLevel, Meta(description="Least severe message that conmon writes.")
    ] = "warning"
    default_runtime: Annotated[
        str, Meta(description="Runtime of containers that name none; one of `runtimes`.")
    ] = "runc"
    runtimes: Annotated[
        dict[str, RuntimeHandler],
        Meta(
            max_length=64,
            description="OCI runtimes by name; as JSON in the environment and in flags. Adds to,"
            " and amends, the lower sources and the defaults.",
        ),
    ] = field(default_factory=_default_runtimes)
    verb_timeout_s: Annotated[
        _Timeout,
        Meta(
            description="Longest that a runtime may take to start, pause, resume, update or delete."
        ),
    ] = 60.0
    stop_timeout_s: Annotated[
        _Timeout,
        Meta(description="Seconds from the stop signal to SIGKILL, unless the call says."),
    ] = 10.0
    kill_timeout_s: Annotated[
        _Timeout,
        Meta(
            description="Seconds that a container may live on after SIGKILL, and its conmon may"
            " take to tell of the end."
        ),
    ] = 10.0
    undo_timeout_s: Annotated[
        _Timeout, Meta(description="Longest that undoing a failed create may take.")
    ] = 30.0
    monitor_lost_policy: Annotated[
        _MonitorLostPolicy,
        Meta(
            description="What becomes of a container whose conmon is gone while it lives, unless"
            " the request says."
        ),
    ] = "leave"
    drain_timeout_s: Annotated[
        _Timeout, Meta(description="Seconds that calls have to finish once the service ends.")
    ] = 30.0
    log_level: Annotated[
        LogLevel, Meta(description="Least severe event that the service logs.")
    ] = "info"
    log_format: Annotated[
        LogFormat,
        Meta(description="Form of the log; auto: console on a terminal, json otherwise."),
    ] = "auto"
    unary_threads: Annotated[
        _Threads,
        Meta(
            description="Calls of each RPC that may run at once; those of one never take the"
            " places of another's."
        ),
    ] = 64
    stream_threads: Annotated[
        _Threads,
        Meta(
            description="The same for streams and waits, StopContainer among them; Exec and"
            " ExecSync have theirs together."
        ),
    ] = 512
    max_message_bytes: Annotated[
        int, Meta(ge=1 << 16, le=1 << 28, description="Largest message of a client, in bytes.")
    ] = 4 << 20
    max_containers: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Most containers at once, stopped ones too. 0: 10000, or as many as the"
            " service's limit of open files carries.",
        ),
    ] = 0
    event_history: Annotated[
        int, Meta(ge=10, le=1_000_000, description="Events that are kept for WatchEvents.")
    ] = 10_000

    log_max_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Largest size in bytes of a log in log_dir, at which it is rotated, unless"
            " its container has a log_size_max_bytes of its own; of containers that are made from"
            " now on. 0: any.",
        ),
    ] = 10 << 20
    log_max_files: Annotated[
        int, Meta(ge=2, le=64, description="Files kept of such a log, itself among them.")
    ] = 5

    def __post_init__(self) -> None:
        """Put in the cgroup manager's own parent for an empty one."""
        if not self.cgroup_parent:
            parent = _DEFAULT_PARENT[self.cgroup_manager]
            msgspec.structs.force_setattr(self, "cgroup_parent", parent)

    def effective(self) -> dict[str, object]:
        """Every setting in the words of the settings file, from types that JSON has."""
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
