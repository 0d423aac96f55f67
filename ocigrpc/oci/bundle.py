"""Bundles: the spec of a client is read, made fit for us, and written to a bundle of our own.

A client's bundle is never written to, so it may be read-only or serve many containers.
The OCI runtime spec, bundle.md and config.md, says what the fields mean.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ocigrpc.errors import HostFailed, InvalidArgument, cut, host_failing
from ocigrpc.host.files.create import make_directory, write_new_file
from ocigrpc.host.files.regular import SIZE_LIMIT_BYTES, read_regular_file_in
from ocigrpc.oci import go_json
from ocigrpc.oci.paths import ContainerPaths
from ocigrpc.oci.spec.types import OCI_VERSION, RuntimeSpec, SpecMount
from ocigrpc.violations import (
    ARGUMENTS_LIMIT_BYTES,
    PATH_LIMIT_BYTES,
    TEXT_LIMIT_BYTES,
    arguments_fit,
)

Spec = dict[str, object]
"""An OCI runtime spec as JSON has it; what we don't know of is kept as it is."""


# msgspec crashes when two threads convert to the same type for the first time: not after this.
msgspec.json.Decoder(RuntimeSpec)

_DEPTH_LIMIT = 64
"""Levels of a spec: the deepest that the standard has is ten."""

_HOOKS_IN_BUNDLE = ("prestart", "createRuntime", "poststart", "poststop")
"""The kinds that a runtime runs where the bundle is; createContainer's are run in the root."""


