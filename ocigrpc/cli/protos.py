"""The contract's files, written out for generators of clients in other languages."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import ocigrpc

_PACKAGE = "ocigrpc/v1"


def write_protos(directory: Path) -> list[Path]:
    """Write the ``.proto`` files below ``directory``, by the paths that they import each other.

    The paths of the files, sorted. Raises ``OSError``.
    """
    target = directory / _PACKAGE
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in sorted(_protos().items()):
        (target / name).write_text(text)
        written.append(target / name)
    return written


def _protos() -> dict[str, str]:
    """The texts by the names of the files."""
    # A wheel has them beside the code made from them; a clone has them once, where they are edited.
    clone = Path(ocigrpc.__file__).parents[1] / "protos" / _PACKAGE
    found = [each for each in files("ocigrpc.v1").iterdir() if each.name.endswith(".proto")]
    return {each.name: each.read_text() for each in found or clone.glob("*.proto")}
