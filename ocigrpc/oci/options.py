"""Which of the options that we pass a program knows: asked of it, never taken from its version.

It is run with them and ``--help``, by which it does nothing: it refuses what it does not know,
and lists what it does. That is done once for each binary, and again when that is replaced.
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

_ASK_S = 2.0
"""Longest that one question may take."""

_UNANSWERED_S = 30.0
"""How long a program that gives no answer is not asked again."""

_LISTED = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


class Option(Struct, frozen=True):
    """An option with ``value``, if it takes one, and what is lost without it."""

    name: str
    lost: str
    value: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """How it is passed."""
        return (self.name, self.value) if self.value else (self.name,)


class _Answer(Struct, frozen=True):
    binary: tuple[int, ...]
    unknown: frozenset[str]
    until_s: float


class Options:
    """What one program has answered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, ...], _Answer] = {}

    def unknown(
        self,
        argv: Sequence[str],
        options: Sequence[Option],
        deadline: Deadline,
        env: Mapping[str, str] = ENVIRONMENT,
    ) -> frozenset[str]:
        """Those of ``options`` that may not be passed behind ``argv``, whose first is a path.

        None, if the program can't be asked. Raises ``Cancelled``.
        """
        key = (*argv, *(option.name for option in options))
        binary = _identity(argv[0])
        with self._lock:
            answer = self._answers.get(key)
        if answer is None or answer.binary != binary or answer.until_s <= time.monotonic():
            try:
                unknown = _ask(argv, options, deadline.within(len(options) * _ASK_S), env)
                answer = _Answer(binary, unknown, float("inf"))
            except (HostFailed, Timeout):
                answer = _Answer(binary, frozenset(), time.monotonic() + _UNANSWERED_S)
            with self._lock:
                self._answers[key] = answer
        return answer.unknown


def require_option(program: str, name: str, unknown: frozenset[str]) -> None:
    """Raise ``PreconditionFailed`` (OPTION_UNKNOWN) if ``program`` does not know an option."""
    if name in unknown:
        raise PreconditionFailed(
            f"{program} does not know {name}", reason="OPTION_UNKNOWN", program=program, option=name
        )


def _ask(
    argv: Sequence[str], options: Sequence[Option], deadline: Deadline, env: Mapping[str, str]
) -> frozenset[str]:
    """Raises ``HostFailed``, ``Timeout`` or ``Cancelled``."""
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
    # One that lists none of them has no list, or one in a form of its own.
    return frozenset(names - listed) if listed & names else frozenset()


def _listed(
    argv: Sequence[str], options: Sequence[Option], deadline: Deadline, env: Mapping[str, str]
) -> set[str] | None:
    """The options that its help lists; None when it refuses these."""
    words = (word for option in options for word in option.words)
    ended = run([*argv, *words, "--help"], deadline.within(_ASK_S), env=env)
    if ended.returncode != 0:
        return None
    return set(_LISTED.findall((ended.stdout + ended.stderr).decode(errors="replace")))


def _identity(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
