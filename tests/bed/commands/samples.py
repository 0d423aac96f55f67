"""What a service and its containers take of the machine at one moment, and how it drifts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.bed.hosts.usage import Usage, usage_of
from tests.bed.services.service import Service

# Most by which a service may grow, as a part of what it was.
DRIFT_LIMIT = 0.1


class Sample(NamedTuple):
    """What a service takes, and how many there are of what containers have."""

    fds: int
    threads: int
    rss: int
    zombies: int
    cgroups: int
    mounts: int
    files: int

    @property
    def left(self) -> Sequence[str]:
        """What there should be none of while there are no containers, and is."""
        counts = self._asdict()
        return [name for name in self._fields if name not in Usage._fields and counts[name]]

    def outgrown(self, later: Sample) -> Sequence[str]:
        """What a service has more of later than ``DRIFT_LIMIT`` allows."""
        before, after = self._asdict(), later._asdict()
        return [name for name in Usage._fields if after[name] > before[name] * (1 + DRIFT_LIMIT)]


def take_sample(service: Service) -> Sample:
    leaks = service.host_leaks
    return Sample(
        *usage_of(service.pid),
        zombies=sum(state == "Z" for state in _states_of_children(service.pid)),
        cgroups=len(list(leaks.groups())),
        mounts=len(list(leaks.mounts())),
        files=len(list(leaks.files())),
    )


def _states_of_children(pid: int) -> Iterator[str]:
    """The state letters of a process's children; see proc(5), stat."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        # Processes may end meanwhile.
        with suppress(OSError):
            state, parent = path.read_text(errors="replace").rpartition(") ")[2].split()[:2]
            if parent == str(pid):
                yield state


def print_samples(samples: Sequence[tuple[str, Sample]]) -> None:
    """Print them side by side by their names, and how a third differs from the second."""
    print(f"{'':<10}", *(f"{name:>14}" for name, _ in samples), f"{'drift':>8}")
    for field in Sample._fields:
        counts = [sample._asdict()[field] for _, sample in samples]
        unit = "rss, KiB" if field == "rss" else field
        print(f"{unit:<10}", *(f"{count:>14}" for count in counts), f"{_drift(*counts[1:]):>8}")


def _drift(before: int, after: int | None = None) -> str:
    if after is None:
        return "-"
    return f"{(after - before) / before:+.1%}" if before else f"{after - before:+}"
