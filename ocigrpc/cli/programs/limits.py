"""Limits of containers, as options of ``run``, ``create`` and ``update``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import click

from ocigrpc.cli import amounts
from ocigrpc.cli.parsed import Parsed

if TYPE_CHECKING:
    from ocigrpc.v1.config_pb2 import LinuxContainerResources

_CPU_PERIOD_US = 100_000
_SIZE = Parsed("size", amounts.size)


class LimitOptions(TypedDict):
    """The values of ``LIMIT_OPTIONS``; None for those that are not given."""

    memory: int | None
    memory_swap: int | None
    cpus: int | None
    cpu_shares: int | None
    cpuset_cpus: str | None
    cpuset_mems: str | None
    pids: int | None


LIMIT_OPTIONS = (
    click.Option(
        ["--memory", "-m"], type=_SIZE, help="Memory: a number and b, k, m or g. 0: no limit."
    ),
    click.Option(["--memory-swap"], type=_SIZE, help="Memory and swap together. 0: no limit."),
    click.Option(
        ["--cpus"],
        type=Parsed("number", amounts.cpus),
        help="CPU time, as a number of CPUs, as in 1.5. 0: no limit.",
    ),
    click.Option(
        ["--cpu-shares", "-c"],
        type=Parsed("number", amounts.weight),
        help="Weight among others; 1024 is usual.",
    ),
    click.Option(["--cpuset-cpus"], help="CPUs to run on, as in 0-2,4."),
    click.Option(["--cpuset-mems"], help="Memory nodes to use, as in 0."),
    click.Option(
        ["--pids", "--pids-limit"],
        type=Parsed("number", amounts.count),
        help="Processes and threads. 0: no limit.",
    ),
)


def resources_of(options: LimitOptions) -> LinuxContainerResources | None:
    """The limits that are given; None if none is."""
    from ocigrpc.v1.config_pb2 import LinuxContainerResources

    if all(options.get(option.name or "") is None for option in LIMIT_OPTIONS):
        return None
    quota = options["cpus"]
    return LinuxContainerResources(
        memory_limit_in_bytes=options["memory"],
        memory_swap_limit_in_bytes=options["memory_swap"],
        cpu_period=None if quota in (None, amounts.NO_LIMIT) else _CPU_PERIOD_US,
        cpu_quota=quota,
        cpu_shares=options["cpu_shares"],
        cpuset_cpus=options["cpuset_cpus"],
        cpuset_mems=options["cpuset_mems"],
        pids_limit=options["pids"],
    )
