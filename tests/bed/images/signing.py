"""Those who sign images, and the files by which a service trusts them.

Simple signing is by a key of gpg, in files beside a registry; sigstore's is by a key of its own, in
the registry itself. See containers-policy.json(5) and containers-registries.d(5).
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.bed.images.layout import Blob, Image, digest_of, write_layout
from tests.bed.images.registry import Registry

_LIMIT_S = 60
_TRUST_ALL = '{"default": [{"type": "insecureAcceptAnything"}]}'
_SIGNATURE = "dev.cosignproject.cosign/signature"


@dataclass(frozen=True)
class Place:
    """Where an image is, and where the signatures of its registry are, if not in that."""

    registry: Registry
    name: str
    lookaside: Path

    @property
    def repository(self) -> str:
        return f"{self.registry.host}/{self.name}"


class Signer(Protocol):
    """Has a key, and vouches by it."""

    def push(self, image: Image, place: Place) -> None:
        """Put an image into a registry as ``latest``, signed for its name there."""

    def transplant(self, image: Image, of: Place, other: Image, to: Place) -> None:
        """Have the signature of an image at a place for another image or place as well."""

    @property
    def requirement(self) -> Mapping[str, object]:
        """What a policy says to want its signature."""


class Gpg:
    """Signs by skopeo and a key of gpg; its directory must be short, for the agent's socket."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self._home = home
        who = "tests@invalid"
        self._gpg("--passphrase", "", "--quick-gen-key", who, "rsa2048", "sign", "never")
        listed = self._gpg("--list-keys", "--with-colons").splitlines()
        self._key = next(line.split(":")[9] for line in listed if line.startswith("fpr:"))
        (home / "public").write_text(self._gpg("--armor", "--export"))

    def push(self, image: Image, place: Place, tag: str = "latest") -> None:
        """The same, signed for a tag."""
        sign = "--sign-by", self._key
        _push(image, place, self._home, *sign, tag=tag, GNUPGHOME=str(self._home))

    def transplant(self, image: Image, of: Place, other: Image, to: Place) -> None:
        digests = (each.digest.replace(":", "=") for each in (image, other))
        names = (f"{place.name}@{digest}" for place, digest in zip((of, to), digests, strict=True))
        source, target = (of.lookaside / name for name in names)
        shutil.copytree(source, target)

    @property
    def requirement(self) -> Mapping[str, object]:
        return {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(self._home / "public")}

    def close(self) -> None:
        """End its agent, which outlives those who ask it."""
        subprocess.run(
            ["gpgconf", "--homedir", str(self._home), "--kill", "all"], check=True, timeout=_LIMIT_S
        )

    def _gpg(self, *words: str) -> str:
        argv = ["gpg", "--batch", "--quiet", "--homedir", str(self._home), *words]
        return _output(argv)


class _InRegistry:
    """Has its signatures in the registry, as images."""

    def transplant(self, image: Image, of: Place, other: Image, to: Place) -> None:
        tags = (each.digest.replace(":", "-") + ".sig" for each in (image, other))
        pairs = zip((of, to), tags, strict=True)
        source, target = (f"docker://{place.repository}:{tag}" for place, tag in pairs)
        insecure = ("--src-tls-verify=false", "--dest-tls-verify=false")
        _output(["skopeo", "--insecure-policy", "copy", "-q", *insecure, source, target])


