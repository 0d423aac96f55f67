"""What the service costs beyond bare conmon and an OCI runtime.

Both sides take turns on the same bundle, so that both see the same noise of the machine; each
figure is the median, with its quartiles. What a reboot clears, the service's run directory and the
roots of runtimes, is on a tmpfs for both sides, as on hosts with systemd; logs and the store are
on a disk. It prints last which figures missed their targets. Exit status 0 unless something failed
to run: a missed target is no failure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ocigrpc.host.cgroups.hierarchy import Hierarchies, Kind
from tests.bed.bundles.shell_container import V2_SIDE, WITHOUT_V2_SIDE
from tests.bed.faults.hanging import hanging_runtime
from tests.bed.measures.calls import beside_hanging, status
from tests.bed.measures.figures import Figure, print_table
from tests.bed.measures.growth import growth
from tests.bed.measures.images import images
from tests.bed.measures.lives import in_flight, lives
from tests.bed.measures.logs import logs
from tests.bed.measures.sides import Bench
from tests.bed.measures.verbs import execs, pause_many, pause_one
from tests.bed.services.serving import sandbox

Measure = Callable[[Bench], Iterator[Figure]]

# With each runtime, beside bare.
WITH_RUNTIME: Mapping[str, Measure] = {
    "lives": lives,
    "flight": in_flight,
    "pause": pause_one,
    "pause-many": pause_many,
    "exec": execs,
}
# Of the service alone.
ALONE: Mapping[str, Measure] = {
    "status": status,
    "hanging": beside_hanging,
    "logs": logs,
    "images": images,
    "growth": growth,
}

# The tmpfs that every host has; see shm_overview(7).
_TMPFS = "/dev/shm"

_ON_CGROUP2 = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
    'mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"',
    "sh",
)


def figures(benches: Sequence[Bench], names: Sequence[str]) -> Iterator[Figure]:
    """The figures of the measures of these names, as soon as each is there."""
    for bench in benches:
        for name in (each for each in WITH_RUNTIME if each in names):
            for figure in WITH_RUNTIME[name](bench):
                yield figure._replace(name=f"{bench.runtime}: {figure.name}")
    for name in ALONE:
        if name in names:
            yield from ALONE[name](benches[0])


def main() -> None:
    arguments = _arguments()
    if other := _other_host(arguments):
        os.execvp(other[0], [*other, *sys.orig_argv])
    with (
        _compiled(),
        tempfile.TemporaryDirectory(prefix="ocigrpc-state-", dir=_TMPFS) as state,
        hanging_runtime() as hanging,
        sandbox(Path(state), hanging=hanging.path) as service,
    ):
        benches = [Bench(service, each, arguments.samples, hanging) for each in arguments.runtime]
        missed = print_table(figures(benches, arguments.only))
    for each in missed:
        print(f"missed: {each.name}: {each.compared}, not {each.target}")


@contextmanager
def _compiled() -> Iterator[None]:
    """Have services find their code compiled in a ``with``, as an installed one does."""
    # Not in the checkout: what root leaves there, its owner can't remove.
    with tempfile.TemporaryDirectory(prefix="ocigrpc-compiled-") as directory:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = directory
        yield


def _other_host(arguments: argparse.Namespace) -> Sequence[str]:
    """What runs the bench as on another host than this one; nothing if this one will do."""
    if arguments.cgroup2 and Hierarchies.detect().kind is not Kind.V2:
        return _ON_CGROUP2
    if "crun" in arguments.runtime and V2_SIDE.exists() and V2_SIDE.read_text().strip():
        # crun refuses a hybrid host whose v2 side has controllers.
        return WITHOUT_V2_SIDE
    return ()


def _arguments() -> argparse.Namespace:
    measures = [*WITH_RUNTIME, *ALONE]
    runtimes = [name for name in ("runc", "crun") if shutil.which(name)]
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--samples", type=int, default=60, help="of each side, at least 2 (default: %(default)s)"
    )
    parser.add_argument(
        "--runtime",
        nargs="+",
        choices=runtimes,
        default=runtimes,
        help="with these alone (default: all that are installed)",
    )
    parser.add_argument(
        "--only", nargs="+", choices=measures, default=measures, help="these measures alone"
    )
    parser.add_argument(
        "--cgroup2",
        action="store_true",
        help="in a mount namespace with cgroup v2 alone, on a host that has v1",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
