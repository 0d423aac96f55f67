"""The command ``doctor``: all checks, their lines, and the exit status."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click
from click.core import ParameterSource

from ocigrpc.cli.daemon.commands import settings_flags, settings_of
from ocigrpc.cli.doctor.findings import Check, Finding, Host, Level, failed, warning
from ocigrpc.cli.failures import EXIT_FAILED, said
from ocigrpc.cli.progress import progress
from ocigrpc.cli.session import session
from ocigrpc.errors import CgroupFailed, OcigrpcError

if TYPE_CHECKING:
    from ocigrpc.settings.values import Settings

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILED: "red"}


class _Line(NamedTuple):
    check: str
    finding: Finding


def _doctor(config: str | None, as_json: bool, **flags: str | None) -> int:
    host = _host(settings_of(config, flags))
    lines: list[_Line] = []
    for name, check in checks():
        with progress(f"checking {name}"):
            found = [_Line(name, finding) for finding in _findings(check, host)]
        lines += found
        if not as_json:
            _show(found)
    if as_json:
        click.echo(_as_json(lines))
    is_failed = any(line.finding.level is Level.FAILED for line in lines)
    return EXIT_FAILED if is_failed else 0


doctor = click.Command(
    "doctor",
    callback=_doctor,
    params=[
        click.Option(["--json", "as_json"], is_flag=True, help="Print all findings as JSON."),
        *settings_flags(),
    ],
    help="Check whether this host has what the service needs, and try a container.\n\n"
    "Takes the settings of 'ocigrpc serve', from the same places, and changes nothing. The service"
    " is the one of the settings, unless --address names another. The exit status is 1 if something"
    " failed; warnings are for what not every container needs.",
)


def _host(settings: Settings) -> Host:
    from ocigrpc.client import Unreachable
    from ocigrpc.client.failures import require_reachable
    from ocigrpc.engine.containers.context import Context
    from ocigrpc.host.cgroups.hierarchy import Hierarchies, Kind

    try:
        hierarchies = Hierarchies.detect()
    except CgroupFailed:
        hierarchies = Hierarchies(Kind.V1, ())
    own = f"unix://{settings.socket.path}"
    try:
        require_reachable(own)
    except Unreachable:
        is_answering = False
    else:
        is_answering = True
    context = Context(settings, hierarchies)
    source = click.get_current_context().find_root().get_parameter_source("address")
    is_given = source is not ParameterSource.DEFAULT
    address = session().address if is_given else own
    return Host(settings, context, os.geteuid() == 0, is_answering, address, is_given)


def checks() -> Sequence[tuple[str, Check]]:
    """All checks with their names, in the order in which they run."""
    from ocigrpc.cli.doctor.images import check_images
    from ocigrpc.cli.doctor.kernel import check_cgroups, check_kernel, check_seccomp, check_systemd
    from ocigrpc.cli.doctor.leftovers import check_leftovers
    from ocigrpc.cli.doctor.places import check_addresses, check_directories
    from ocigrpc.cli.doctor.process import check_limits, check_privileges
    from ocigrpc.cli.doctor.programs import check_programs
    from ocigrpc.cli.doctor.service import check_service
    from ocigrpc.cli.doctor.store import check_store

    return (
        ("programs", check_programs),
        ("images", check_images),
        ("kernel", check_kernel),
        ("cgroups", check_cgroups),
        ("systemd", check_systemd),
        ("seccomp", check_seccomp),
        ("privileges", check_privileges),
        ("limits", check_limits),
        ("directories", check_directories),
        ("store", check_store),
        ("addresses", check_addresses),
        ("leftovers", check_leftovers),
        ("service", check_service),
    )


def _findings(check: Check, host: Host) -> Iterator[Finding]:
    """What a check finds; that it can't look is a finding, too."""
    try:
        yield from check(host)
    except OcigrpcError as error:
        yield failed(said(error), "")
    except PermissionError as error:
        yield warning(f"{error.filename}: only root may look there", "run doctor as root")
    except OSError as error:
        yield failed(f"{error.filename}: {error.strerror}", "")


def _show(lines: Sequence[_Line]) -> None:
    # Imported here, since JSON does not need it.
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for check, (level, message, remedy) in lines:
        text = Text.assemble((f"{level:<8}", _STYLES[level]), f"{check:<12}", message)
        if remedy:
            text.append(f"; {remedy}", "bold")
        console.print(text)


def _as_json(lines: Sequence[_Line]) -> str:
    found = [{"check": check, **finding._asdict()} for check, finding in lines]
    return json.dumps(found, indent=2)
