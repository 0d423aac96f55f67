"""The contract's files, written out for generators of clients in other languages."""

from __future__ import annotations

from pathlib import Path

import click

from ocigrpc.cli.failures import Failed
from ocigrpc.contract import PACKAGE, contract_files


@click.command("protos")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def protos(directory: Path) -> None:
    """Write the API's files below a directory, and print their paths.

    They are the .proto files, and the gRPC service config. The directory is made if it is missing.
    """
    try:
        written = write_protos(directory)
    except OSError as error:
        raise Failed(f"can't write to {directory}: {error.strerror}") from error
    for path in written:
        click.echo(path)


def write_protos(directory: Path) -> list[Path]:
    """Write the contract's files below ``directory``, by the paths that they import each other.

    Their paths, sorted. Raises ``OSError``.
    """
    target = directory / PACKAGE
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in sorted(contract_files().items()):
        (target / name).write_text(text)
        written.append(target / name)
    return written
