"""What images take on their disk, and what containers have written beside them.

A file system with quotas of projects knows the latter at any time. Elsewhere it is measured.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ocigrpc.engine.images.layers.quotas import Layer, counted
from ocigrpc.engine.images.storage import Image, Storage
from ocigrpc.engine.model.images import FsInfo, FsUsage, WritableLayer
from ocigrpc.errors import Cancelled
from ocigrpc.failing import host_failing
from ocigrpc.host.files.usage import usage_of
from ocigrpc.log import get_logger
from ocigrpc.waiting import Deadline

# How long the measuring thread rests after each few milliseconds of work.
_PAUSE_S = 0.02
# The lowest priority of a thread, also for its use of disks.
_NICE = 19
# How long its end is waited for: a disk may not answer it, and it changes nothing.
_CLOSE_S = 5.0

log = get_logger()


class WritableLayers:
    """Measures again and again what containers have written, slowly, in one thread.

    ``layers`` gives where they write to, by their ids; ``interval_s`` is the pause between two
    rounds, and may be changed.
    """

    def __init__(self, layers: Callable[[], Mapping[str, Layer]], interval_s: float) -> None:
        self.interval_s = interval_s
        self._layers = layers
        # By their directories: a container that is made anew has another one.
        self._measured: dict[str, WritableLayer] = {}
        self._closing = Deadline()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def start(self) -> None:
        """Begin the first round."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, unless a disk holds it up; may be called if it was never started."""
        self._closing.cancel()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S)

    def figures(self) -> Sequence[WritableLayer]:
        """What is known of all that are there, by their containers' ids."""
        return [
            counted(container_id, layer)
            or self._measured.get(layer.path, WritableLayer(container_id))
            for container_id, layer in sorted(self._layers().items())
        ]

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        with suppress(Cancelled):
            while True:
                try:
                    self._measure(self._layers())
                except Cancelled:
                    raise
                except Exception:
                    # A defect must not end the thread.
                    log.exception("usage.unhandled")
                self._closing.wait(timeout_s=self.interval_s)

    def _measure(self, layers: Mapping[str, Layer]) -> None:
        paths = {each.path for each in layers.values()}
        self._measured = {path: each for path, each in self._measured.items() if path in paths}
        for container_id, layer in layers.items():
            if counted(container_id, layer):
                continue
            try:
                used = usage_of(layer.path, self._pause)
            except OSError as error:
                # It was moved meanwhile, or removed: the next round sees.
                log.debug("usage.not_measured", container_id=container_id, error=str(error))
                continue
            found = WritableLayer(container_id, FsUsage(*used), time.time_ns())
            self._measured[layer.path] = found
            self._pause()

    def _pause(self) -> None:
        self._closing.wait(timeout_s=_PAUSE_S)


def fs_info(storage: Storage, lent: Collection[str], layers: Sequence[WritableLayer]) -> FsInfo:
    """What ``ImageFsInfo`` answers; ``lent`` are the ids of images that our containers use."""
    images = storage.snapshot().images.values()
    used = {each.image for each in storage.containers()} | set(lent)
    all_bytes = layers_bytes(images)
    with host_failing("measure", storage.root):
        found = os.statvfs(_existing(storage.root))
    return FsInfo(
        path=str(storage.root),
        total=FsUsage(found.f_blocks * found.f_frsize, found.f_files),
        available=FsUsage(found.f_bavail * found.f_frsize, found.f_favail),
        images_bytes=all_bytes,
        reclaimable_bytes=all_bytes
        - layers_bytes(each for each in images if each.image_id in used),
        image_count=len(images),
        writable_layers=tuple(layers),
    )


def layers_bytes(images: Iterable[Image]) -> int:
    """Bytes of the layers of images, each counted once."""
    layers = {layer.id: layer.size_bytes for image in images for layer in image.chain}
    return sum(layers.values())


def _existing(path: Path) -> Path:
    """The directory itself, or the next one above that exists: it will be on the same disk."""
    return next((each for each in (path, *path.parents) if each.exists()), path)
