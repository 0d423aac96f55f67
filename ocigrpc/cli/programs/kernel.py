"""What the kernel is asked for a program, as options of ``run`` and ``create``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import click

from ocigrpc.cli.parsed import Parsed

if TYPE_CHECKING:
    from ocigrpc.v1.config_pb2 import (
        ContainerConfig,
        DeviceCgroupRule,
        IdMapping,
        Namespace,
        Rlimit,
    )

# RLIM_INFINITY.
_UNLIMITED = (1 << 64) - 1
_RULE = re.compile(r"([abc])\s+(\*|\d+):(\*|\d+)\s+([rwm]+)")
_GROUP_LAST = (1 << 32) - 1
# Of a user, a group, or how many there are.
_NUMBER_LAST = (1 << 32) - 1


class KernelOptions(TypedDict):
    """The values of ``KERNEL_OPTIONS``."""

    network: Namespace | None
    pid: Namespace | None
    ipc: Namespace | None
    uts: Namespace | None
    cgroupns: Namespace | None
    uidmap: Sequence[IdMapping]
    gidmap: Sequence[IdMapping]
    sysctl: Sequence[tuple[str, str]]
    ulimit: Sequence[Rlimit]
    group_add: Sequence[int]
    device_cgroup_rule: Sequence[DeviceCgroupRule]
    oom_score_adj: int | None


def ask_kernel(config: ContainerConfig, options: KernelOptions) -> None:
    """Add what the options say to a config."""
    spaces = (options[name] for name in ("network", "pid", "ipc", "uts", "cgroupns"))
    config.namespaces.extend(each for each in spaces if each is not None)
    # As podman has it: those of one stand for both.
    users, groups = options["uidmap"], options["gidmap"]
    config.user_namespace.uid_mappings.extend(users or groups)
    config.user_namespace.gid_mappings.extend(groups or users)
    if not users and not groups:
        config.ClearField("user_namespace")
    config.sysctls.update(dict(options["sysctl"]))
    config.rlimits.extend(options["ulimit"])
    config.supplemental_groups.extend(options["group_add"])
    config.device_cgroup_rules.extend(options["device_cgroup_rule"])
    if (score := options["oom_score_adj"]) is not None:
        config.resources.oom_score_adj = score


class _NamespaceOf(click.ParamType["Namespace | None"]):
    """The type of an option for a namespace: the host's, or the one at a path; None for a new one.

    ``private`` is the word for that.
    """

    def __init__(self, kind: str, private: str = "private") -> None:
        self.name = f"{private}|host|ns:path"
        self._kind = kind
        self._private = private

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Namespace | None:
        """The namespace. Raises a usage error."""
        from ocigrpc.v1 import config_pb2 as pb

        text = str(value)
        if text == self._private:
            return None
        kind = f"NAMESPACE_TYPE_{self._kind}"
        if text == "host":
            return pb.Namespace(type=kind, mode=pb.NAMESPACE_MODE_HOST)
        if not text.startswith("ns:/"):
            self.fail(f"{text!r} is not {self._private}, host or ns:PATH.", param, ctx)
        path = text.removeprefix("ns:")
        return pb.Namespace(type=kind, mode=pb.NAMESPACE_MODE_PATH, path=path)


def id_mapping(text: str) -> IdMapping:
    """A range of users or groups: ``CONTAINER:HOST:SIZE``. Raises ``ValueError``."""
    from ocigrpc.v1.config_pb2 import IdMapping

    if re.fullmatch(r"[0-9]+:[0-9]+:[0-9]+", text) is None:
        raise ValueError(f"{text!r} is not CONTAINER:HOST:SIZE, as in 0:100000:65536")
    container_id, host_id, size = map(int, text.split(":"))
    if max(container_id, host_id, size) > _NUMBER_LAST:
        raise ValueError(f"{text!r} has a number above {_NUMBER_LAST}")
    return IdMapping(container_id=container_id, host_id=host_id, size=size)


def sysctl(text: str) -> tuple[str, str]:
    """A parameter of the kernel, and its value. Raises ``ValueError``."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return name, value


