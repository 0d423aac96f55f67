"""The group ``system``: what docker and podman have there of the node as a whole."""

from __future__ import annotations

from ocigrpc.cli.lazy_group import LazyGroup

_COMMANDS = {"df": "ocigrpc.cli.images.df:df"}

system = LazyGroup("system", _COMMANDS, params=[], help_text="Commands for the node as a whole.")
