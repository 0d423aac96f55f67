"""Filesystems of containers beside their root, as options of ``run`` and ``create``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict

import click

from ocigrpc.cli import amounts
from ocigrpc.cli.parsed import Parsed
from ocigrpc.cli.programs import words

if TYPE_CHECKING:
    from ocigrpc.v1.config_pb2 import Mount

# What a tmpfs has unless the opposite is asked for, as with podman.
_TMPFS = {"nosuid": "suid", "nodev": "dev", "noexec": "exec"}

_SOURCES = ("source", "src")
_TARGETS = ("target", "destination", "dst")


class FilesystemOptions(TypedDict):
    """The values of ``FILESYSTEM_OPTIONS``."""

    volume: Sequence[Mount]
    mount: Sequence[Mount]
    tmpfs: Sequence[Mount]
    shm_size: int | None


def mounts_of(options: FilesystemOptions) -> Iterator[Mount]:
    """All that is to be mounted."""
    yield from options["volume"]
    yield from options["mount"]
    yield from options["tmpfs"]
    if (size := options["shm_size"]) is not None:
        yield _shm(size)


def tmpfs(text: str) -> Mount:
    """A tmpfs: ``CONTAINER`` or ``CONTAINER:OPTIONS``. Raises ``ValueError``."""
    container, _, options = text.partition(":")
    return _tmpfs(container, filter(None, options.split(",")))


def mount(text: str) -> Mount:
    """A mount in pairs: ``type=bind,source=HOST,target=CONTAINER,ro``. Raises ``ValueError``."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    given = {key: value if equals else "true" for key, equals, value in pairs}
    kind = given.pop("type", "volume")
    target = next((given.pop(key) for key in _TARGETS if key in given), "")
    source = next((given.pop(key) for key in _SOURCES if key in given), "")
    readonly = given.pop("ro", given.pop("readonly", "false"))
    if not target or readonly not in ("true", "false"):
        raise ValueError(f"{text!r} lacks a target=, or has an ro= that is not true or false")
    options = ["ro"] if readonly == "true" else []
    if kind == "bind" and source:
        options += [given.pop("bind-propagation")] if "bind-propagation" in given else []
        made = words.bind(source, target, options)
    elif kind == "tmpfs" and not source:
        for key in ("size", "mode"):
            if f"tmpfs-{key}" in given:
                options.append(f"{key}={given.pop(f'tmpfs-{key}')}")
        made = _tmpfs(target, options)
    else:
        raise ValueError(f"{text!r} is neither type=bind with a source= nor type=tmpfs without")
    if given:
        raise ValueError(f"{next(iter(given))!r} means nothing for type={kind}")
    return made


def _tmpfs(container: str, given: Iterator[str] | Sequence[str]) -> Mount:
    from ocigrpc.v1.config_pb2 import Mount

    if not container.startswith("/"):
        raise ValueError(f"{container!r} is no absolute path in the container")
    options = list(given)
    made = Mount(type="tmpfs", container_path=container, readonly="ro" in options)
    defaults = [each for each, opposite in _TMPFS.items() if opposite not in options]
    kept = [each for each in options if each not in ("ro", "rw", *_TMPFS)]
    made.options.extend([*defaults, *kept])
    return made


def _shm(size: int) -> Mount:
    from ocigrpc.v1.config_pb2 import Mount

    made = Mount(type="tmpfs", host_path="shm", container_path="/dev/shm")
    made.options.extend([*_TMPFS, "mode=1777"])
    if size != amounts.NO_LIMIT:
        made.options.append(f"size={size}")
    return made


FILESYSTEM_OPTIONS = (
    click.Option(
        ["--volume", "-v"],
        multiple=True,
        type=Parsed("host:container[:options]", words.volume),
        help="Mount a directory or file of the host: ro, rw, rshared, rslave, nosuid, ...",
    ),
    click.Option(
        ["--mount"],
        multiple=True,
        type=Parsed("pairs", mount),
        help="The same in pairs: type=bind,source=HOST,target=CONTAINER[,ro]"
        "[,bind-propagation=...], or type=tmpfs,target=CONTAINER[,tmpfs-size=64m]"
        "[,tmpfs-mode=1777].",
    ),
    click.Option(
        ["--tmpfs"],
        multiple=True,
        type=Parsed("container[:options]", tmpfs),
        help="Mount an empty file system in memory, with nosuid, nodev and noexec unless suid, dev"
        " or exec are among the options; as in /tmp:size=64m,mode=1777.",
    ),
    click.Option(
        ["--shm-size"],
        type=Parsed("size", amounts.size),
        help="How much fits /dev/shm. Default: 64m. 0: no limit but memory.",
    ),
)
