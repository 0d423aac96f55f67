"""The policies of the RPCs of ``ocigrpc.v1``: one table with a row for each."""

from __future__ import annotations

from collections.abc import Mapping

from ocigrpc.oci.spec.users import GROUPS_LIMIT
from ocigrpc.rpc.methods import Kind, Method
from ocigrpc.v1 import runtime_pb2
from ocigrpc.violations import ARGUMENTS_LIMIT

# ``ocigrpc.v1.RuntimeService``.
SERVICE_NAME = runtime_pb2.DESCRIPTOR.services_by_name["RuntimeService"].full_name

# Most seconds of the client's time that are reserved for the answer of a call whose request says
# how long it may take; more would cut that short.
_ANSWER_S = 0.5


def _full(name: str) -> str:
    return f"{SERVICE_NAME}/{name}"


def _read(name: str, *, while_recovering: bool = False) -> Method:
    full = _full(name)
    return Method(full, Kind.READ, full, is_read_only=True, while_recovering=while_recovering)


def _change(name: str) -> Method:
    return Method(_full(name), Kind.SLOW, _full(name))


def _rescue(name: str) -> Method:
    return Method(_full(name), Kind.RESCUE, _full(name))


def _watch(name: str, kind: Kind = Kind.STREAM, *, is_read_only: bool = True) -> Method:
    full = _full(name)
    return Method(full, kind, full, is_read_only=is_read_only, is_long=True, answer_share=0)


def _exec(name: str, kind: Kind) -> Method:
    return Method(_full(name), kind, _full("Exec"), is_long=True, answer_limit_s=_ANSWER_S)


METHODS = (
    _read("Version", while_recovering=True),
    _read("Status", while_recovering=True),
    _read("ContainerStatus"),
    _read("ListContainers"),
    _read("ListProcesses"),
    _read("ContainerStats"),
    _read("ListContainerStats"),
    _change("CreateContainer"),
    _change("StartContainer"),
    _change("PauseContainer"),
    _change("ResumeContainer"),
    _change("UpdateContainerResources"),
    _change("ReopenContainerLog"),
    _rescue("StopContainer")._replace(is_long=True, answer_limit_s=_ANSWER_S),
    _rescue("KillContainer"),
    _rescue("RemoveContainer"),
    _exec("ExecSync", Kind.WAIT),
    _exec("Exec", Kind.STREAM),
    _watch("WaitContainer", Kind.WAIT),
    _watch("ContainerLogs"),
    _watch("WatchEvents"),
    _watch("WatchStats"),
    _watch("Attach", is_read_only=False),
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
