"""The files of the contract: its protos, and the gRPC service config for its clients."""

from __future__ import annotations

import os

import ocigrpc

# Where the protos import each other from.
PACKAGE = "ocigrpc/v1"

_KINDS = (".proto", ".json")


def contract_file(name: str) -> str:
    """The text of one file."""
    # Not by pathlib, nor by importlib's resources: each command would take 5 ms to import them.
    with open(os.path.join(_directory(), name), encoding="utf-8") as file:
        return file.read()


def contract_files() -> dict[str, str]:
    """The texts by the names of the files."""
    return {name: contract_file(name) for name in os.listdir(_directory()) if name.endswith(_KINDS)}


def _directory() -> str:
    # A clone has them where they are edited, a wheel beside the code made from them.
    package = os.path.dirname(ocigrpc.__file__)
    clone = os.path.join(os.path.dirname(package), "protos", PACKAGE)
    return clone if os.path.isdir(clone) else os.path.join(package, "v1")
