"""``scripts/soak --images``: images are pulled, run and removed while all that runs is killed.

Each image is whole or gone, and nothing is left of those that are gone. The load, and all that is
checked after each kill, is that of the tests.
"""

from __future__ import annotations

import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.bed.commands.outcome import exit_status
from tests.bed.images.faulty_registry import serving_faulty_registry
from tests.bed.images.pulling import Puller
from tests.bed.images.storages import Skopeo, registries_conf
from tests.bed.loads.image_storm import ImageStorm, ImageToll, made_images
from tests.bed.services.serving import sandbox

KILLS = 100

_IMAGES = 8


def crash_images(kills: int = KILLS, seed: int | None = None) -> int:
    """Kill a service and skopeo so many times, and print what there was; the exit status.

    There are as many pulls, runs and removals of each at least. The same ``seed`` makes the same
    moments, as far as the machine lets it.
    """
    seed = secrets.randbits(32) if seed is None else seed
    print(f"seed {seed}", file=sys.stderr)
    began_s = time.monotonic()

    def progress(toll: ImageToll) -> None:
        done = ", ".join(f"{count} {verb}" for verb, count in sorted(toll.done.items()))
        line = f"{toll.kills} of {kills} kills; {done}"
        print(line, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)

    def work() -> None:
        with (
            tempfile.TemporaryDirectory(prefix="ocigrpc-images-", dir="/var/tmp") as directory,
            serving_faulty_registry() as registry,
        ):
            conf = Path(directory, "conf")
            conf.write_text(registries_conf(registry.host))
            with sandbox(None, {"images_registries_conf": conf}) as service:
                images = made_images(service.rootfs, _IMAGES)
                storm = ImageStorm(Puller(service), registry, images, seed)
                storm.rage(kills, kills, progress)
                readable = storm.expect_readable(Skopeo(Path(directory)), Path(directory))
                storm.clear()
        _print_toll(storm.toll, readable, time.monotonic() - began_s)

    return exit_status(work)


def _print_toll(toll: ImageToll, readable: int, took_s: float) -> None:
    lines = {
        "kills of a service that was ready": toll.kills,
        "kills of one that was not yet": toll.early_kills,
        "kills that also lost what was not on the disk": toll.power_cuts,
        "pulls": toll.done["pull"],
        "containers run": toll.done["run"],
        "removals of images": toll.done["remove"],
        "prunes": toll.done["prune"],
        "calls cut off": toll.cut_off,
        "calls for what another had removed": toll.refused,
        "images compared with what was pushed": toll.checked,
        "images that skopeo read at the end": readable,
        "until all was in order, ms, median": round(1000 * statistics.median(toll.settled_s)),
        "the same, longest": round(1000 * max(toll.settled_s)),
        "minutes": round(took_s / 60),
    }
    for name, figure in lines.items():
        print(f"{name:<45}{figure:>8}")
