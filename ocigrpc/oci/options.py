"""Which options a program supports, of those that we pass: probed, never guessed from a version.

The program is run with the options and ``--help``, so that it does nothing else: it refuses
options that it does not know, and lists those that it does. Each binary is probed once, and
again when it is replaced.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping, Sequence

from msgspec import Struct

from ocigrpc.errors import HostFailed, PreconditionFailed, Timeout
from ocigrpc.host.processes.child import ENVIRONMENT, run
from ocigrpc.waiting import Deadline

# Longest time for one run of a program.
_PROBE_S = 2.0

# How long a program is not probed again after it could not be.
_RETRY_S = 30.0

_LISTED = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


class Option(Struct, frozen=True):
    """An option with ``value``, if it takes one; ``lost`` is what does not work without it."""

    name: str
    lost: str
    value: str = ""

    @property
    def argv(self) -> tuple[str, ...]:
        """The option as arguments."""
        return (self.name, self.value) if self.value else (self.name,)


class _Probe(Struct, frozen=True):
    binary: tuple[int, ...]
    unknown: frozenset[str]
    until_s: float


class Options:
    """The options that one program supports, as far as it has been probed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._probes: dict[tuple[str, ...], _Probe] = {}

    def unknown(
        self,
        argv: Sequence[str],
        options: Sequence[Option],
        deadline: Deadline,
        env: Mapping[str, str] = ENVIRONMENT,
    ) -> frozenset[str]:
        """Those of ``options`` that may not follow ``argv``, which begins with a path.

        Empty, if the program can't be probed. Raises ``Cancelled``.
        """
        key = (*argv, *(option.name for option in options))
        binary = _identity(argv[0])
        with self._lock:
            probe = self._probes.get(key)
        if probe is None or probe.binary != binary or probe.until_s <= time.monotonic():
            try:
                unknown = _unknown(argv, options, deadline.within(len(options) * _PROBE_S), env)
                probe = _Probe(binary, unknown, float("inf"))
            except (HostFailed, Timeout):
                probe = _Probe(binary, frozenset(), time.monotonic() + _RETRY_S)
            with self._lock:
                self._probes[key] = probe
        return probe.unknown


def require_option(program: str, name: str, unknown: frozenset[str]) -> None:
    """Raise ``PreconditionFailed`` (OPTION_UNKNOWN) if ``program`` does not know an option."""
    if name in unknown:
        raise PreconditionFailed(
            f"{program} does not know {name}", reason="OPTION_UNKNOWN", program=program, option=name
        )


def _unknown(
    argv: Sequence[str], options: Sequence[Option], deadline: Deadline, env: Mapping[str, str]
) -> frozenset[str]:
    """The options that a program refuses. Raises ``HostFailed``, ``Timeout`` or ``Cancelled``."""
    names = {option.name for option in options}
    listed = _listed(argv, options, deadline, env)
    if listed is None:
        if _listed(argv, (), deadline, env) is None:
            raise HostFailed(f"{argv[0]} has no --help")
        known = set[str]()
        for option in options:
            listed = _listed(argv, (option,), deadline, env)
            if listed is not None and (option.name in listed or not listed & names):
                known.add(option.name)
        return frozenset(names - known)
    # A help text that lists none of them has no list, or has it in another form.
    return frozenset(names - listed) if listed & names else frozenset()


def _listed(
    argv: Sequence[str], options: Sequence[Option], deadline: Deadline, env: Mapping[str, str]
) -> set[str] | None:
    """The options in its help text; None when it refuses ``options``."""
    arguments = (argument for option in options for argument in option.argv)
    ended = run([*argv, *arguments, "--help"], deadline.within(_PROBE_S), env=env)
    if ended.returncode != 0:
        return None
    return set(_LISTED.findall((ended.stdout + ended.stderr).decode(errors="replace")))


def _identity(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
