"""Where an image comes from: a registry, or an archive or a directory on the node.

The words before a path are those of skopeo and podman; see containers-transports(5).
"""

from __future__ import annotations

from typing import NamedTuple

from ocigrpc.oci.images.reference import Reference
from ocigrpc.violations import PATH_LIMIT_BYTES

# What podman has before the name of an image in a registry.
_REGISTRY = "docker://"

_TRANSPORTS = ("docker-archive", "oci-archive", "oci", "dir")
_REFERENCE_LIMIT_BYTES = 512


class Archive(NamedTuple):
    """An archive or a directory with images, at an absolute path.

    ``reference`` is which of its images: a name in an archive of docker, else a tag. Empty: the
    only one.
    """

    transport: str
    path: str
    reference: str = ""

    @property
    def own_name(self) -> Reference | None:
        """The name that its reference is, with a registry and a tag; None if it is none."""
        try:
            name = Reference.parse(self.reference)
        except ValueError:
            return None
        return None if name.is_short or name.digest else name.tagged()

    def __str__(self) -> str:
        reference = f":{self.reference}" if self.reference else ""
        return f"{self.transport}:{self.path}{reference}"


def parse_source(text: str) -> Reference | Archive:
    """What a client means. Raises ``ValueError``, which says what it should look like."""
    transport, _, rest = text.partition(":")
    # "oci" is a fine name of an image, and so is "oci:1".
    if transport in _TRANSPORTS and rest.startswith(("/", ".")):
        return _archive(transport, *rest.partition(":"))
    return Reference.parse(text.removeprefix(_REGISTRY))


def _archive(transport: str, path: str, separator: str, reference: str) -> Archive:
    if not path.startswith("/"):
        raise ValueError(f"must have an absolute path after {transport}:")
    if len(path.encode(errors="replace")) > PATH_LIMIT_BYTES or not path.isprintable():
        raise ValueError("must have a path of at most 4095 bytes, which can be printed")
    if bool(separator) != bool(reference) or not reference.isprintable():
        raise ValueError("must have a name or a tag after the second colon")
    if len(reference.encode(errors="replace")) > _REFERENCE_LIMIT_BYTES:
        raise ValueError(f"must have at most {_REFERENCE_LIMIT_BYTES} bytes after the path")
    if transport == "dir" and reference:
        raise ValueError("must have no more than the path after dir:, which has one image")
    return Archive(transport, path, reference)
