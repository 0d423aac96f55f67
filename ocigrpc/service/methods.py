"""The policies of the RPCs of ``ocigrpc.v1``: one table with a row for each."""

from __future__ import annotations

from collections.abc import Mapping

from ocigrpc.oci.spec.users import GROUPS_LIMIT
from ocigrpc.rpc.methods import Kind, Method
from ocigrpc.v1 import runtime_pb2
from ocigrpc.violations import ARGUMENTS_LIMIT

# ``ocigrpc.v1.RuntimeService``.
SERVICE_NAME = runtime_pb2.DESCRIPTOR.services_by_name["RuntimeService"].full_name

# Most seconds of the client's time that are reserved for the answer of a call that may take long;
# more would cut that short.
_ANSWER_S = 0.5


def _method(name: str, kind: Kind, budget: str = "") -> Method:
    return Method(f"{SERVICE_NAME}/{name}", kind, f"{SERVICE_NAME}/{budget or name}")


def _read(name: str) -> Method:
    return _method(name, Kind.READ)._replace(is_read_only=True)


def _watch(name: str, kind: Kind = Kind.STREAM) -> Method:
    return _method(name, kind)._replace(is_read_only=True, is_long=True, answer_share=0)


def _exec(name: str, kind: Kind) -> Method:
    return _method(name, kind, "Exec")._replace(is_long=True, answer_limit_s=_ANSWER_S)


def _copy(name: str) -> Method:
    return _method(name, Kind.STREAM)._replace(is_long=True, answer_limit_s=_ANSWER_S)


METHODS = (
    _read("Version")._replace(while_recovering=True),
    _read("Status")._replace(while_recovering=True),
    _read("ContainerStatus"),
    _read("ListContainers"),
    _read("ListProcesses"),
    _read("ContainerStats"),
    _read("ListContainerStats"),
    _method("CreateContainer", Kind.SLOW),
    _method("StartContainer", Kind.SLOW),
    _method("PauseContainer", Kind.SLOW),
    _method("ResumeContainer", Kind.SLOW),
    _method("UpdateContainerResources", Kind.SLOW),
    _method("ReopenContainerLog", Kind.SLOW),
    _method("StopContainer", Kind.RESCUE)._replace(is_long=True, answer_limit_s=_ANSWER_S),
    _method("KillContainer", Kind.RESCUE),
    _method("RemoveContainer", Kind.RESCUE),
    _exec("ExecSync", Kind.WAIT),
    _exec("Exec", Kind.STREAM),
    # Only for administrators, since it reads any file of a container.
    _copy("CopyOut"),
    _copy("CopyInto"),
    _watch("WaitContainer", Kind.WAIT),
    _watch("ContainerLogs"),
    _watch("WatchEvents"),
    _watch("WatchStats"),
    _watch("Attach")._replace(is_read_only=False),
    # Only for administrators, since it takes room on the store's disk.
    _watch("BackupStore")._replace(is_read_only=False, is_single=True),
)

# Limits of lists and maps in requests that differ from the general one.
COUNT_LIMITS: Mapping[str, int] = {
    "ocigrpc.v1.ContainerConfig.command": ARGUMENTS_LIMIT,
    "ocigrpc.v1.ContainerConfig.args": ARGUMENTS_LIMIT,
    "ocigrpc.v1.ContainerConfig.env": ARGUMENTS_LIMIT,
    "ocigrpc.v1.ContainerConfig.supplemental_groups": GROUPS_LIMIT,
    "ocigrpc.v1.ExecProcess.command": ARGUMENTS_LIMIT,
    "ocigrpc.v1.ExecProcess.env": ARGUMENTS_LIMIT,
    # Each mount has such a list.
    "ocigrpc.v1.Mount.options": 64,
}
