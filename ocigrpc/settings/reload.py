"""Which settings a running service can take over, and which wait for its next start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from msgspec.structs import replace

from ocigrpc.settings.table import settings_table
from ocigrpc.settings.values import RuntimeHandler, Settings

# Everything else was used at the start: directories, addresses, cgroups, the store.
RELOADABLE = frozenset(
    {
        *("log_level", "log_calls", "monitor_lost_policy", "default_runtime", "runtimes"),
        *("conmon.path", "conmon.log_level", "logs.max_bytes", "limits.containers"),
        *("timeouts.verb_s", "timeouts.stop_s", "timeouts.kill_s", "timeouts.undo_s"),
        *("timeouts.drain_s", "images.skopeo", "images.pinned"),
        *("images.policy", "images.registries_conf", "images.registries_d", "images.auth_file"),
        *("images.stall_timeout_s", "images.lock_timeout_s", "images.resolve_timeout_s"),
        *("images.parallel_pulls", "images.usage_interval_s"),
    }
)
# These up to what the service was started with, since its threads are counted for that.
RELOADABLE_LIMITS = frozenset({"limits.unary_threads", "limits.stream_threads"})


class Reload(NamedTuple):
    """What comes of new settings: those in force then, and the keys of those that differ."""

    settings: Settings
    changed: Sequence[str]
    at_restart: Sequence[str]
    """Those that stay as they are until the service starts again, as in ``runtimes.runc.root``."""


def reload(wanted: Settings, current: Settings, started: Settings) -> Reload:
    """Take ``wanted`` over from ``current``, as far as a service that was ``started`` so can.

    A runtime can be added and, but for where it keeps its containers, changed; it is forgotten only
    by a start, since containers may use it.
    """
    runtimes, waiting = _runtimes(wanted.runtimes, current.runtimes)
    wanted = replace(wanted, runtimes=runtimes)
    changed, at_restart, settings = list[str](), list[str](), current
    for key in (each.key for each in settings_table()):
        value_of = attrgetter(key)
        if value_of(wanted) == value_of(current):
            continue
        within = key in RELOADABLE_LIMITS and value_of(wanted) <= value_of(started)
        if key in RELOADABLE or within:
            settings = _with(settings, key, value_of(wanted))
            changed.append(key)
        else:
            at_restart.append(key)
    return Reload(settings, changed, at_restart + waiting)


def _runtimes(
    wanted: Mapping[str, RuntimeHandler], current: Mapping[str, RuntimeHandler]
) -> tuple[dict[str, RuntimeHandler], list[str]]:
    """All runtimes from now on, and the keys of what waits for a start."""
    waiting = [f"runtimes.{name}" for name in current if name not in wanted]
    found = dict(current)
    for name, handler in wanted.items():
        kept = current.get(name, handler)
        waiting += [
            f"runtimes.{name}.{key}"
            for key in ("root", "args")
            if getattr(handler, key) != getattr(kept, key)
        ]
        # With another --root, which args may have as well, it would not know its containers.
        found[name] = replace(handler, root=kept.root, args=kept.args)
    return found, waiting


def _with(settings: Settings, key: str, value: object) -> Settings:
    table, _, name = key.rpartition(".")
    if not table:
        return replace(settings, **{name: value})
    return replace(settings, **{table: replace(getattr(settings, table), **{name: value})})
