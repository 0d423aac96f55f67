"""A storage of containers/storage in a directory of its own, and what does not belong there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bed.hosts.leaks import mounts_below
from tests.bed.images.layout import Image

APART = ("unshare", "--mount", "--propagation", "slave", "--")
"""What runs programs that would leave their storage's directory mounted on itself."""

_ANYTHING = '{"default": [{"type": "insecureAcceptAnything"}]}'
_TIMEOUT_S = 60

# What the service calls an image that it is still pulling.
TEMPORARY_NAMES = "ocigrpc.invalid/"


def registries_conf(*insecure: str, more: str = "") -> str:
    """The text of a registries.conf that allows these registries to have no TLS."""
    tables = [f'[[registry]]\nlocation = "{host}"\ninsecure = true\n' for host in insecure]
    return "\n".join([more, *tables])


@dataclass(frozen=True)
class Storage:
    """A storage at ``root``, whose state until a reboot is at ``run``; it need not exist yet."""

    root: Path
    run: Path

    def reference(self, name: str = "") -> str:
        return f"containers-storage:[overlay@{self.root}+{self.run}]{name}"

    def images(self) -> list[dict[str, Any]]:
        return self._read("overlay-images/images.json")

    def layers(self) -> list[dict[str, Any]]:
        return self._read("overlay-layers/layers.json")

    def names(self) -> Mapping[str, str]:
        """The id of each image by its names."""
        return {name: each["id"] for each in self.images() for name in each.get("names") or []}

    def diffs(self, image_id: str) -> Sequence[Path]:
        """What each layer of an image has unpacked, the lowest first."""
        [image] = [each for each in self.images() if each["id"] == image_id]
        by_id = {each["id"]: each for each in self.layers()}
        found: list[Path] = []
        layer = image["layer"]
        while layer:
            found.insert(0, self.root / "overlay" / layer / "diff")
            layer = by_id[layer].get("parent", "")
        return found

    def leaks(self) -> list[str]:
        """What is there of pulls that have ended in whatever way, and of removed images."""
        return [*self._mounts(), *self._files(), *self._images(), *self._layers()]

    def _mounts(self) -> Iterator[str]:
        yield from mounts_below(str(self.root), str(self.run))

    def _files(self) -> Iterator[str]:
        layers = (*self.layers(), *self._read("overlay-layers/volatile-layers.json"))
        known = {each["id"] for each in layers} | {"l"}
        overlay = self.root / "overlay"
        for path in overlay.iterdir() if overlay.exists() else ():
            # A program that was killed while it tried what the kernel can has left an empty one.
            if path.is_dir() and path.name not in known and not path.name.startswith("compat"):
                yield f"{path}, which no layer has"
        for link in (overlay / "l").iterdir() if overlay.exists() else ():
            if not link.exists():
                yield f"{link}, which leads nowhere"

    def _images(self) -> Iterator[str]:
        known = {each["id"] for each in self.images()}
        for name in self.names():
            if name.startswith(TEMPORARY_NAMES):
                yield f"the name {name}"
        place = self.root / "overlay-images"
        for path in place.iterdir() if place.exists() else ():
            if path.is_dir() and path.name not in known:
                yield f"{path}, which no image has"

    def _layers(self) -> Iterator[str]:
        layers = (*self.layers(), *self._read("overlay-layers/volatile-layers.json"))
        parents = {each["id"]: each.get("parent", "") for each in layers}
        used: set[str] = set()
        lasting, volatile = (
            self._read(f"overlay-containers/{kind}containers.json") for kind in ("", "volatile-")
        )
        for each in (*self.images(), *lasting, *volatile):
            # An image without layers has none.
            layer = each.get("layer", "")
            while layer and layer not in used:
                used.add(layer)
                layer = parents.get(layer, "")
        yield from (f"layer {layer}, which no image has" for layer in parents.keys() - used)
        yield from (f"layer {layer}, which is not there" for layer in used - parents.keys())
        for each in self.layers():
            if each.get("flags", {}).get("incomplete"):
                yield f"layer {each['id']}, which is incomplete"

    def _read(self, name: str) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = json.loads((self.root / name).read_text())
        except FileNotFoundError:
            return []
        return found


@dataclass(frozen=True)
class StoredImage:
    """An image, and a storage that has it."""

    image: Image
    storage: Storage


class Skopeo:
    """skopeo with settings of its own, which trusts every image, in ``directory``."""

    def __init__(self, directory: Path, *insecure: str, more: str = "") -> None:
        (directory / "policy.json").write_text(_ANYTHING)
        (directory / "registries.conf").write_text(registries_conf(*insecure, more=more))
        (directory / "registries.d").mkdir()
        (directory / "staging").mkdir()
        self._environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(directory)}
        self._argv = [
            *("skopeo", "--tmpdir", str(directory / "staging")),
            *("--policy", str(directory / "policy.json")),
            *("--registries-conf", str(directory / "registries.conf")),
            *("--registries.d", str(directory / "registries.d")),
        ]

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*APART, *self._argv, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment | environment,
        )

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        with self.start(*words, **environment) as process:
            try:
                output, errors = process.communicate(timeout=_TIMEOUT_S)
            finally:
                process.kill()
        return subprocess.CompletedProcess(words, process.returncode, output, errors)

    def copy(self, source: str, to: Storage, name: str, *options: str, **environment: str) -> None:
        """Copy an image into a storage; it must go well."""
        ended = self.run("copy", "-q", *options, source, to.reference(name), **environment)
        assert ended.returncode == 0, ended.stderr

    def refused(self, source: str, to: Storage, *options: str, **environment: str) -> str:
        """What skopeo prints as it fails to copy an image."""
        ended = self.run("copy", "-q", *options, source, to.reference("x"), **environment)
        assert ended.returncode != 0
        return ended.stderr
