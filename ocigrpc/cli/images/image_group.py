"""The group ``image``: the commands for images under the names that docker and podman have."""

from __future__ import annotations

from ocigrpc.cli.lazy_group import LazyGroup

_COMMANDS = {
    "exists": "ocigrpc.cli.images.inspect:exists",
    "history": "ocigrpc.cli.images.inspect:history",
    "inspect": "ocigrpc.cli.images.inspect:inspect",
    "load": "ocigrpc.cli.images.archives:load",
    "ls": "ocigrpc.cli.images.images:images",
    "prune": "ocigrpc.cli.images.prune:prune",
    "pull": "ocigrpc.cli.images.pull:pull",
    "rm": "ocigrpc.cli.images.rmi:rmi",
    "save": "ocigrpc.cli.images.archives:save",
    "tag": "ocigrpc.cli.images.tag:tag",
}

image = LazyGroup("image", _COMMANDS, params=[], help_text="Commands for images.")
