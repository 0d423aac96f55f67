"""The config of an image, in docker's and in OCI's form, which differ in little."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct, field

from ocigrpc.oci.decoding import decoded
from ocigrpc.oci.images.platform import Platform

# The largest config that is read.
CONFIG_LIMIT_BYTES = 1 << 20

_HISTORY_LIMIT = 1000

_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


class ImageConfig(Struct, frozen=True, omit_defaults=True):
    """What an image says about its containers; see ``ImageConfig`` in the proto."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class Step(Struct, frozen=True):
    """One step of how an image was built."""

    created_ns: int
    created_by: str
    comment: str
    empty_layer: bool


class ImageFile(Struct, frozen=True):
    """All of an image's config. Layers are named by the digests of their unpacked archives."""

    config: ImageConfig
    platform: Platform
    created_ns: int
    author: str
    diff_ids: tuple[str, ...]
    history: tuple[Step, ...]


class _Config(Struct):
    """The inner object. Whatever is absent may be null instead: Go writes nil so."""

    Entrypoint: list[str] | None = None
    Cmd: list[str] | None = None
    Env: list[str] | None = None
    WorkingDir: str | None = None
    User: str | None = None
    StopSignal: str | None = None
    Volumes: dict[str, object] | None = None
    ExposedPorts: dict[str, object] | None = None
    Labels: dict[str, str] | None = None


class _Rootfs(Struct):
    diff_ids: list[str] | None = None


class _Step(Struct):
    created: str | None = None
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class _File(Struct):
    os: str | None = None
    architecture: str | None = None
    variant: str | None = None
    created: str | None = None
    author: str | None = None
    config: _Config | None = None
    rootfs: _Rootfs | None = None
    history: list[_Step] | None = field(default=None)


# Made at import: msgspec crashes when two threads use a type for the first time.
_FILE = msgspec.json.Decoder(_File)


def image_file(text: bytes) -> ImageFile:
    """The config of an image. Raises ``ValueError``."""
    if len(text) > CONFIG_LIMIT_BYTES:
        raise ValueError(f"the image's config is larger than {CONFIG_LIMIT_BYTES} bytes")
    found = decoded(_FILE, text)
    return ImageFile(
        config=_config(found.config or _Config()),
        platform=Platform(found.os or "linux", found.architecture or "", found.variant or ""),
        created_ns=time_ns_of(found.created),
        author=found.author or "",
        diff_ids=tuple((found.rootfs or _Rootfs()).diff_ids or ()),
        history=tuple(map(_step, (found.history or [])[:_HISTORY_LIMIT])),
    )


def _config(found: _Config) -> ImageConfig:
    return ImageConfig(
        entrypoint=tuple(found.Entrypoint or ()),
        cmd=tuple(found.Cmd or ()),
        env=tuple(found.Env or ()),
        working_dir=found.WorkingDir or "",
        user=found.User or "",
        stop_signal=found.StopSignal or "",
        volumes=tuple(sorted(found.Volumes or ())),
        exposed_ports=tuple(sorted(found.ExposedPorts or ())),
        labels=found.Labels or {},
    )


def _step(found: _Step) -> Step:
    return Step(
        created_ns=time_ns_of(found.created),
        created_by=found.created_by or "",
        comment=found.comment or "",
        empty_layer=bool(found.empty_layer),
    )


def time_ns_of(text: str | None) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time; 0 if it is none of the years 1 to 9999."""
    try:
        moment = datetime.fromisoformat(text or "")
        # One without a zone is in UTC; the node's own says nothing of it.
        utc = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return 0
    return (utc - _EPOCH) // _MICROSECOND * 1000
