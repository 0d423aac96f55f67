"""What the errors of skopeo mean: by the words of its message, which versions 1.9 and 1.18 have."""

from __future__ import annotations

import re
from typing import NamedTuple

# What a copy fails by when another program has removed its image, or a layer, before it ended.
_REMOVED = re.compile(r"\b(?:layer|image) not known|identifier is not an? (?:layer|image)\b")

_MESSAGE = re.compile(r'level=fatal msg="((?:[^"\\]|\\.)*)"')


class Meaning(NamedTuple):
    """A reason, and for a registry that can't be reached what kept it from that."""

    reason: str
    cause: str = ""


_FULL = Meaning("STORAGE_FULL")
_DENIED = Meaning("IMAGE_DENIED_BY_POLICY")
_PLATFORM = Meaning("IMAGE_PLATFORM_MISSING")
_UNAUTHORIZED = Meaning("REGISTRY_UNAUTHORIZED")
_NOT_FOUND = Meaning("IMAGE_NOT_FOUND")
_DAMAGED = Meaning("IMAGE_DAMAGED")
_CUT = Meaning("REGISTRY_UNREACHABLE", "cut")
# Of an archive or a directory. A registry has no such failures that have no words of their own.
_UNREADABLE = Meaning("SOURCE_UNREADABLE")
_IN_USE = Meaning("IMAGE_IN_USE")

# What older and newer versions say of a layer that they can't unpack, and why that is the layer's.
_UNPACKING = ("processing tar file(", "unpacking failed")
_PROBLEMS = ("unexpected eof", "invalid tar header", "no such file or directory", "not a directory")

# In this order: a message can have several of them. What is between them may be where "*" is.
_WORDS = (
    ("no space left on device", _FULL),
    ("disk quota exceeded", _FULL),
    ("read-only file system", Meaning("HOST_FAILED")),
    ("error loading trust policy", Meaning("HOST_FAILED")),
    ("loading registries configuration", Meaning("HOST_FAILED")),
    ("is rejected by policy", _DENIED),
    ("source image rejected:", _DENIED),
    ("is blocked in", _DENIED),
    ("no image found in image index for architecture", _PLATFORM),
    ("no image found in manifest list for architecture", _PLATFORM),
    ("unauthorized:", _UNAUTHORIZED),
    ("authentication required", _UNAUTHORIZED),
    ("invalid username/password", _UNAUTHORIZED),
    ("statuscode: 401", _UNAUTHORIZED),
    ("statuscode: 403", _UNAUTHORIZED),
    ("denied:", _UNAUTHORIZED),
    ("manifest unknown", _NOT_FOUND),
    ("name unknown", _NOT_FOUND),
    ("statuscode: 404", _NOT_FOUND),
    ("invalid status code from registry 404", _NOT_FOUND),
    ("blob unknown", _NOT_FOUND),
    ("digest did not match, expected", _DAMAGED),
    ("does not match expected sha256:", _DAMAGED),
    ("manifest does not match", _DAMAGED),
    ("exceeded maximum allowed size", _DAMAGED),
    ("blob size mismatch", _DAMAGED),
    ("does not match config's diffid", _DAMAGED),
    # The digest of a layer is right, or not yet known to be wrong, and nothing can unpack it.
    *((f"{verb}*{problem}", _DAMAGED) for verb in _UNPACKING for problem in _PROBLEMS),
    ("unsupported*media type", _DAMAGED),
    ("gzip: invalid", _DAMAGED),
    ("flate: corrupt input", _DAMAGED),
    ("happened during read: unexpected eof", _CUT),
    ("storing blob to file*: premature end", _DAMAGED),
    ("storing blob to file*: unexpected eof", _DAMAGED),
    ("x509:", Meaning("REGISTRY_UNREACHABLE", "tls")),
    ("tls:", Meaning("REGISTRY_UNREACHABLE", "tls")),
    ("server gave http response to https client", Meaning("REGISTRY_UNREACHABLE", "tls")),
    ("statuscode: 429", Meaning("REGISTRY_UNREACHABLE", "rate")),
    ("too many requests", Meaning("REGISTRY_UNREACHABLE", "rate")),
    ("received unexpected http status: 5", Meaning("REGISTRY_UNREACHABLE", "server")),
    ("invalid status code from registry 5", Meaning("REGISTRY_UNREACHABLE", "server")),
    ("stopped after 10 redirects", Meaning("REGISTRY_UNREACHABLE", "server")),
    ("unexpected eof", _CUT),
    ("connection reset", _CUT),
    ("i/o timeout", Meaning("REGISTRY_UNREACHABLE", "connect")),
    ("no such host", Meaning("REGISTRY_UNREACHABLE", "connect")),
    ("connection refused", Meaning("REGISTRY_UNREACHABLE", "connect")),
    ("no route to host", Meaning("REGISTRY_UNREACHABLE", "connect")),
    ("network is unreachable", Meaning("REGISTRY_UNREACHABLE", "connect")),
    ("pinging container registry", Meaning("REGISTRY_UNREACHABLE", "connect")),
    ("parsing image configuration: open", _UNREADABLE),
    ("parsing image configuration", _DAMAGED),
    ("reading blob", _UNREADABLE),
    ("initializing source", _UNREADABLE),
    ("initializing image from source", _UNREADABLE),
    ("determining manifest mime type", _UNREADABLE),
    ("image is in use by a container", _IN_USE),
)


def meaning_of(stderr: str) -> Meaning:
    """What made skopeo fail; IMAGE_PROGRAM_FAILED if that is not known."""
    text = " ".join(
        word for word in message_of(stderr).lower().split() if not _is_name_or_url(word)
    )
    known = (meaning for words, meaning in _WORDS if all(each in text for each in words.split("*")))
    return next(known, Meaning("IMAGE_PROGRAM_FAILED"))


def _is_name_or_url(word: str) -> bool:
    """Whether a word is what an image or a place is called, which may be anything."""
    registry, slash, _ = word.partition("/")
    return bool(slash) and (not {".", ":"}.isdisjoint(registry) or registry.endswith("localhost"))


def is_removed(stderr: str) -> bool:
    """Whether a copy into a store failed since another program has removed what it had copied."""
    return bool(_REMOVED.search(message_of(stderr)))


def message_of(stderr: str) -> str:
    """What skopeo says why it failed; all that it printed if there is no such line."""
    found = _MESSAGE.findall(stderr)
    return re.sub(r"\\(.)", r"\1", found[-1]) if found else stderr.strip()
