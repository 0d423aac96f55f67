"""Mounts of a container: the defaults, and those of its config."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import structs

from ocigrpc.host.descriptors import closing_fd
from ocigrpc.oci.spec.config import (
    ContainerConfig,
    Mount,
    NamespaceMode,
    NamespaceType,
    Propagation,
)
from ocigrpc.oci.spec.namespaces import Namespaces
from ocigrpc.oci.spec.types import SpecMount
from ocigrpc.oci.spec.user_namespace import is_mapped
from ocigrpc.violations import PATH_LIMIT_BYTES, Violations

_TYPE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OPTION_LIMIT_BYTES = 4095

_PROPAGATION_OPTIONS = {
    Propagation.PRIVATE: "rprivate",
    Propagation.HOST_TO_CONTAINER: "rslave",
    Propagation.BIDIRECTIONAL: "rshared",
}

# The tags of the host's mount, one of which is necessary for a propagation.
_ENOUGH_TAGS = {
    Propagation.HOST_TO_CONTAINER: {"shared", "master"},
    Propagation.BIDIRECTIONAL: {"shared"},
}


# The group tty, which terminals belong to; /etc/group of Debian and others.
_TERMINALS_GROUP = 5

# The mounts of every container, in the order of mounting.
DEFAULT_MOUNTS = (
    SpecMount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
    SpecMount(
        "/dev", "tmpfs", "tmpfs", ["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]
    ),
    SpecMount(
        "/dev/pts",
        "devpts",
        "devpts",
        [
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            f"gid={_TERMINALS_GROUP}",
        ],
    ),
    SpecMount(
        "/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]
    ),
    SpecMount("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
    SpecMount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    SpecMount(
        "/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"]
    ),
)

_HOST_SHM = SpecMount("/dev/shm", "bind", "/dev/shm", ["rbind", "nosuid", "noexec", "nodev"])


def mounts_of(
    config: ContainerConfig, namespaces: Namespaces, violations: Violations
) -> tuple[list[SpecMount], str]:
    """The default mounts, then those of the config, outer ones before inner ones.

    The text is the spec's ``linux.rootfsPropagation``, empty for the default. A mount with the
    destination of a default replaces it. Adds violations for a destination that is "/" or given
    twice, for a bind mount of a missing path (HOST_PATH_NOT_FOUND), and for a propagation that
    the host's mount does not have (MOUNT_NOT_SHARED).
    """
    own = _own_mounts(config.mounts, violations)
    mounts = merge_mounts(_defaults(config, namespaces), own)
    wanted = {mount.propagation for mount in config.mounts}
    # A mount can only propagate if the root does: the runtime sets the root's propagation to
    # this before it mounts anything below it.
    shared = [p for p in (Propagation.BIDIRECTIONAL, Propagation.HOST_TO_CONTAINER) if p in wanted]
    return mounts, (_PROPAGATION_OPTIONS[shared[0]] if shared else "")


def merge_mounts(defaults: Iterable[SpecMount], own: Iterable[SpecMount]) -> list[SpecMount]:
    """``defaults``, each replaced by the mount of ``own`` with the same destination, if any.

    The other mounts of ``own`` follow, sorted so that no mount hides an earlier one.
    """
    by_destination = {mount.destination: mount for mount in own}
    merged = [by_destination.pop(mount.destination, mount) for mount in defaults]
    return merged + sorted(by_destination.values(), key=lambda m: m.destination.count("/"))


def _defaults(config: ContainerConfig, namespaces: Namespaces) -> list[SpecMount]:
    defaults = list(DEFAULT_MOUNTS)
    if config.privileged:
        defaults = [_without(m, "ro") if m.destination.startswith("/sys") else m for m in defaults]
    if namespaces.mode(NamespaceType.IPC) is NamespaceMode.HOST:
        # POSIX shared memory consists of the files in this directory.
        defaults = [_HOST_SHM if m.destination == "/dev/shm" else m for m in defaults]
    namespace = config.user_namespace
    if namespace is not None and not is_mapped(_TERMINALS_GROUP, namespace.gid_mappings):
        defaults = [_without(m, f"gid={_TERMINALS_GROUP}") for m in defaults]
    return defaults


def _without(mount: SpecMount, option: str) -> SpecMount:
    return structs.replace(mount, options=[o for o in mount.options or () if o != option])


def _own_mounts(mounts: Sequence[Mount], violations: Violations) -> list[SpecMount]:
    own: dict[str, SpecMount] = {}
    for index, mount in enumerate(mounts):
        field = f"config.mounts[{index}]"
        destination = container_path(f"{field}.container_path", mount.container_path, violations)
        violations.allow(
            destination not in own,
            f"{field}.container_path",
            f"{destination!r} is given twice",
            "DUPLICATE",
        )
        own[destination] = _spec_mount(mount, destination, field, violations)
    return list(own.values())


def container_path(field: str, path: str, violations: Violations) -> str:
    """``path`` in its shortest form. Adds violations for relative paths, and "/" itself."""
    if not violations.absolute_path(field, path):
        return path
    shortest = "/" + posixpath.normpath(path).lstrip("/")
    violations.allow(shortest != "/", field, "is the root itself", "PATH_IS_ROOT")
    return shortest


def _spec_mount(mount: Mount, destination: str, field: str, violations: Violations) -> SpecMount:
    kind = mount.type or "bind"
    violations.allow(
        _TYPE.fullmatch(kind) is not None, f"{field}.type", f"{kind!r} is not a type", "MALFORMED"
    )
    options = ["ro" if mount.readonly else "rw"]
    if kind == "bind":
        options = ["rbind", _PROPAGATION_OPTIONS[mount.propagation], *options]
        _check_source(mount, field, violations)
    else:
        violations.text(f"{field}.host_path", mount.host_path, PATH_LIMIT_BYTES)
        violations.allow(
            mount.propagation is Propagation.PRIVATE,
            f"{field}.propagation",
            "goes with bind mounts only",
            "NOT_APPLICABLE",
        )
    for number, option in enumerate(mount.options):
        option_field = f"{field}.options[{number}]"
        violations.text(option_field, option, _OPTION_LIMIT_BYTES)
        violations.allow(
            option != "" and "," not in option, option_field, "is not one option", "MALFORMED"
        )
    return SpecMount(destination, kind, mount.host_path or kind, [*options, *mount.options])


def _check_source(mount: Mount, field: str, violations: Violations) -> None:
    if not violations.absolute_path(f"{field}.host_path", mount.host_path):
        return
    try:
        tags = _propagation_tags(mount.host_path)
    except OSError as error:
        violations.add(
            f"{field}.host_path", f"{mount.host_path!r}: {error.strerror}", "HOST_PATH_NOT_FOUND"
        )
        return
    enough = _ENOUGH_TAGS.get(mount.propagation)
    violations.allow(
        enough is None or bool(enough & tags),
        f"{field}.propagation",
        f"{mount.host_path!r} is on a mount that is not shared",
        "MOUNT_NOT_SHARED",
    )


def _propagation_tags(path: str) -> set[str]:
    """Tags of the mount that ``path`` is on: "shared", "master"; proc_pid_mountinfo(5)."""
    with closing_fd(os.open(path, os.O_PATH)) as fd:
        fdinfo = Path(f"/proc/self/fdinfo/{fd}").read_text()
    mount_id = re.search(r"^mnt_id:\s*(\d+)$", fdinfo, re.MULTILINE)
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        fields = line.split(" ")
        if mount_id and fields[0] == mount_id[1]:
            return {tag.partition(":")[0] for tag in fields[6 : fields.index("-")]}
    return set()