class Sigstore(_InRegistry):
    """Signs by skopeo and a key that skopeo has made, which takes a newer version."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        (directory / "passphrase").write_text("secret")
        key = ("--output-prefix", str(directory / "key"))
        _output(["skopeo", "generate-sigstore-key", *key, *self._passphrase("")])

    def push(self, image: Image, place: Place) -> None:
        key = ("--sign-by-sigstore-private-key", str(self._directory / "key.private"))
        _push(image, place, self._directory, *key, *self._passphrase("sign-"))

    @property
    def requirement(self) -> Mapping[str, object]:
        return {"type": "sigstoreSigned", "keyPath": str(self._directory / "key.pub")}

    def _passphrase(self, kind: str) -> tuple[str, str]:
        return f"--{kind}passphrase-file", str(self._directory / "passphrase")


class Cosign(_InRegistry):
    """Signs as cosign does, by openssl, for whichever version of skopeo."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        key = directory / "key"
        curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        _output(["openssl", "genpkey", *curve, "-out", str(key)])
        _output(["openssl", "pkey", "-in", str(key), "-pubout", "-out", f"{key}.pub"])

    def push(self, image: Image, place: Place) -> None:
        place.registry.push(image, place.name)
        signature = signature_of(image.digest, place.repository, self._directory / "key")
        place.registry.push(signature, place.name, image.digest.replace(":", "-") + ".sig")

    @property
    def requirement(self) -> Mapping[str, object]:
        # It signs no tags.
        return {
            "type": "sigstoreSigned",
            "keyPath": str(self._directory / "key.pub"),
            "signedIdentity": {"type": "matchRepository"},
        }


def signature_of(digest: str, repository: str, key: Path) -> Image:
    """What cosign stores beside an image: that this digest is of a repository, signed."""
    critical = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    payload = json.dumps({"critical": critical, "optional": None}).encode()
    argv = ["openssl", "dgst", "-sha256", "-sign", str(key)]
    signed = subprocess.run(argv, input=payload, capture_output=True, check=True, timeout=_LIMIT_S)
    layer = _blob("application/vnd.dev.cosign.simplesigning.v1+json", payload)
    text = json.dumps({"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": []}})
    config = _blob("application/vnd.oci.image.config.v1+json", text.encode())
    annotations = {_SIGNATURE: base64.b64encode(signed.stdout).decode()}
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": config.descriptor(),
        "layers": [layer.descriptor() | {"annotations": annotations}],
    }
    return Image(_blob(kind, json.dumps(manifest).encode()), config, (layer,))


def write_trust(
    directory: Path, place: Place, *signers: Signer, identity: str = ""
) -> Mapping[str, object]:
    """The settings of a service that takes images of a place only if all of these signed them.

    ``identity`` is how the policy compares their names, unless it is empty.
    """
    policy, registries_d = directory / "policy.json", directory / "registries.d"
    more = {"signedIdentity": {"type": identity}} if identity else {}
    wanted = [{**each.requirement, **more} for each in signers]
    docker = {"docker": {place.repository: wanted}}
    policy.write_text(json.dumps({"default": [{"type": "reject"}], "transports": docker}))
    _write_registries_d(registries_d, place)
    return {"images_policy": policy, "images_registries_d": registries_d}


def _write_registries_d(directory: Path, place: Place) -> None:
    directory.mkdir(exist_ok=True)
    lookaside = f"file://{place.lookaside}"
    entry = {"lookaside": lookaside, "use-sigstore-attachments": True}
    # JSON is YAML as well.
    text = json.dumps({"docker": {place.registry.host: entry}})
    (directory / "tests.yaml").write_text(text)


def _push(
    image: Image,
    place: Place,
    directory: Path,
    *options: str,
    tag: str = "latest",
    **environment: str,
) -> None:
    """Copy an image into a registry by skopeo, which signs it."""
    layout, policy = directory / image.image_id, directory / "policy.json"
    if not layout.exists():
        write_layout(layout, {"it": image})
    policy.write_text(_TRUST_ALL)
    _write_registries_d(directory / "registries.d", place)
    argv = [
        *("skopeo", "--policy", str(policy), "--registries.d", str(directory / "registries.d")),
        *("copy", "-q", "--dest-tls-verify=false", *options),
        *(f"oci:{layout}:it", f"docker://{place.repository}:{tag}"),
    ]
    _output(argv, **environment)


def _blob(kind: str, data: bytes) -> Blob:
    return Blob(kind, data, digest_of(data))


def _output(argv: list[str], **environment: str) -> str:
    ended = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@contextmanager
def signing_by_gpg(home: Path) -> Iterator[Gpg]:
    """One who signs by gpg, whose agent ends with the block."""
    signer = Gpg(home)
    try:
        yield signer
    finally:
        signer.close()
