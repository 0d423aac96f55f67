"""Names without a registry, as registries.conf(5) resolves them; skopeo itself does not."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Self

import msgspec
from msgspec import Struct, field

from ocigrpc.oci.images.reference import DEFAULT_REGISTRY, LOCAL_REGISTRY, Reference


class _File(Struct):
    """What counts here; mirrors, and what is insecure or blocked, is skopeo's to read."""

    registries: list[str] | None = field(name="unqualified-search-registries", default=None)
    aliases: dict[str, str] = {}


# Now: msgspec crashes when two threads use a type for the first time.
msgspec.convert({}, _File)


class ShortNames(Struct, frozen=True):
    """What short names mean on this node.

    ``aliases`` are whole names without tags by short ones. ``registries`` are searched in this
    order for all others.
    """

    aliases: Mapping[str, str] = {}
    registries: tuple[str, ...] = ()

    def with_file(self, text: str) -> Self:
        """What they mean with a further file, which goes before those read already.

        Raises ``ValueError`` for a malformed file. An empty alias takes one back.
        """
        found = msgspec.convert(tomllib.loads(text), _File)
        aliases = {**self.aliases, **found.aliases}
        for name in filter(None, aliases.values()):
            Reference.parse(name)
        if any("/" in each or not each.isprintable() for each in found.registries or ()):
            raise ValueError("unqualified-search-registries has what is no registry")
        return type(self)(
            {key: name for key, name in aliases.items() if name},
            self.registries if found.registries is None else tuple(found.registries),
        )

    def candidates(self, reference: Reference) -> Sequence[Reference]:
        """The whole names to pull for a name, in the order in which they are to be tried."""
        if not reference.is_short:
            return [reference]
        if (alias := self._alias(reference)) is not None:
            return [alias]
        return [reference.at(each) for each in self.registries or (DEFAULT_REGISTRY,)]

    def known(self, reference: Reference) -> Sequence[Reference]:
        """The whole names by which an image that is there may be meant, likewise.

        As podman has it: also one that was built here, or whose registry is not searched any more.
        """
        if not reference.is_short:
            return [reference]
        alias = self._alias(reference)
        registries = dict.fromkeys((LOCAL_REGISTRY, *self.registries, DEFAULT_REGISTRY))
        return [*([alias] if alias is not None else []), *map(reference.at, registries)]

    def _alias(self, reference: Reference) -> Reference | None:
        alias = self.aliases.get(reference.path)
        if alias is None:
            return None
        whole = Reference.parse(alias)
        return reference._replace(path=whole.path).at(whole.registry or DEFAULT_REGISTRY)
