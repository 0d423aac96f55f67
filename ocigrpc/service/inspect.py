"""What runs, as messages: the spec of a container, and its processes."""

from __future__ import annotations

from ocigrpc.engine.containers.inspect import ContainerProcess, Inspection
from ocigrpc.engine.model.values import Position
from ocigrpc.oci.spec.types import ShownSpec, SpecCapabilities, SpecMount, SpecUser
from ocigrpc.service.from_proto import container_id
from ocigrpc.service.pages import PROCESSES_LIMIT, Page, page_of
from ocigrpc.service.times import duration
from ocigrpc.v1 import config_pb2, container_pb2, process_pb2

# Most that a spec takes in an answer: with labels and annotations, it fits the 4 MiB that clients
# of gRPC accept by default.
SPEC_LIMIT_BYTES = 2 << 20

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
    """What a container runs; None when its spec can't be read."""
    spec = found.spec
    if spec is None:
        return None
    message = _spec(spec)
    seccomp = spec.linux.seccomp if spec.linux is not None else None
    if seccomp is not None:
        message.seccomp.default_action = seccomp.default_action
        message.seccomp.rules = len(seccomp.syscalls or ())
        message.seccomp.profile_path = found.seccomp_profile
    if message.ByteSize() > SPEC_LIMIT_BYTES:
        message.ClearField("env")
        message.ClearField("mounts")
        message.truncated = True
    return message


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


def processes_request(request: process_pb2.ListProcessesRequest) -> tuple[str, Page]:
    """Which container's processes, and which page of them. Raises ``InvalidArgument``."""
    wanted_id = container_id(request)
    page = page_of(request, wanted_id.encode())
    return wanted_id, page._replace(size=min(page.size or PROCESSES_LIMIT, PROCESSES_LIMIT))


def listed_process(process: ContainerProcess) -> tuple[Position, process_pb2.Process]:
    """A process as an entry of a list, and where it stands there."""
    usage, user = process
    return (usage.pid, ""), process_pb2.Process(
        pid=usage.pid,
        container_pid=usage.container_pid,
        parent_pid=usage.parent_pid,
        uid=usage.uid,
        cpu_time=duration(usage.cpu_ns),
        rss_bytes=usage.rss_bytes,
        command=usage.command,
        user=user,
    )
