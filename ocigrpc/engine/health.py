"""What works and what does not, and how to correct it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from ocigrpc.conmon.argv import OPTIONS as CONMON_OPTIONS
from ocigrpc.engine.containers.cgroups import parents
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.model.values import Condition, Counts, HandlerVersion, State, Versions
from ocigrpc.engine.recovery.recovery import Recovery
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import HostFailed, OcigrpcError
from ocigrpc.host.cgroups import systemd
from ocigrpc.host.processes.programs import find_program, program_version, require_program
from ocigrpc.oci.options import Option, Options
from ocigrpc.oci.runtime import OPTIONS as RUNTIME_OPTIONS
from ocigrpc.oci.runtime import Runtime
from ocigrpc.oci.spec.seccomp import check_host_profile, host_profile
from ocigrpc.settings.values import CgroupManager
from ocigrpc.waiting import Deadline

_VERSION_TIMEOUT_S = 5.0
_SYSTEMD_TIMEOUT_S = 5.0
# Before systemd is asked again for health checks, which look every second.
_SYSTEMD_PAUSE_S = 5.0

# Reason of a condition that is true, though a program does not know all that we pass.
_LOST = "OptionsUnknown"


class Health:
    """Checks the programs, the cgroups and the store."""

    def __init__(self, context: Context, store: Store, recovery: Recovery) -> None:
        self._context = context
        self._store = store
        self._recovery = recovery
        self._began_ns = time.monotonic_ns()
        self._next_ping_s = 0.0

    def versions(self, deadline: Deadline) -> Versions:
        """The version that each program reports, in at most a few seconds each."""
        return Versions(
            conmon=_version(self._context.settings.conmon.path, deadline),
            handlers=tuple(
                HandlerVersion(name, runtime.path, _version(runtime.path, deadline))
                for name, runtime in sorted(self._context.runtimes.items())
            ),
        )

    def conditions(self, deadline: Deadline) -> Sequence[Condition]:
        """The conditions of ``Status``."""
        return (
            self._runtimes(deadline),
            self._monitor(deadline),
            _condition(
                "CgroupsReady",
                "CgroupManagerFailed",
                lambda: probe_cgroups(self._context, deadline),
            ),
            _condition("StoreReady", "StoreFailed", self._store.check),
            _condition("SeccompReady", "SeccompProfileBroken", check_host_profile),
            self._recovery.condition(),
        )

    def counts(self, states: Iterable[State]) -> Counts:
        """The numbers of ``Status``; ``states`` are those of the containers."""
        kept, first, last = self._store.event_log.extent()
        return Counts(
            uptime_ns=time.monotonic_ns() - self._began_ns,
            states=tuple(states),
            container_limit=self._context.settings.limits.containers,
            events_kept=kept,
            first_event=first,
            last_event=last,
            store_bytes=self._store.size_bytes(),
        )

    def require_store(self, deadline: Deadline) -> None:
        """Raise ``StoreFailed`` or ``Timeout`` unless the store is in place and can be read."""
        self._store.probe(deadline)

    def require_serving(self, deadline: Deadline) -> None:
        """Raise what is wrong, as far as it shows without running a program or writing anything.

        ``StoreFailed`` or ``Timeout`` for the store, ``HostFailed`` when conmon or the default
        runtime is not there, or the host's seccomp profile can't be used, ``CgroupFailed`` or
        ``Timeout`` for the cgroups.
        """
        self._store.require_working(deadline)
        settings = self._context.settings
        require_program(settings.conmon.path)
        require_program(settings.runtimes[settings.default_runtime].path)
        check_host_profile()
        for parent in parents(self._context.hierarchies, settings):
            parent.require_writable()
        if settings.cgroup.manager is CgroupManager.SYSTEMD:
            self._require_systemd(deadline)

    def require_working(self, deadline: Deadline) -> None:
        """Raise what would keep every container from being made.

        ``HostFailed`` (PROGRAM_BROKEN) for conmon or the default runtime, ``CgroupFailed`` or
        ``Timeout`` for the cgroups.
        """
        settings = self._context.settings
        for path in (settings.conmon.path, self._context.runtimes[settings.default_runtime].path):
            problem = program_problem(path, deadline)
            if problem:
                raise HostFailed(problem, reason="PROGRAM_BROKEN", path=path)
        probe_cgroups(self._context, deadline)

    def default_seccomp_profile(self) -> str:
        """The path of the host's profile that RUNTIME_DEFAULT is; empty for the service's own."""
        try:
            host = host_profile()
        except HostFailed as error:
            return error.metadata["path"]
        return "" if host is None else host.path

    def _require_systemd(self, deadline: Deadline) -> None:
        """Raise ``CgroupFailed`` or ``Timeout`` unless it answers, or has just done so."""
        if time.monotonic() < self._next_ping_s:
            return
        systemd.ping(deadline.within(_SYSTEMD_TIMEOUT_S))
        self._next_ping_s = time.monotonic() + _SYSTEMD_PAUSE_S

    def _runtimes(self, deadline: Deadline) -> Condition:
        default = self._context.settings.default_runtime
        broken = {
            name: problem
            for name, runtime in sorted(self._context.runtimes.items())
            if (problem := program_problem(runtime.path, deadline))
        }
        if default in broken:
            reason = "DefaultRuntimeBroken"
            return Condition("RuntimeReady", False, reason, "; ".join(broken.values()))
        lost = [
            problem
            for name, runtime in sorted(self._context.runtimes.items())
            if name not in broken
            for problem in lost_by_runtime(runtime, deadline)
        ]
        message = "; ".join([*broken.values(), *lost])
        return Condition("RuntimeReady", True, _LOST if lost else "", message)

    def _monitor(self, deadline: Deadline) -> Condition:
        problem = program_problem(self._context.settings.conmon.path, deadline)
        if problem:
            return Condition("MonitorReady", False, "ConmonBroken", problem)
        path, options = self._context.settings.conmon.path, self._context.conmon_options
        lost = list(lost_by_conmon(path, options, deadline))
        return Condition("MonitorReady", True, _LOST if lost else "", "; ".join(lost))


def _condition(kind: str, reason: str, check: Callable[[], object]) -> Condition:
    """A condition that is true unless ``check`` fails, and ``reason`` if it does."""
    try:
        check()
    except OcigrpcError as error:
        return Condition(kind, False, reason, error.message)
    return Condition(kind, True)


def probe_cgroups(context: Context, deadline: Deadline) -> None:
    """Raise ``CgroupFailed`` or ``Timeout`` if containers or their monitors can have no cgroups."""
    if context.settings.cgroup.manager is CgroupManager.SYSTEMD:
        systemd.ping(deadline.within(_SYSTEMD_TIMEOUT_S))
    for parent in parents(context.hierarchies, context.settings):
        parent.create()
        # It may have existed, and only others may be allowed to make groups in it.
        probe = parent.child(f"ocigrpc-probe-{secrets.token_hex(8)}")
        try:
            probe.create()
        finally:
            probe.remove_if_empty()


def lost_by_runtime(runtime: Runtime, deadline: Deadline) -> Iterator[str]:
    """What does not work because an OCI runtime lacks options. Raises ``Cancelled``."""
    for verb, options in RUNTIME_OPTIONS.items():
        unknown = runtime.unknown_options(verb, deadline.within(_VERSION_TIMEOUT_S))
        yield from _lost(f"{runtime.path} {verb}".rstrip(), options, unknown)


def lost_by_conmon(path: str, options: Options, deadline: Deadline) -> Iterator[str]:
    """What does not work because conmon lacks options. Raises ``Cancelled``."""
    program = find_program(path) or path
    unknown = options.unknown([program], CONMON_OPTIONS, deadline.within(_VERSION_TIMEOUT_S))
    yield from _lost(program, CONMON_OPTIONS, unknown)


def _lost(program: str, options: Sequence[Option], unknown: frozenset[str]) -> Iterator[str]:
    """What a program that does not know some options costs."""
    for option in options:
        if option.name in unknown:
            yield f"{program} does not know {option.name}: {option.lost}"


def program_problem(path: str, deadline: Deadline) -> str:
    """What is wrong with a program of the settings, and how to correct it; empty if nothing is."""
    try:
        require_program(path)
    except HostFailed as error:
        return error.message
    if not _version(path, deadline):
        return f"{path} --version fails"
    return ""


def _version(path: str, deadline: Deadline) -> str:
    version = program_version(path, deadline.within(_VERSION_TIMEOUT_S))
    if not version:
        # When the caller has no time left, that does not mean that the program is broken.
        deadline.check()
    return version
