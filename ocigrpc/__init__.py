"""A container runtime service for one Linux node: gRPC in front, conmon and runc behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocigrpc.client import Client

__all__ = ["Client"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Imported when it is used, since it loads gRPC, and every module of the package imports this.
    if name == "Client":
        from ocigrpc.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