def ulimit(text: str) -> Rlimit:
    """A limit: ``NAME=SOFT`` or ``NAME=SOFT:HARD``; -1 is none. Raises ``ValueError``."""
    from ocigrpc.v1.config_pb2 import Rlimit

    found = re.fullmatch(r"([a-z]+)=(-1|unlimited|\d+)(?::(-1|unlimited|\d+))?", text)
    if found is None:
        raise ValueError(f"{text!r} is not NAME=SOFT or NAME=SOFT:HARD, as in nofile=1024:4096")
    soft, hard = (_limit(each or found[2], text) for each in (found[2], found[3]))
    return Rlimit(type=f"RLIMIT_{found[1].upper()}", soft=soft, hard=hard)


def _limit(number: str, text: str) -> int:
    if not number.isdecimal():
        return _UNLIMITED
    if (value := int(number)) > _UNLIMITED:
        raise ValueError(f"{text!r} is larger than any limit")
    return value


def group(text: str) -> int:
    """The number of a group. Raises ``ValueError``."""
    if not text.isdecimal() or int(text) > _GROUP_LAST:
        raise ValueError(f"{text!r} is no number of a group; of names, --user finds the groups")
    return int(text)


def device_rule(text: str) -> DeviceCgroupRule:
    """Devices that are allowed: ``TYPE MAJOR:MINOR PERMISSIONS``. Raises ``ValueError``."""
    from ocigrpc.v1 import config_pb2 as pb

    found = _RULE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not TYPE MAJOR:MINOR PERMISSIONS, as in 'c 10:* rw'")
    kinds = {"a": pb.DEVICE_TYPE_ALL, "b": pb.DEVICE_TYPE_BLOCK, "c": pb.DEVICE_TYPE_CHARACTER}
    major, minor = (None if each == "*" else _number(each, text) for each in found.groups()[1:3])
    return pb.DeviceCgroupRule(type=kinds[found[1]], major=major, minor=minor, permissions=found[4])


def _number(number: str, text: str) -> int:
    if (value := int(number)) >> 32:
        raise ValueError(f"{text!r} has a number that no device has")
    return value


KERNEL_OPTIONS = (
    click.Option(
        ["--network", "--net"],
        default="none",
        show_default=True,
        type=_NamespaceOf("NETWORK", "none"),
        help="Whose network it has.",
    ),
    click.Option(["--pid"], type=_NamespaceOf("PID"), help="Whose processes it sees."),
    click.Option(["--ipc"], type=_NamespaceOf("IPC"), help="Whose shared memory it sees."),
    click.Option(["--uts"], type=_NamespaceOf("UTS"), help="Whose hostname it has."),
    click.Option(["--cgroupns"], type=_NamespaceOf("CGROUP"), help="Which cgroups it sees."),
    click.Option(
        ["--uidmap"],
        multiple=True,
        type=Parsed("container:host:size", id_mapping),
        help="A range of users in a user namespace of its own; --gidmap's unless given.",
    ),
    click.Option(
        ["--gidmap"],
        multiple=True,
        type=Parsed("container:host:size", id_mapping),
        help="A range of groups in it; --uidmap's unless given.",
    ),
    click.Option(
        ["--sysctl"],
        multiple=True,
        type=Parsed("name=value", sysctl),
        help="A parameter of the kernel, of namespaces of its own.",
    ),
    click.Option(
        ["--ulimit"],
        multiple=True,
        type=Parsed("name=soft[:hard]", ulimit),
        help="A limit of setrlimit(2), as in nofile=1024:4096. -1: no limit.",
    ),
    click.Option(
        ["--group-add"],
        multiple=True,
        type=Parsed("number", group),
        help="A further group of the program.",
    ),
    click.Option(
        ["--device-cgroup-rule"],
        multiple=True,
        type=Parsed("type major:minor permissions", device_rule),
        help="Devices that it may use once it has made their files, as in 'c 10:* rw'.",
    ),
    click.Option(
        ["--oom-score-adj"],
        type=click.IntRange(-1000, 1000),
        help="Whether it is killed first (1000) or last (-1000) when memory runs out.",
    ),
)
