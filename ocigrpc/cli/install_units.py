"""The units for systemd, written to where systemd reads them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import click

from ocigrpc.cli.failures import Failed

DIRECTORY = Path(__file__).parents[1] / "units"
PROGRAM = "/opt/ocigrpc/bin/ocigrpc"
"""What the units run, as they are in the package."""

# No character of these means something to systemd.
_PLAIN_PATH = re.compile(r"/[\w/.+-]+")


@click.command("install-units")
@click.option(
    "--root",
    metavar="DIR",
    default="/",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Of the file system, in which it is etc/systemd/system.",
)
def install_units(root: Path) -> None:
    """Write the units for systemd, and print their paths.

    They run this program. Files that are there already are replaced; what you change belongs in
    drop-ins. Afterwards: systemctl daemon-reload
    """
    program = str(Path(sys.executable).with_name("ocigrpc"))
    if not _PLAIN_PATH.fullmatch(program) or not Path(program).exists():
        raise Failed(f"no unit can run {program}: install the package in a directory like /opt")
    directory = root / "etc/systemd/system"
    try:
        for path in write_units(directory, program):
            click.echo(path)
    except OSError as error:
        raise Failed(f"can't write to {directory}: {error.strerror}") from error


def write_units(directory: Path, program: str) -> list[Path]:
    """Write the units, which then run ``program``, to a directory that is made if it is missing.

    Their paths, sorted. Raises ``Failed`` if one of them is masked, ``OSError``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    units = {directory / unit.name: unit for unit in sorted(DIRECTORY.iterdir())}
    for target in units:
        if target.is_symlink() and os.readlink(target) == os.devnull:
            raise Failed(f"{target} is masked: systemctl unmask {target.name}")
    for target, unit in units.items():
        # No unit by its suffix. It takes the place of what is there, be it a link.
        new = directory / f"{unit.name}.new"
        try:
            new.write_text(unit.read_text().replace(PROGRAM, program))
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
    return list(units)
