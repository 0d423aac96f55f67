"""A loss of power, simulated: programs are killed, and files truncated that may not be on the disk.

An image has its name when all of it is on the disk, and not before.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from tests.bed.hosts.leaks import until
from tests.bed.images.pulling import Puller
from tests.bed.images.storages import TEMPORARY_NAMES, Storage


def end_programs(puller: Puller) -> None:
    """Kill what a service has started for itself, and has not outlived."""
    directory = str(puller.service.directory)
    for pid in _programs(directory):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not list(_programs(directory)))


def lose_files(storage: Storage, used: Collection[str] = ()) -> None:
    """Truncate the files of all layers but those of images with names, and of those ``used``."""
    kept = {*named(storage).values(), *used} & {each["id"] for each in storage.images()}
    whole = {diff for image_id in kept for diff in storage.diffs(image_id)}
    for layer in (storage.root / "overlay").glob("*/diff"):
        if layer not in whole:
            for path in layer.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    os.truncate(path, 0)


def named(storage: Storage) -> Mapping[str, str]:
    """The ids of images by their names, without those of pulls."""
    names = storage.names().items()
    return {name: each for name, each in names if not name.startswith(TEMPORARY_NAMES)}


def _programs(directory: str) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (entry / "environ").read_bytes().decode(errors="replace")
            # Those of skopeo alone: what runtimes and monitors do is the containers'.
            argv = (entry / "cmdline").read_bytes().decode(errors="replace")
            is_ours = f"{directory}/run" in environment and "_OCIGRPC_RUNTIME_OF" in environment
            if is_ours and ("skopeo" in argv or argv.startswith("storage-")):
                yield int(entry.name)
