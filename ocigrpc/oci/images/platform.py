"""What an image is for; see the OCI image index."""

from __future__ import annotations

import re
from typing import Self

from msgspec import Struct

# What uname(2) calls them, by the names of Go, which images have.
_MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "386",
    "i386": "386",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
}
_VARIANTS = {"armv7l": "v7", "armv6l": "v6"}
_PART = re.compile("[a-z0-9_.]{0,32}", re.ASCII)
# A variant that need not be named.
_DEFAULT_VARIANTS = {("arm64", "v8"), ("arm", "v7"), ("amd64", "v1")}


class Platform(Struct, frozen=True):
    """An operating system, an architecture and its variant, by Go's names."""

    os: str = "linux"
    architecture: str = ""
    variant: str = ""

    @classmethod
    def of_machine(cls, machine: str) -> Self:
        """The platform of this node, whose uname(2) is given."""
        return cls("linux", _MACHINES.get(machine, machine), _VARIANTS.get(machine, ""))

    def filled(self, node: Platform) -> Platform:
        """The same with the node's own parts in place of empty ones."""
        architecture = self.architecture or node.architecture
        own = architecture == node.architecture
        return Platform(
            self.os or node.os, architecture, self.variant or (node.variant if own else "")
        )

    def problem(self) -> str:
        """Why nothing can be for this; empty if something can."""
        parts = (self.os, self.architecture, self.variant)
        return "" if all(map(_PART.fullmatch, parts)) else "must be as in linux, amd64 and v7"

    def accepts(self, other: Platform) -> bool:
        """Whether what is for ``other`` is for this."""
        if (self.os, self.architecture) != (other.os, other.architecture):
            return False
        return self.variant == other.variant or _plain(self) == _plain(other)

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def _plain(platform: Platform) -> str:
    pair = platform.architecture, platform.variant
    return "" if pair in _DEFAULT_VARIANTS else platform.variant
