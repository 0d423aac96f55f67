"""What an administrator can set: one frozen value, and the rules it has to keep.

Every setting is defined once, as a field of :class:`Settings`; its variable, its flag and
its help come from there, in ``ocigrpc.settings.table``. ``ocigrpc.settings.sources`` reads it
from files, the environment and flags.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

_DEFAULT_PARENT = {"cgroupfs": "/ocigrpc", "systemd": "machine.slice"}
_DAY_S = 86400.0
LOG_MAX_BYTES_LEAST = 16 << 10
"""Least size that logs can be rotated at."""

_SIZE_LIMIT_BYTES = 256 << 10
"""Most that all settings take as JSON."""

# See systemd.unit(5) and systemd.slice(5): dashes part the names of nested slices.
_SLICE = re.compile(r"(-|[\w:.\\@]+(-[\w:.\\@]+)*)\.slice", re.ASCII)
_RUNTIME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

_Timeout = Annotated[float, Meta(gt=0, le=_DAY_S)]
_Threads = Annotated[int, Meta(ge=1, le=4096)]
_CgroupManager = Literal["cgroupfs", "systemd"]
_MonitorLostPolicy = Literal["leave", "kill"]
_LogLevel = Literal["debug", "info", "warning", "error", "critical"]
_LogFormat = Literal["auto", "console", "json"]
_ConmonLogLevel = Literal["error", "warning", "info", "debug", "trace"]


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
    behind the fields by :func:`problems`.
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
        _CgroupManager, Meta(description="Who makes cgroups: the service, or systemd.")
    ] = "cgroupfs"
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
        _LogLevel, Meta(description="Least severe event that the service logs.")
    ] = "info"
    log_format: Annotated[
        _LogFormat,
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
            parent = _DEFAULT_PARENT.get(self.cgroup_manager, "")
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


def problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """What is wrong beyond types and bounds: keys, as in ``runtimes.runc.path``, and why."""
    if len(msgspec.json.encode(settings, enc_hook=encode_hook)) > _SIZE_LIMIT_BYTES:
        yield (
            "runtimes",
            f"take all settings beyond {_SIZE_LIMIT_BYTES} bytes, which Status can tell",
        )
    for key in ("root_dir", "run_dir", "log_dir"):
        yield from _found(key, path_problem(getattr(settings, key)))
    if ":" in settings.log_dir:
        yield "log_dir", "has a colon, where conmon would cut the path"
    if 0 < settings.log_max_bytes < LOG_MAX_BYTES_LEAST:
        yield "log_max_bytes", f"must be 0, or at least {LOG_MAX_BYTES_LEAST}"
    directories = [settings.root_dir, settings.run_dir, settings.log_dir]
    for key in ("root_dir", "run_dir", "log_dir"):
        if directories.count(getattr(settings, key)) > 1:
            yield key, "root_dir, run_dir and log_dir must be three directories"
    yield from _found("conmon_path", _program_problem(settings.conmon_path))
    parent = cgroup_parent_problem(settings.cgroup_manager, settings.cgroup_parent)
    yield from _found("cgroup_parent", parent)
    for name, handler in settings.runtimes.items():
        yield from _handler_problems(name, handler)
    if settings.default_runtime not in settings.runtimes:
        names = ", ".join(sorted(settings.runtimes))
        yield "default_runtime", f"{settings.default_runtime!r} is not one of runtimes: {names}"


def cgroup_parent_problem(cgroup_manager: str, cgroup_parent: str) -> str:
    """Why this manager can't use this parent, or nothing when it can."""
    if len(cgroup_parent) > 1024 or not cgroup_parent.isprintable():
        return "is too long or has characters that can't be printed"
    if cgroup_manager == "systemd":
        if _SLICE.fullmatch(cgroup_parent) and len(cgroup_parent) <= 255:
            return ""
        return 'must be a slice such as "machine.slice" with the systemd manager'
    parts = cgroup_parent.split("/")[1:]
    if cgroup_parent.startswith("/") and _plain(parts):
        return ""
    return 'must be an absolute path such as "/ocigrpc" with the cgroupfs manager'


def _plain(parts: list[str]) -> bool:
    return all(part not in ("", ".", "..") for part in parts)


def _handler_problems(name: str, handler: RuntimeHandler) -> Iterator[tuple[str, str]]:
    key = f"runtimes.{name}"
    if not _RUNTIME_NAME.fullmatch(name):
        yield key, "a name has letters, digits and . _ -, a letter or digit first, at most 63"
    yield from _found(f"{key}.path", _program_problem(handler.path))
    if handler.root:
        yield from _found(f"{key}.root", path_problem(handler.root))
    if any("\0" in argument for argument in handler.args):
        yield f"{key}.args", "has a NUL, which no argument can have"


def _found(key: str, problem: str) -> Iterator[tuple[str, str]]:
    if problem:
        yield key, problem


def path_problem(path: str) -> str:
    """Why this is no absolute path to use, or nothing when it is."""
    if not path.startswith("/"):
        return "must be an absolute path"
    if len(path.encode()) > 1024:
        return "is longer than 1024 bytes"
    if not path.strip("/") or not path.isprintable():
        return "must name something, in characters that can be printed"
    return ""


def _program_problem(path: str) -> str:
    """A bare name is looked up on PATH; a relative path would depend on where we stand."""
    if path and "/" not in path and path.isprintable():
        return ""
    return path_problem(path) and "must be an absolute path, or a name to look up on PATH"
