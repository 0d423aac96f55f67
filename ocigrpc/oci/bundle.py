"""Bundles: the spec of a client is read, made fit for us, and written to a bundle of our own.

A client's bundle is never written to, so it may be read-only or serve many containers.
The OCI runtime spec, bundle.md and config.md, says what the fields mean.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from ocigrpc.errors import HostFailed, InvalidArgument
from ocigrpc.oci.layout import Layout
from ocigrpc.oci.regular_file import SIZE_LIMIT_BYTES, read_regular_file_in

Spec = dict[str, object]
"""An OCI runtime spec as JSON has it; what we don't know of is kept as it is."""


class _Process(Struct):
    args: list[str]
    cwd: str
    terminal: bool = False


class _Root(Struct):
    path: str


class _Mount(Struct):
    destination: str
    source: str = ""
    type: str = ""
    options: list[str] = []


class _Linux(Struct):
    cgroupsPath: str = ""


class _Known(Struct):
    """The fields that every spec must have or that we go by, for their types."""

    ociVersion: str
    process: _Process
    root: _Root
    mounts: list[_Mount] = []
    linux: _Linux = msgspec.field(default_factory=_Linux)
    annotations: dict[str, str] = {}


def bundle_spec(bundle_path: str) -> Spec:
    """The spec of a bundle, its relative paths made absolute.

    Raises ``InvalidArgument`` when the path is no bundle, or its spec is none.
    """
    field = "bundle_path"
    try:
        if not stat.S_ISDIR(os.lstat(bundle_path).st_mode):
            raise InvalidArgument(field, "is no directory", reason="INVALID_BUNDLE")
        text = read_regular_file_in(bundle_path, "config.json")
    except OSError as error:
        raise InvalidArgument(
            field,
            f"{bundle_path}/config.json can't be read: {error.strerror}",
            reason="INVALID_BUNDLE",
            path=f"{bundle_path}/config.json",
            error=error.strerror,
        ) from error
    return _decoded(text, field, bundle_path)


def text_spec(text: str) -> Spec:
    """The spec that a JSON text is. Raises ``InvalidArgument`` when it is none."""
    encoded = text.encode()
    if len(encoded) > SIZE_LIMIT_BYTES:
        raise InvalidArgument(
            "spec_json", f"is larger than {SIZE_LIMIT_BYTES} bytes", reason="TOO_LARGE"
        )
    return _decoded(encoded, "spec_json", None)


def asks_for_terminal(spec: Spec) -> bool:
    """Whether the spec's program wants a terminal."""
    return bool(table(spec, "process").get("terminal"))


def adopt(spec: Spec, cgroups_path: str, annotations: dict[str, str], terminal: bool) -> Spec:
    """The spec with the service's own cgroup, terminal, and the request's annotations."""
    return {
        **spec,
        "process": {**table(spec, "process"), "terminal": terminal},
        "linux": {**table(spec, "linux"), "cgroupsPath": cgroups_path},
        "annotations": {**table(spec, "annotations"), **annotations},
    }


def make_bundle(layout: Layout) -> None:
    """Make the container's directory, without a spec yet; raises ``HostFailed`` with the path."""
    with _writing(layout.bundle):
        layout.bundle.mkdir(mode=0o700)


def write_spec(layout: Layout, spec: Spec) -> None:
    """Put the spec into the container's directory; raises ``HostFailed`` with the path."""
    with _writing(layout.spec_file):
        fd = os.open(layout.spec_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(msgspec.json.encode(spec))


def container_spec(path: Path) -> Spec:
    """The spec that a container was made from; raises ``HostFailed`` with the path."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Spec)
    except (OSError, msgspec.DecodeError) as error:
        raise HostFailed(f"can't read {path}: {error}", path=path, error=error) from error


def cgroups_path_of(layout: Layout) -> str:
    """``linux.cgroupsPath`` of a container; raises ``HostFailed`` with the path."""
    return str(table(container_spec(layout.spec_file), "linux").get("cgroupsPath"))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostFailed(
            f"can't write {path}: {error.strerror}", path=path, error=error.strerror
        ) from error


def _decoded(text: bytes, field: str, bundle_path: str | None) -> Spec:
    try:
        spec = msgspec.json.decode(text, type=Spec)
        known = msgspec.convert(spec, _Known)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidArgument(
            field, f"is no OCI runtime spec: {error}", reason="INVALID_SPEC"
        ) from error
    _require(bool(known.process.args), field, "process.args is empty")
    _require(bool(known.process.cwd.startswith("/")), field, "process.cwd is not absolute")
    root = known.root.path if bundle_path is None else os.path.join(bundle_path, known.root.path)
    _require(root.startswith("/"), field, f"root.path {root!r} is not absolute")
    _require("\0" not in root and os.path.isdir(root), field, f"root.path {root!r} is no directory")
    spec["root"] = {**table(spec, "root"), "path": root}
    if bundle_path is not None and "mounts" in spec:
        spec["mounts"] = [
            _mount_below(bundle_path, mount, typed)
            for mount, typed in zip(_mounts(spec), known.mounts, strict=True)
        ]
    return spec


def _require(ok: bool, field: str, problem: str) -> None:
    if not ok:
        raise InvalidArgument(field, problem, reason="INVALID_SPEC")


def _mount_below(bundle_path: str, mount: dict[str, object], typed: _Mount) -> dict[str, object]:
    # Runtimes take a bind mount's relative source as below the bundle; ours is elsewhere.
    binds = typed.type == "bind" or {"bind", "rbind"} & set(typed.options)
    if not binds or not typed.source or typed.source.startswith("/"):
        return mount
    return {**mount, "source": os.path.join(bundle_path, typed.source)}


def _mounts(spec: Spec) -> list[dict[str, object]]:
    return msgspec.convert(spec["mounts"], list[dict[str, object]])


def table(spec: Spec, key: str) -> dict[str, object]:
    """An object in a spec; empty when it is not there."""
    return msgspec.convert(spec.get(key) or {}, dict[str, object])
