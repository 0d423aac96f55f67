"""Files that are traps for a service, and a snapshot of them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.bed.bundles.bundle import make_rootfs, spec_json

# Levels of a JSON text that no reader should follow.
DEEP = 10_000

# Size of a file that is not to be read; all of it is a hole.
HUGE_BYTES = 200_000_000


def strange_texts(sound: str) -> Mapping[str, str]:
    """Texts by name that are no OCI runtime spec, made out of a sound one."""
    begun = sound.rstrip("}")
    return {
        "empty": "",
        "cut": sound[: len(sound) // 2],
        "null": "null",
        "number": "1",
        "array": "[]",
        "object": "{}",
        "deep-array": "[" * DEEP + "]" * DEEP,
        "deep-object": '{"a":' * DEEP + "1" + "}" * DEEP,
        "deep-part": _with(sound, "unknown", "[" * 600 + "]" * 600),
        "not-a-number": _with(sound, "unknown", "NaN"),
        "infinite": _with(sound, "unknown", "-Infinity"),
        "huge-float": _with(sound, "unknown", "1e400"),
        "long-integer": _with(sound, "unknown", "9" * 5000),
        "half-a-character": _with(sound, "unknown", r'"\ud800"'),
        "rest": sound + "}",
        "duplicate-root": _with(sound, "root", '{"path": "/"}'),
        "byte-order-mark": "\ufeff" + sound,
        "open": begun,
    }


def _with(sound: str, key: str, value: str) -> str:
    """The object ``sound`` with a further member, or with a second one of the same name."""
    return f'{sound.rstrip()[:-1]}, "{key}": {value}}}'


class File(NamedTuple):
    """What shows whether a file was touched."""

    path: str
    size_bytes: int
    changed_ns: int


@dataclass(frozen=True)
class Places:
    """Paths below one directory: a sound root filesystem and spec, and strange files."""

    directory: Path
    rootfs: Path
    spec: str
    """A sound OCI runtime spec, as JSON."""

    texts: tuple[str, ...]
    """What is no spec."""

    strange: tuple[str, ...]
    """Paths of what is no bundle, no directory and no file to write to."""

    all_paths: tuple[str, ...]
    """Those, what is in them, and the directories above."""

    def snapshot(self) -> list[File]:
        """Every file but the root filesystem's."""
        # What is made or removed later changes the directory that it is in.
        found = ((path, os.lstat(path)) for path in self.all_paths)
        return [File(path, each.st_size, each.st_mtime_ns) for path, each in found]


def make_places(directory: Path) -> Places:
    """Make them below ``directory``, which exists; as root."""
    rootfs = make_rootfs(directory)
    sound = spec_json(rootfs, ["/bin/true"])
    texts = strange_texts(sound)
    strange = directory / "strange"
    strange.mkdir()
    _make_files(strange)
    for name, text in texts.items():
        _make_bundle(strange / f"bundle-{name}").write_text(text)
    _make_strange_bundles(strange, sound)
    paths = tuple(str(path) for path in sorted(strange.iterdir()))
    inner = (str(path) for path in sorted(strange.glob("*/*")))
    every = (str(directory), str(strange), *paths, *inner)
    return Places(directory, rootfs, sound, tuple(texts.values()), paths, every)


def _make_files(strange: Path) -> None:
    os.mkfifo(strange / "fifo")
    os.mknod(strange / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    (strange / "file").write_text("keep me")
    (strange / "link").symlink_to("file")
    (strange / "dangling").symlink_to("nowhere")
    (strange / "circle").symlink_to("circle")
    (strange / "directory").mkdir()


def _make_bundle(directory: Path) -> Path:
    """A directory, and the path of the config that makes it a bundle."""
    directory.mkdir()
    return directory / "config.json"


def _make_strange_bundles(strange: Path, sound: str) -> None:
    os.mkfifo(_make_bundle(strange / "bundle-fifo"))
    os.mknod(_make_bundle(strange / "bundle-device"), stat.S_IFCHR | 0o600, os.makedev(1, 5))
    _make_bundle(strange / "bundle-directory").mkdir()
    (strange / "sound.json").write_text(sound)
    _make_bundle(strange / "bundle-link").symlink_to(strange / "sound.json")
    huge = _make_bundle(strange / "bundle-huge")
    huge.write_text(sound)
    os.truncate(huge, HUGE_BYTES)
    _make_bundle(strange / "bundle-binary").write_bytes(b"\xff\xfe\0\0" * 100)
    # Sound, but for where the root filesystem is.
    linked = json.loads(sound)
    linked["root"]["path"] = "rootfs"
    config = _make_bundle(strange / "bundle-rootfs-link")
    config.write_text(json.dumps(linked))
    config.with_name("rootfs").symlink_to("/")
    unreadable = _make_bundle(strange / "bundle-rootfs-file")
    unreadable.write_text(json.dumps(linked))
    unreadable.with_name("rootfs").write_text("")
    (strange / "link-to-bundle").symlink_to("bundle-rootfs-file")
