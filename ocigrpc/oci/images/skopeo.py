"""The command lines of skopeo(1), which pulls, unpacks and removes images.

All run in a mount namespace of their own, since skopeo leaves a mount of the store on itself; what
is unmounted outside must not stay mounted there, so mounts propagate into it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct

from ocigrpc.oci.decoding import decoded
from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.reference import TEMPORARY_REGISTRY

# The beginning of names of images that are not whole yet.
TEMPORARY_NAME = f"{TEMPORARY_REGISTRY}/"

_PULLED, _WAKING = f"{TEMPORARY_NAME}pull:", f"{TEMPORARY_NAME}wake:"

_APART = ("unshare", "--mount", "--propagation", "slave", "--")


def is_temporary(name: str) -> bool:
    """Whether a name is that of a pull which has not ended."""
    return name.startswith(TEMPORARY_NAME)


def pulled_name(pull_id: str) -> str:
    """What an image is called while it is pulled."""
    return f"{_PULLED}{pull_id}"


def waking_name(pull_id: str) -> str:
    """What the image is called that :meth:`Skopeo.wake` writes while a pull is undone."""
    return f"{_WAKING}{pull_id}"


class Skopeo(Struct, frozen=True):
    """How skopeo is run for one store. Empty paths leave its own defaults."""

    path: str
    root: str
    run: str
    policy: str = ""
    registries_conf: str = ""
    registries_d: str = ""

    def inspect_raw(
        self, source: str, staging: str, auth_file: str, platform: Platform | None = None
    ) -> Sequence[str]:
        """Print the manifest of a source as it is; it does not touch the store."""
        return (
            *self._global(staging, platform),
            *("inspect", "--raw", "--authfile", auth_file, source),
        )

    def inspect_config(
        self, source: str, staging: str, auth_file: str, platform: Platform
    ) -> Sequence[str]:
        """Print the config of a source, or of its image for a platform, as it is."""
        argv = ("inspect", "--config", "--raw", "--authfile", auth_file, source)
        return (*self._global(staging, platform), *argv)

    def copy_in(
        self, source: str, name: str, staging: str, auth_file: str, platform: Platform | None = None
    ) -> Sequence[str]:
        """Copy a source into the store, under a name; the form of its progress is of no use."""
        return (
            *_APART,
            *self._global(staging, platform),
            *("copy", "-q", "--src-authfile", auth_file, source, self._stored(name)),
        )

    def copy_out(self, image_id: str, destination: str, staging: str) -> Sequence[str]:
        """Copy an image of the store to an archive."""
        # A policy is for what others have made.
        argv = ("copy", "-q", self._stored(f"@{image_id}"), destination)
        return (*_APART, self.path, "--tmpdir", staging, "--insecure-policy", *argv)

    def delete(self, image_id: str, staging: str) -> Sequence[str]:
        """Remove an image, with all its names, and the layers that no other one has."""
        return (*_APART, *self._global(staging, None), "delete", self._stored(f"@{image_id}"))

    def wake(self, layout: str, name: str, staging: str) -> Sequence[str]:
        """Open the store for writing, which removes layers that are not whole.

        That needs something to write: the image of :func:`.empty_image.layout`, under a name.
        """
        # A policy is for what others have made.
        argv = ("--insecure-policy", "copy", "-q", f"oci:{layout}", self._stored(name))
        return (*_APART, self.path, "--tmpdir", staging, *argv)

    def _stored(self, name: str) -> str:
        return f"containers-storage:[overlay@{self.root}+{self.run}]{name}"

    def _global(self, staging: str, platform: Platform | None) -> Sequence[str]:
        options = {
            "--tmpdir": staging,
            "--policy": self.policy,
            "--registries-conf": self.registries_conf,
            "--registries.d": self.registries_d,
            "--override-os": platform.os if platform else "",
            "--override-arch": platform.architecture if platform else "",
            "--override-variant": platform.variant if platform else "",
        }
        given = (word for pair in options.items() if pair[1] for word in pair)
        return (self.path, *given)


class Credentials(Struct, frozen=True):
    """Who asks a registry: a user, or an identity token, or the text of an auth file."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    auth_json: str = ""

    def __repr__(self) -> str:
        # What is logged by mistake must not have them.
        return "Credentials(...)"


class _Entry(Struct, omit_defaults=True):
    auth: str = ""
    identitytoken: str = ""


class _AuthFile(Struct):
    auths: dict[str, _Entry] = {}


# Made at import: msgspec crashes when two threads use a type for the first time.
_AUTH_FILE = msgspec.json.Decoder(_AuthFile)


def auth_json_problem(text: str) -> str:
    """Why a text is no file of credentials, without any of it; empty if it is one."""
    try:
        decoded(_AUTH_FILE, text)
    except ValueError:
        return 'must be JSON such as {"auths": {"registry.example": {"auth": "..."}}}'
    return ""


def auth_file(registry: str, credentials: Credentials | None) -> bytes:
    """The content of a file for ``--authfile``; see containers-auth.json(5)."""
    if credentials is None:
        return b"{}"
    if credentials.auth_json:
        # Nothing else of it: it could name programs that would be run.
        return msgspec.json.encode(decoded(_AUTH_FILE, credentials.auth_json))
    user, secret = credentials.username, credentials.password
    entry = dict[str, str]()
    if credentials.identity_token:
        user, secret = "<token>", ""
        entry["identitytoken"] = credentials.identity_token
    entry["auth"] = base64.b64encode(f"{user}:{secret}".encode()).decode()
    return msgspec.json.encode({"auths": {registry: entry}})


def without_secrets(text: str, auth: bytes) -> str:
    """A text without what is secret in a file of credentials: a registry may repeat that."""
    for secret in _secrets(auth):
        text = text.replace(secret, "***")
    return text


def _secrets(auth: bytes) -> Sequence[str]:
    """The longest first: one may be a part of another."""
    found, entries = set[str](), list[_Entry]()
    # The settings may name what is no such file.
    with suppress(ValueError):
        entries += decoded(_AUTH_FILE, auth).auths.values()
    for entry in entries:
        with suppress(ValueError):
            plain = base64.b64decode(entry.auth).decode()
            found |= {plain.partition(":")[2], plain}
        found |= {entry.auth, entry.identitytoken}
    return sorted(filter(None, found), key=len, reverse=True)
