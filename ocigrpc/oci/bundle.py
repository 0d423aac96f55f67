"""Bundles: the client's spec is read, adopted, and written to a bundle of our own.

The client's bundle is never written to, so it may be read-only or serve many containers.
The fields are those of the OCI runtime spec, bundle.md and config.md.

A spec stays a dict from the request to the runtime: fields of newer versions and of other
systems must reach the runtime unchanged, and a typed value would drop them. The types of
``ocigrpc.oci.spec.types`` check it once, when it arrives (see ``_decoded``); after that
``table`` reads the few objects that the service itself needs.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

import msgspec
from msgspec import Struct

from ocigrpc.errors import HostFailed, InvalidArgument, cut
from ocigrpc.failing import host_failing
from ocigrpc.host.files.directory import make_directory, write_new_file
from ocigrpc.host.files.regular import SIZE_LIMIT_BYTES, read_regular_file_in
from ocigrpc.oci import go_json
from ocigrpc.oci.paths import ContainerPaths
from ocigrpc.oci.spec.types import OCI_VERSION, RuntimeSpec, ShownSpec, SpecMount
from ocigrpc.violations import (
    ARGUMENTS_LIMIT_BYTES,
    PATH_LIMIT_BYTES,
    TEXT_LIMIT_BYTES,
    arguments_fit,
)

# An OCI runtime spec as in JSON; unknown fields are kept.
Spec = dict[str, object]


class _ProcessOnly(Struct):
    process: Spec


# Made at import: msgspec crashes when two threads use a type for the first time.
_SHOWN_SPEC = msgspec.json.Decoder(ShownSpec)
_PROCESS = msgspec.json.Decoder(_ProcessOnly)
# What specs are converted to, for the same reason.
msgspec.json.Decoder(RuntimeSpec)

# A NUL in a text, which JSON allows and no runtime takes.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*+\\u0000")

# The hooks that a runtime runs in the bundle's directory; createContainer's run in the root.
_HOOKS_IN_BUNDLE = ("prestart", "createRuntime", "poststart", "poststop")


def bundle_spec(bundle_path: str) -> Spec:
    """The spec of a bundle, with absolute paths.

    Raises ``InvalidArgument`` when there is no bundle, or its spec is malformed.
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
    """The spec in a JSON text. Raises ``InvalidArgument`` when it is malformed."""
    encoded = text.encode()
    if len(encoded) > SIZE_LIMIT_BYTES:
        raise InvalidArgument.of(
            "spec_json", f"is larger than {SIZE_LIMIT_BYTES} bytes", reason="TOO_LARGE"
        )
    return _decoded(encoded, "spec_json", None)


def asks_for_terminal(spec: Spec) -> bool:
    """Whether the spec gives its program a terminal."""
    return bool(table(spec, "process").get("terminal"))


def adopt(spec: Spec, cgroups_path: str, annotations: dict[str, str], terminal: bool) -> Spec:
    """The spec with the service's cgroup path, and the terminal and annotations of the request."""
    return {
        **spec,
        "process": {**table(spec, "process"), "terminal": terminal},
        "linux": {**table(spec, "linux"), "cgroupsPath": cgroups_path},
        "annotations": {**table(spec, "annotations"), **annotations},
    }


def make_bundle(paths: ContainerPaths) -> None:
    """Make the container's directory, still without a spec; raises ``HostFailed`` with the path."""
    make_directory(paths.bundle)


def write_spec(paths: ContainerPaths, spec: Spec) -> None:
    """Write the spec to a new file in the container's directory; raises ``HostFailed``."""
    write_new_file(paths.spec_file, msgspec.json.encode(spec))


def fill_spec(paths: ContainerPaths, spec: Spec) -> None:
    """Write the spec to its existing, empty file, which must keep its inode."""
    with host_failing("write", paths.spec_file):
        Path(paths.spec_file).write_bytes(msgspec.json.encode(spec))


def has_hooks(spec: Spec) -> bool:
    """Whether the spec has hooks, which may read and write the client's bundle."""
    return any(table(spec, "hooks").values())


def container_spec(path: str) -> Spec:
    """The spec that a container was made from; raises ``HostFailed`` with the path."""
    try:
        return _read_again(_content(path))
    except (OSError, ValueError) as error:
        raise HostFailed(f"can't read {path}: {error}", path=path, error=error) from error


def container_process(path: str) -> Spec:
    """``process`` of that spec, without decoding the rest; raises ``HostFailed`` with the path."""
    with suppress(OSError, msgspec.DecodeError):
        return _PROCESS.decode(_content(path)).process
    return table(container_spec(path), "process")


class SpecFile(NamedTuple):
    """The file of a container's spec, as it is now: written again, it is not equal any more."""

    path: str
    inode: int
    size_bytes: int
    changed_ns: int

    @classmethod
    def at(cls, path: str) -> Self | None:
        """The one at a path; None when there is none."""
        try:
            found = os.stat(path)
        except OSError:
            return None
        return cls(path, found.st_ino, found.st_size, found.st_mtime_ns)

    def shown(self) -> ShownSpec:
        """What a client is shown of it; raises ``OSError`` or ``ValueError``."""
        text = _content(self.path)
        try:
            return _SHOWN_SPEC.decode(text)
        except msgspec.DecodeError:
            return msgspec.convert(_read_again(text), ShownSpec)


