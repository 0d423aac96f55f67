"""systemd as the manager of cgroups: transient scopes, over D-Bus, in bounded time.

The interface is org.freedesktop.systemd1(5); units are systemd.scope(5), .slice(5). What calls
systemd raises ``CgroupFailed`` (SCOPE_FAILED, BUS_UNREACHABLE), ``Timeout`` or ``Cancelled``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from jeepney import DBusAddress

from ocigrpc.errors import CgroupFailed
from ocigrpc.host.cgroups.cpuset import parse_set
from ocigrpc.host.dbus import Bus, Pending, Refused, connect
from ocigrpc.waiting import Deadline

_MANAGER = DBusAddress(
    "/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager"
)
_PROPERTIES = DBusAddress(
    _MANAGER.object_path, _MANAGER.bus_name, "org.freedesktop.DBus.Properties"
)
_ERROR = "org.freedesktop.systemd1."
_JOBS = (
    "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',"
    "interface='org.freedesktop.systemd1.Manager',member='JobRemoved'"
)
_SIGKILL = 9
_US_PER_S = 1_000_000
_INFINITY = (1 << 64) - 1
_SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}
_NUMBERS = {
    "cpu.weight": "CPUWeight",
    "memory.max": "MemoryMax",
    "memory.swap.max": "MemorySwapMax",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "pids.max": "TasksMax",
}


def slice_path(slice_name: str) -> str:
    """The path of a slice's cgroup: "/a.slice/a-b.slice" for "a-b.slice", "/" for "-.slice".

    Raises ``CgroupFailed`` (SLICE_NAME_INVALID). The rule is in systemd.slice(5).
    """
    if slice_name == "-.slice":
        return "/"
    stem = slice_name.removesuffix(".slice")
    names = stem.split("-")
    if stem == slice_name or not all(re.fullmatch(r"[A-Za-z0-9:_.\\]+", name) for name in names):
        raise CgroupFailed(
            f"{slice_name!r} is not the name of a slice",
            reason="SLICE_NAME_INVALID",
            slice=slice_name,
        )
    return "".join(f"/{'-'.join(names[: depth + 1])}.slice" for depth in range(len(names)))


def scope_path(slice_name: str, unit: str) -> str:
    """The path of the cgroup of a scope in a slice; raises ``CgroupFailed`` for a wrong name."""
    _check_scope(unit)
    return slice_path(slice_name).rstrip("/") + f"/{unit}"


def start_scope(
    unit: str,
    pids: Sequence[int],
    slice_name: str,
    deadline: Deadline,
    *,
    description: str = "",
    before: Sequence[str] = (),
    without: str = "",
) -> None:
    """Put processes into a new scope in a slice; on return they are in its cgroup.

    The scope is delegated, and removed once its last process has ended, even if it has failed.
    systemd stops it only after the units in ``before``, whether those exist yet or not. It is
    not started while there is a scope of the name in ``without``.

    Also raises ``CgroupFailed`` (SCOPE_EXISTS). After ``Timeout`` or ``Cancelled`` it may still
    be started, so stop it.
    """
    scope_path(slice_name, unit)
    properties = [
        ("Description", ("s", description or unit)),
        ("Slice", ("s", slice_name)),
        ("PIDs", ("au", list(pids))),
        ("Delegate", ("b", True)),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("Before", ("as", list(before))),
    ]
    with _manager(unit, deadline) as bus:
        if without and _is_active(bus, without):
            raise CgroupFailed(
                f"there is a scope {without} already", reason="SCOPE_EXISTS", unit=without
            )
        body: tuple[object, ...] = (unit, "fail", properties, [])
        signature = "ssa(sv)a(sa(sv))"
        _run_job(bus, unit, lambda: bus.send(_MANAGER, "StartTransientUnit", signature, *body))


def set_limits(unit: str, texts: Mapping[str, str], deadline: Deadline) -> None:
    """Give systemd the limits of a scope, as files of cgroup v2, to record and set.

    Those without a property of systemd are skipped.
    """
    properties = [each for name, text in texts.items() for each in limit_properties(name, text)]
    if properties:
        with _manager(unit, deadline) as bus:
            bus.call(_MANAGER, "SetUnitProperties", "sba(sv)", unit, True, properties)
            # systemd sets them, and those of earlier calls, before it answers the next call.
            bus.call(_PROPERTIES, "Get", "ss", _MANAGER.interface, "Version")


def limit_properties(name: str, text: str) -> Sequence[tuple[str, tuple[str, object]]]:
    """The properties for a file of cgroup v2, systemd.resource-control(5), with their values."""
    text = text.strip()
    if name == "cpu.max":
        quota, _, period = text.partition(" ")
        per_s = _INFINITY if quota == "max" else int(quota) * _US_PER_S // int(period)
        quotas = {"CPUQuotaPerSecUSec": per_s, "CPUQuotaPeriodUSec": int(period)}
        return [(property, ("t", number)) for property, number in quotas.items()]
    if name in _SETS:
        numbers = parse_set(text)
        mask = [
            sum(1 << bit for bit in range(8) if at + bit in numbers)
            for at in range(0, max(numbers, default=-1) + 1, 8)
        ]
        return [(_SETS[name], ("ay", bytes(mask)))]
    if name in _NUMBERS:
        return [(_NUMBERS[name], ("t", _INFINITY if text == "max" else int(text)))]
    return []


def stop_scope(unit: str, deadline: Deadline) -> None:
    """Kill all processes of a scope and stop it; no error if there is no such scope."""
    with _manager(unit, deadline) as bus:
        try:
            bus.call(_MANAGER, "KillUnit", "ssi", unit, "all", _SIGKILL)
        except Refused as refusal:
            # Other errors are about the killing, which the stop does again.
            if refusal.name == f"{_ERROR}NoSuchUnit":
                return
        try:
            _run_job(bus, unit, lambda: bus.send(_MANAGER, "StopUnit", "ss", unit, "replace"))
        except Refused as refusal:
            if refusal.name != f"{_ERROR}NoSuchUnit":
                raise


def scope_active(unit: str, deadline: Deadline) -> bool:
    """Whether a scope has, or is about to get or lose, its cgroup."""
    with _manager(unit, deadline) as bus:
        return _is_active(bus, unit)


def ping(deadline: Deadline) -> str:
    """The version of the systemd that is this host's init.

    Also raises ``CgroupFailed`` (SYSTEMD_UNREACHABLE).
    """
    with connect(deadline) as bus:
        try:
            (variant,) = bus.call(_PROPERTIES, "Get", "ss", _MANAGER.interface, "Version")
        except Refused as refusal:
            raise CgroupFailed(
                f"systemd does not answer on the system bus: {refusal.text}",
                reason="SYSTEMD_UNREACHABLE",
                error=refusal.text,
            ) from refusal
        assert isinstance(variant, tuple)
        return str(variant[1])


def _is_active(bus: Bus, unit: str) -> bool:
    (listed,) = bus.call(_MANAGER, "ListUnitsByNames", "as", [unit])
    assert isinstance(listed, list)
    return any(state not in ("inactive", "failed") for _, _, _, state, *_ in listed)


def _check_scope(unit: str) -> None:
    if len(unit) > 255 or not re.fullmatch(r"[A-Za-z0-9:_.\\@-]+\.scope", unit):
        raise CgroupFailed(
            f"{unit!r} is not the name of a scope", reason="SCOPE_NAME_INVALID", unit=unit
        )


@contextmanager
def _manager(unit: str, deadline: Deadline) -> Iterator[Bus]:
    """The bus, for a scope; a wrong name, and what systemd refuses, are failures of the scope."""
    _check_scope(unit)
    with connect(deadline) as bus:
        try:
            yield bus
        except Refused as refusal:
            exists = refusal.name == f"{_ERROR}UnitExists"
            raise CgroupFailed(
                f"systemd refused scope {unit}: {refusal.text}",
                reason="SCOPE_EXISTS" if exists else "SCOPE_FAILED",
                unit=unit,
                error=refusal.text,
                dbus_error=refusal.name,
            ) from refusal


def _run_job(bus: Bus, unit: str, send: Callable[[], Pending]) -> None:
    """Have systemd start a job and wait until it is done; raises ``Refused`` too."""
    # Subscribe before the call, or a quick job's end would be missed; but without waiting,
    # since calls of one connection are handled in their order.
    bus.match(_JOBS)
    bus.send(_MANAGER, "Subscribe")
    (job,) = bus.reply(send())
    *_, result = bus.signal("JobRemoved", lambda body: body[1] == job)
    if result != "done":
        raise CgroupFailed(
            f"systemd's job for scope {unit} ended as {result}",
            reason="SCOPE_FAILED",
            unit=unit,
            result=result,
        )
