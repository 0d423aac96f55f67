"""What runs, as messages: the spec of a container, and its processes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ocigrpc.engine.containers.inspect import ContainerProcess, Inspection
from ocigrpc.engine.model.values import Position
from ocigrpc.oci.bundle import SpecFile
from ocigrpc.oci.spec.linux_types import SpecIdMapping
from ocigrpc.oci.spec.types import ShownSpec, SpecCapabilities, SpecMount, SpecUser
from ocigrpc.service.from_proto import container_id
from ocigrpc.service.pages import PROCESSES_LIMIT, Page, page_of, size_of
from ocigrpc.service.times import duration
from ocigrpc.v1 import config_pb2, container_pb2, process_pb2

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

# Most that a spec takes in an answer: with labels and annotations, it fits the 4 MiB that clients
# of gRPC accept by default.
SPEC_LIMIT_BYTES = 2 << 20

# How many specs are kept as messages, which takes a few KiB for each, and of which files at most.
_KEPT, _KEPT_BYTES = 64, 64 << 10

_PROPAGATIONS = {
    prefix + word: number
    for word, number in (
        ("private", config_pb2.MOUNT_PROPAGATION_PRIVATE),
        ("slave", config_pb2.MOUNT_PROPAGATION_HOST_TO_CONTAINER),
        ("shared", config_pb2.MOUNT_PROPAGATION_BIDIRECTIONAL),
    )
    for prefix in ("", "r")
}


def container_spec(found: Inspection) -> container_pb2.ContainerSpec | None:
    """What a container runs, not to be changed; None when its spec can't be read."""
    file = found.spec
    if file is None:
        return None
    message = _kept_message if file.size_bytes <= _KEPT_BYTES else _message
    try:
        return message(file, found.seccomp_profile)
    except (OSError, ValueError):
        return None


def _message(file: SpecFile, seccomp_profile: str) -> container_pb2.ContainerSpec:
    spec = file.shown()
    message = _spec(spec)
    seccomp = spec.linux.seccomp if spec.linux is not None else None
    if seccomp is not None:
        message.seccomp.default_action = seccomp.default_action
        message.seccomp.rules = len(seccomp.syscalls or ())
        message.seccomp.profile_path = seccomp_profile
    if spec.linux is not None and spec.linux.uid_mappings and spec.linux.gid_mappings:
        _add_mappings(message.user_namespace.uid_mappings, spec.linux.uid_mappings)
        _add_mappings(message.user_namespace.gid_mappings, spec.linux.gid_mappings)
    if message.ByteSize() > SPEC_LIMIT_BYTES:
        message.ClearField("env")
        message.ClearField("mounts")
        message.truncated = True
    return message


# To read and convert a spec would be half of a status, and clients ask for the same few often.
_kept_message = functools.lru_cache(maxsize=_KEPT)(_message)


def _spec(spec: ShownSpec) -> container_pb2.ContainerSpec:
    process = spec.process
    user = process.user or SpecUser()
    message = container_pb2.ContainerSpec(
        command=process.args,
        env=dict(each.partition("=")[::2] for each in process.env or ()),
        working_dir=process.cwd,
        user=container_pb2.ContainerUser(
            uid=user.uid, gid=user.gid, supplemental_groups=user.additional_gids
        ),
        rootfs_path=spec.root.path,
        readonly_rootfs=bool(spec.root.readonly),
        terminal=bool(process.terminal),
        capabilities=_capabilities(process.capabilities or SpecCapabilities()),
        no_new_privileges=bool(process.no_new_privileges),
    )
    for mount in spec.mounts or ():
        _add_mount(message, mount)
    return message


def _capabilities(sets: SpecCapabilities) -> container_pb2.Capabilities:
    return container_pb2.Capabilities(
        bounding=sets.bounding,
        effective=sets.effective,
        permitted=sets.permitted,
        inheritable=sets.inheritable,
        ambient=sets.ambient,
    )


def _add_mount(message: container_pb2.ContainerSpec, mount: SpecMount) -> None:
    """Add it as it could be asked for: what has a field of its own is no option."""
    added = message.mounts.add(
        container_path=mount.destination,
        host_path=mount.source or "",
        type=mount.type or "bind",
        propagation=config_pb2.MOUNT_PROPAGATION_PRIVATE,
    )
    for option in mount.options or ():
        if option == "ro":
            added.readonly = True
        elif option in _PROPAGATIONS:
            added.propagation = _PROPAGATIONS[option]
        else:
            added.options.append(option)


def _add_mappings(
    added: RepeatedCompositeFieldContainer[config_pb2.IdMapping], mappings: Sequence[SpecIdMapping]
) -> None:
    for each in mappings:
        added.add(container_id=each.container_id, host_id=each.host_id, size=each.size)


def processes_request(request: process_pb2.ListProcessesRequest) -> tuple[str, Page]:
    """Which container's processes, and which page of them. Raises ``InvalidArgument``."""
    wanted_id = container_id(request)
    page = page_of(request, wanted_id.encode())
    return wanted_id, page._replace(size=min(page.size or PROCESSES_LIMIT, PROCESSES_LIMIT))


def add_process(
    entries: RepeatedCompositeFieldContainer[process_pb2.Process], process: ContainerProcess
) -> tuple[Position, int]:
    """Add a process to a list: where it stands there, and the size of its entry."""
    usage, user = process
    entry = entries.add(
        pid=usage.pid,
        container_pid=usage.container_pid,
        parent_pid=usage.parent_pid,
        uid=usage.uid,
        cpu_time=duration(usage.cpu_ns),
        rss_bytes=usage.rss_bytes,
        command=usage.command,
        user=user,
    )
    return (usage.pid, ""), size_of(entry)
