"""OCI runtimes that go wrong: small scripts which do one verb badly and the rest well."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ocigrpc.waiting import Deadline
from tests.bed.hosts.leaks import LIMIT_S

# Holds a verb up until a test lets it go on; see Gate.
_GATED = 'echo begun > "$gate/begun"; read go < "$gate/go"; exec runc "$@"'

# A question which options there are does no verb.
ASKED = 'case " $* " in *" --help "*) exec runc "$@" ;; esac'

# Name, verb that it does badly, and how.
FAULTS = {
    "hangs": ("create", 'echo begun > "$gate/begun"; exec sleep 1000'),
    "floods": ("create", "head -c 200000 /dev/zero | tr '\\0' x >&2; exit 1"),
    "silent": ("create", "exit 1"),
    "talks": ("create", "echo the moon is full >&2; exit 1"),
    # The cgroup that is being made is then nobody's.
    "killed": (
        "create",
        """made() { for each in /sys/fs/cgroup/*/*/"ocigrpc-container-$id"; do
            [ ! -e "$each" ] || return 0
        done; return 1; }
        nice -n 19 runc "$@" & runtime=$!
        until made; do :; done
        kill -9 $runtime; wait $runtime; exit 1""",
    ),
    "state-hangs": ("state", "exec sleep 1000"),
    "state-talks": ("state", "echo the moon is full"),
    "state-fails": ("state", "echo the moon is full >&2; exit 1"),
    "state-lies": ("state", 'echo "{\\"id\\": \\"$id\\", \\"status\\": \\"dreaming\\"}"'),
    # Reports a failure where there is none; and nothing can be undone while it is stuck.
    "half": ("create", 'touch "$gate/stuck"; runc "$@"; echo the moon is full >&2; exit 1'),
    "start-fails": ("start", "echo the moon is full >&2; exit 1"),
    "pause-hangs": ("pause", "exec sleep 1000"),
    # runc, when the kernel does not freeze all processes at once.
    "freezes-late": (
        "pause",
        '[ -e "$gate/$id" ] && exec runc "$@"; : > "$gate/$id"; echo unable to freeze >&2; exit 1',
    ),
    "never-freezes": ("pause", "echo unable to freeze >&2; exit 1"),
    # runc, when a stop thaws what it is about to freeze.
    "finds-thawed": (
        "pause",
        'echo begun > "$gate/begun"; read go < "$gate/go"; '
        "echo unexpected state THAWED while freezing >&2; exit 1",
    ),
    "gated": ("create", _GATED),
    "gated-start": ("start", _GATED),
    "gated-pause": ("pause", _GATED),
    "gated-exec": ("exec", _GATED),
    "gated-delete": ("delete", _GATED),
}

_SCRIPT = """#!/bin/sh
gate='{gate}'
{asked}
for word; do
    [ "$word" = {verb} ] && bad=yes
    id=$word
done
if [ -n "$bad" ]; then
{fault}
exit
fi
case " $* " in *" delete "*) [ ! -e "$gate/stuck" ] || exit 1 ;; esac
exec runc "$@"
"""


def write_faults(directory: Path) -> dict[str, Path]:
    """The scripts by the names of their faults, in ``directory``; also two that can't be run."""
    scripts = {}
    for name, (verb, fault) in FAULTS.items():
        scripts[name] = directory / f"{name}.sh"
        scripts[name].write_text(
            _SCRIPT.format(verb=verb, fault=fault, gate=directory, asked=ASKED)
        )
        scripts[name].chmod(0o755)
    scripts["forbidden"] = directory / "forbidden"
    scripts["forbidden"].write_text("#!/bin/sh\n")
    scripts["forbidden"].chmod(0o644)
    scripts["missing"] = directory / "missing"
    return scripts


class Gate:
    """Both sides of the ``gated`` runtime: it reports that it has begun, and waits for a go."""

    def __init__(self, directory: Path) -> None:
        for name in ("begun", "go"):
            os.mkfifo(directory / name)
        # For both directions, so that neither side has to wait for the other to open it.
        self._begun = os.open(directory / "begun", os.O_RDWR | os.O_NONBLOCK)
        self._go = os.open(directory / "go", os.O_RDWR | os.O_NONBLOCK)

    def wait(self, deadline: Deadline) -> None:
        """Wait until a verb has begun."""
        deadline.wait(self._begun)
        os.read(self._begun, 4096)

    def reset(self) -> None:
        """Forget the verbs that have begun before, and take back a go that no verb has used."""
        for pipe in (self._begun, self._go):
            with suppress(BlockingIOError):
                os.read(pipe, 4096)

    def open(self) -> None:
        os.write(self._go, b"go\n")

    def close(self) -> None:
        os.close(self._begun)
        os.close(self._go)


HANGS = 'echo > "$begun"; exec sleep 1000'
HANGS_WHEN_DONE = 'runc "$@"; echo > "$begun"; exec sleep 1000'

# What a verb can be switched to: see Switches.
FLOODS = "yes | head -c 50000000; yes | head -c 50000000 >&2; exit 1"

_SWITCHED = """#!/bin/sh
begun='{directory}/begun'
{asked}
for word; do
    case $word in
        */*) ;;
        *) [ -f "{directory}/$word" ] && . "{directory}/$word" ;;
    esac
done
exec runc "$@"
"""


class Switches:
    """A runtime that does well what is not switched to a fault, at ``path``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "switches"
        self._directory.mkdir()
        os.mkfifo(self._directory / "begun")
        # For both directions, so that the runtime need not wait for us to open it.
        self._begun = os.open(self._directory / "begun", os.O_RDWR | os.O_NONBLOCK)
        self.path = directory / "switched.sh"
        self.path.write_text(_SWITCHED.format(directory=self._directory, asked=ASKED))
        self.path.chmod(0o755)

    @contextmanager
    def on(self, verb: str, fault: str) -> Iterator[None]:
        """Have a verb go wrong in the block."""
        switch = self._directory / verb
        switch.write_text(fault + "\n")
        try:
            yield
        finally:
            switch.unlink()
            with suppress(BlockingIOError):
                os.read(self._begun, 4096)

    def wait(self) -> None:
        """Wait until a verb hangs."""
        Deadline(LIMIT_S).wait(self._begun)

    def close(self) -> None:
        os.close(self._begun)
