"""Names of images, as registries and ``docker`` have them; see the distribution spec."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple, Self

# Without tag and digest; the limit of registries.
NAME_LIMIT_BYTES = 255
# With tag and digest.
REFERENCE_LIMIT_BYTES = NAME_LIMIT_BYTES + 128 + 73

DEFAULT_REGISTRY = "docker.io"
# What docker once called that, and still writes.
_DEFAULT_REGISTRY_BEFORE = "index.docker.io"
# Of images that were built on the node.
LOCAL_REGISTRY = "localhost"
# Of images that are not whole yet. No registry has it, see RFC 2606, and nobody gives such names.
TEMPORARY_REGISTRY = "ocigrpc.invalid"
DEFAULT_TAG = "latest"

_PART = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_REGISTRY = rf"(?:{_HOST}(?:\.{_HOST})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?"
_TAG = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_REFERENCE = re.compile(
    rf"(?:(?P<registry>{_REGISTRY})/)?(?P<path>{_PART}(?:/{_PART})*)"
    rf"(?::(?P<tag>{_TAG}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?",
    re.ASCII,
)
_TOO_LONG = f"must be at most {NAME_LIMIT_BYTES} characters without the tag"
_ID = re.compile("(?:sha256:)?([0-9a-f]{64})", re.ASCII)


class Reference(NamedTuple):
    """A name of an image, in parts.

    ``registry`` is empty for a short name, whose registry is yet to be found; ``tag`` and
    ``digest`` are empty where there is none.
    """

    registry: str
    path: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The parts of a name, in the form that :meth:`at` gives those with a registry.

        Raises ``ValueError``, which says what a name looks like.
        """
        found = _REFERENCE.fullmatch(text) if len(text) <= REFERENCE_LIMIT_BYTES else None
        if found is None or _ID.fullmatch(text):
            raise ValueError("must be a name such as docker.io/library/alpine:3.20, in lower case")
        registry, path = found["registry"] or "", found["path"]
        # "library/alpine" is a short name, "localhost/alpine" and "node:5000/alpine" are not.
        if registry and not (set(".:[") & set(registry) or registry == "localhost"):
            if registry.lower() != registry:
                raise ValueError("must be in lower case, but for the registry and the tag")
            registry, path = "", f"{registry}/{path}"
        tag, digest = found["tag"] or "", found["digest"] or ""
        if registry:
            return cls("", path, tag, digest).at(registry)
        if len(path) > NAME_LIMIT_BYTES:
            raise ValueError(_TOO_LONG)
        return cls("", path, tag, digest)

    @property
    def is_short(self) -> bool:
        """Whether its registry is not known."""
        return not self.registry

    @property
    def repository(self) -> str:
        """The name without tag and digest."""
        return f"{self.registry}/{self.path}" if self.registry else self.path

    def at(self, registry: str) -> Self:
        """The same name at a registry; docker.io has short paths below ``library``.

        Raises ``ValueError`` for one that is too long, or temporary.
        """
        path = self.path
        if registry == _DEFAULT_REGISTRY_BEFORE:
            registry = DEFAULT_REGISTRY
        if registry == DEFAULT_REGISTRY and "/" not in path:
            path = f"library/{path}"
        if registry == TEMPORARY_REGISTRY:
            raise ValueError(f"must be at another registry: {registry} has images being pulled")
        if len(f"{registry}/{path}") > NAME_LIMIT_BYTES:
            raise ValueError(_TOO_LONG)
        return self._replace(registry=registry, path=path)

    def tagged(self) -> Self:
        """The same without a digest, and with a tag: its own, or "latest"."""
        return self._replace(tag=self.tag or DEFAULT_TAG, digest="")

    def digested(self, digest: str) -> Self:
        """The same with a digest in place of a tag."""
        return self._replace(tag="", digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def references(names: Iterable[str]) -> Mapping[str, Reference]:
    """The parts of names, without those that other programs allow and that are none here."""
    found = dict[str, Reference]()
    for name in names:
        with suppress(ValueError):
            found[name] = Reference.parse(name)
    return found


def image_id_of(text: str) -> str:
    """The id that a text is, without "sha256:"; empty if it is none."""
    found = _ID.fullmatch(text)
    return found[1] if found else ""