def _content(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _read_again(text: bytes) -> Spec:
    try:
        return msgspec.json.decode(text, type=Spec)
    except msgspec.DecodeError:
        # A field that no runtime reads may hold a number that Python can't represent.
        return msgspec.convert(go_json.decode(text, RuntimeSpec), Spec)


def cgroups_path_of(paths: ContainerPaths) -> str:
    """``linux.cgroupsPath`` of a container; raises ``HostFailed`` with the path.

    Anybody may have made the directory, so only a regular file is opened.
    """
    path = paths.spec_file
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise HostFailed(f"{path} is not a file", path=path)
        return str(table(container_spec(path), "linux").get("cgroupsPath"))
    except (OSError, msgspec.ValidationError) as error:
        raise HostFailed(f"can't read {path}: {error}", path=path, error=error) from error


def _decoded(text: bytes, field: str, bundle_path: str | None) -> Spec:
    _require(not (b"\\u0000" in text and _NUL.search(text)), field, "contains a NUL")
    try:
        # Decoded as runc does it, so that a spec means the same to every runtime.
        spec = msgspec.convert(go_json.decode(text, RuntimeSpec), Spec)
        known = msgspec.convert(spec, RuntimeSpec)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument.of(
            field, f"is not an OCI runtime spec: {cut(str(error))}", reason="INVALID_SPEC"
        ) from error
    program = known.process.args[0]
    _require(
        len(program.encode()) <= PATH_LIMIT_BYTES, field, "process.args[0] is longer than a path"
    )
    strings = [*known.process.args, *(known.process.env or ())]
    short = all(len(each.encode()) <= TEXT_LIMIT_BYTES for each in strings)
    _require(short, field, f"process has a text of more than {TEXT_LIMIT_BYTES} bytes")
    problem = f"process.args and process.env take more than {ARGUMENTS_LIMIT_BYTES} bytes"
    _require(arguments_fit(strings), field, problem)
    _check_namespaces(known, field)
    spec["root"] = {**table(spec, "root"), "path": _root(known.root.path, field, bundle_path)}
    spec["ociVersion"] = known.oci_version or OCI_VERSION
    if bundle_path is not None and known.mounts:
        mounts = msgspec.convert(spec["mounts"], list[dict[str, object]])
        spec["mounts"] = [
            _mount_below(bundle_path, mount, typed)
            for mount, typed in zip(mounts, known.mounts, strict=True)
        ]
    if known.hooks is not None:
        root = str(table(spec, "root")["path"])
        places = dict.fromkeys(_HOOKS_IN_BUNDLE, bundle_path) | {"createContainer": root}
        spec["hooks"] = _hooks_below(places, table(spec, "hooks"), field)
    return spec


def _check_namespaces(known: RuntimeSpec, field: str) -> None:
    """Refuse a missing namespace here: the messages of runtimes for it are ambiguous."""
    for each in (known.linux.namespaces if known.linux else None) or ():
        if each.path and each.path.startswith("/") and not os.path.exists(each.path):
            problem = f"its {each.type} namespace {cut(each.path, 256)!r} is not there"
            raise InvalidArgument.of(field, problem, reason="NAMESPACE_NOT_FOUND", path=each.path)


def _root(path: str, field: str, bundle_path: str | None) -> str:
    """The root filesystem's path without symbolic links, which runc refuses."""
    root = path if bundle_path is None else os.path.join(bundle_path, path)
    _require(root.startswith("/"), field, f"root.path {cut(root, 256)!r} is not absolute")
    is_directory = os.path.isdir(root) and not os.path.islink(root.rstrip("/"))
    _require(is_directory, field, f"root.path {cut(root, 256)!r} is not a directory")
    return os.path.realpath(root)


def _require(ok: bool, field: str, problem: str) -> None:
    if not ok:
        raise InvalidArgument.of(field, problem, reason="INVALID_SPEC")


def _mount_below(bundle_path: str, mount: dict[str, object], typed: SpecMount) -> dict[str, object]:
    # Runtimes resolve a relative source in the bundle, but our bundle is elsewhere.
    binds = typed.type == "bind" or {"bind", "rbind"} & set(typed.options or ())
    if not binds or not typed.source or typed.source.startswith("/"):
        return mount
    return {**mount, "source": os.path.join(bundle_path, typed.source)}


def _hooks_below(
    places: Mapping[str, str | None], hooks: dict[str, object], field: str
) -> dict[str, object]:
    """The hooks with absolute paths; ``places`` has the directory of each kind."""
    changed = dict(hooks)
    for kind, place in places.items():
        found = msgspec.convert(hooks.get(kind) or [], list[dict[str, object]])
        for hook in found:
            path = str(hook["path"])
            if path.startswith("/"):
                continue
            _require(place is not None, field, f"the path of a {kind} hook is not absolute")
            # The program still sees its old name as the first argument.
            hook |= {"args": hook.get("args") or [path], "path": os.path.join(place or "", path)}
        if found:
            changed[kind] = found
    return changed


def table(spec: Spec, key: str) -> dict[str, object]:
    """The object ``key`` of a spec; empty when there is none."""
    return msgspec.convert(spec.get(key) or {}, dict[str, object])