def bundle_spec(bundle_path: str) -> Spec:
    """The spec of a bundle, its relative paths made absolute.

    Raises ``InvalidArgument`` when the path is no bundle, or its spec is none.
    """
    field = "bundle_path"
    try:
        text = read_regular_file_in(bundle_path, "config.json")
    except OSError as error:
        raise InvalidArgument.of(
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
        raise InvalidArgument.of(
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


def make_bundle(paths: ContainerPaths) -> None:
    """Make the container's directory, without a spec yet; raises ``HostFailed`` with the path."""
    make_directory(paths.bundle)


def write_spec(paths: ContainerPaths, spec: Spec) -> None:
    """Put the spec into the container's directory; raises ``HostFailed`` with the path."""
    write_new_file(paths.spec_file, msgspec.json.encode(spec))


def fill_spec(paths: ContainerPaths, spec: Spec) -> None:
    """The same where its file is there already, empty, and must stay the one that it is."""
    with host_failing("write", paths.spec_file):
        paths.spec_file.write_bytes(msgspec.json.encode(spec))


def has_hooks(spec: Spec) -> bool:
    """Whether the spec has any, which may look at the bundle."""
    return any(table(spec, "hooks").values())


def container_spec(path: Path) -> Spec:
    """The spec that a container was made from; raises ``HostFailed`` with the path."""
    try:
        return _read_again(path.read_bytes())
    except (OSError, ValueError) as error:
        raise HostFailed(f"can't read {path}: {error}", path=path, error=error) from error


def _read_again(text: bytes) -> Spec:
    try:
        return msgspec.json.decode(text, type=Spec)
    except msgspec.DecodeError:
        # It may hold a number, where no runtime looks, that is beyond all of Python's.
        return msgspec.convert(go_json.decode(text, RuntimeSpec), Spec)


def cgroups_path_of(paths: ContainerPaths) -> str:
    """``linux.cgroupsPath`` of a container; raises ``HostFailed`` with the path.

    Whoever has made the directory: what is no file is not opened.
    """
    path = paths.spec_file
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise HostFailed(f"{path} is no file", path=path)
        return str(table(container_spec(path), "linux").get("cgroupsPath"))
    except (OSError, msgspec.ValidationError) as error:
        raise HostFailed(f"can't read {path}: {error}", path=path, error=error) from error


def _decoded(text: bytes, field: str, bundle_path: str | None) -> Spec:
    try:
        # As runc does, so that what it takes means the same, to other runtimes as well.
        spec = msgspec.convert(go_json.decode(text, RuntimeSpec), Spec)
        _check_values(spec, field)
        known = msgspec.convert(spec, RuntimeSpec)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument.of(
            field, f"is no OCI runtime spec: {cut(str(error))}", reason="INVALID_SPEC"
        ) from error
    program = known.process.args[0]
    _require(
        len(program.encode()) <= PATH_LIMIT_BYTES, field, "process.args[0] is longer than a path"
    )
    words = [*known.process.args, *(known.process.env or ())]
    short = all(len(word.encode()) <= TEXT_LIMIT_BYTES for word in words)
    _require(short, field, f"process has a text of more than {TEXT_LIMIT_BYTES} bytes")
    problem = f"process.args and process.env take more than {ARGUMENTS_LIMIT_BYTES} bytes"
    _require(arguments_fit(words), field, problem)
    _check_namespaces(known, field)
    spec["root"] = {**table(spec, "root"), "path": _root(known.root.path, field, bundle_path)}
    spec["ociVersion"] = known.oci_version or OCI_VERSION
    if bundle_path is not None and known.mounts:
        spec["mounts"] = [
            _mount_below(bundle_path, mount, typed)
            for mount, typed in zip(_mounts(spec), known.mounts, strict=True)
        ]
    if known.hooks is not None:
        root = str(table(spec, "root")["path"])
        places = dict.fromkeys(_HOOKS_IN_BUNDLE, bundle_path) | {"createContainer": root}
        spec["hooks"] = _hooks_below(places, table(spec, "hooks"), field)
    return spec


def _check_namespaces(known: RuntimeSpec, field: str) -> None:
    """Refuse a namespace that is not there: runtimes say so in words that mean anything."""
    for each in (known.linux.namespaces if known.linux else None) or ():
        if each.path and each.path.startswith("/") and not os.path.exists(each.path):
            problem = f"its {each.type} namespace {cut(each.path, 256)!r} is not there"
            raise InvalidArgument.of(field, problem, reason="NAMESPACE_NOT_FOUND", path=each.path)


def _check_values(spec: Spec, field: str) -> None:
    """Refuse what JSON can say and no runtime can take, wherever it stands."""
    level: list[object] = [spec]
    for _ in range(_DEPTH_LIMIT):
        for value in level:
            texts = [value] if isinstance(value, str) else value if isinstance(value, dict) else ()
            _require(not any("\0" in text for text in texts), field, "holds a NUL")
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    _require(False, field, f"is deeper than {_DEPTH_LIMIT} levels")


def _root(path: str, field: str, bundle_path: str | None) -> str:
    """The root filesystem's path without any link, as runc wants it."""
    root = path if bundle_path is None else os.path.join(bundle_path, path)
    _require(root.startswith("/"), field, f"root.path {cut(root, 256)!r} is not absolute")
    is_directory = os.path.isdir(root) and not os.path.islink(root.rstrip("/"))
    _require(is_directory, field, f"root.path {cut(root, 256)!r} is no directory")
    return os.path.realpath(root)


def _require(ok: bool, field: str, problem: str) -> None:
    if not ok:
        raise InvalidArgument.of(field, problem, reason="INVALID_SPEC")


def _mount_below(bundle_path: str, mount: dict[str, object], typed: SpecMount) -> dict[str, object]:
    # Runtimes take a bind mount's relative source as below the bundle; ours is elsewhere.
    binds = typed.type == "bind" or {"bind", "rbind"} & set(typed.options or ())
    if not binds or not typed.source or typed.source.startswith("/"):
        return mount
    return {**mount, "source": os.path.join(bundle_path, typed.source)}


def _hooks_below(
    places: Mapping[str, str | None], hooks: dict[str, object], field: str
) -> dict[str, object]:
    """The hooks, with relative paths made absolute; ``places`` are the directories by kind."""
    changed = dict(hooks)
    for kind, place in places.items():
        found = msgspec.convert(hooks.get(kind) or [], list[dict[str, object]])
        for hook in found:
            path = str(hook["path"])
            if path.startswith("/"):
                continue
            _require(place is not None, field, f"the path of a {kind} hook is not absolute")
            # Its program is called what it was.
            hook |= {"args": hook.get("args") or [path], "path": os.path.join(place or "", path)}
        if found:
            changed[kind] = found
    return changed


def _mounts(spec: Spec) -> list[dict[str, object]]:
    return msgspec.convert(spec["mounts"], list[dict[str, object]])


def table(spec: Spec, key: str) -> dict[str, object]:
    """An object in a spec; empty when it is not there."""
    return msgspec.convert(spec.get(key) or {}, dict[str, object])
