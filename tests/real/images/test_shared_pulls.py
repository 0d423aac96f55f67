"""Pulls into a store that other programs lock and change meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import current_thread

import pytest

from ocigrpc.engine.images.images import Images
from ocigrpc.engine.model.image_records import PullRecord
from ocigrpc.engine.model.pulls import PullRequest
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import HostFailed, Timeout
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.settings.values import Settings, TimeoutSettings
from ocigrpc.waiting import Deadline
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.images.faulty_registry import FaultyRegistry
from tests.bed.images.layers import file
from tests.bed.images.layout import Image, image
from tests.bed.images.pulling import Puller
from tests.bed.images.registry import Registry
from tests.bed.images.storages import APART, Storage, registries_conf

StartPulling = Callable[..., Puller]

# As containers/storage does it: by a lock of the process.
_HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has a file of the store locked until the end of the block, or its own."""
    argv = [sys.executable, "-I", "-S", "-c", _HOLD, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"locked\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("undo_s", [0.5, 3 * LIMIT_S])
def test_a_pull_that_fails_while_the_store_is_locked_holds_up_nobody_and_is_undone_later(
    storage: Storage,
    registry: Registry,
    made: Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undo_s: float,
) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text(registries_conf(registry.host))
    images_settings = ImagesSettings(
        root=str(storage.root), run=str(storage.run), registries_conf=str(conf)
    )
    settings = Settings(
        root_dir=str(tmp_path / "service"),
        run_dir=str(tmp_path / "service"),
        images=images_settings,
        timeouts=TimeoutSettings(undo_s=undo_s),
    )
    name = registry.push(made, "made")
    with ExitStack() as unlocked, ExitStack() as opened:
        store = opened.enter_context(closing(Store(tmp_path / "ocigrpc.db", 100)))
        images = opened.enter_context(closing(Images(settings, store)))

        def fail(*_: object) -> None:
            # The other one is in the background.
            if current_thread().name == "pull":
                unlocked.enter_context(locked(lock_of(storage)))
                raise HostFailed("the disk fails")

        monkeypatch.setattr("ocigrpc.engine.images.pulling.copying.sync_file_system", fail)
        pool = opened.enter_context(ThreadPoolExecutor(1))
        pulled = pool.submit(lambda: list(images.pull(PullRequest(name), Deadline(60))))
        until(lambda: images._tidying._pulls.are_owed)
        if undo_s < LIMIT_S:
            with pytest.raises(HostFailed):
                pulled.result()
        with images._tidying.naming("another", Deadline(LIMIT_S)):
            assert storage.leaks() != []
        unlocked.close()
        with pytest.raises(HostFailed):
            pulled.result()
        until(lambda: not list(store.records(PullRecord)))
        assert storage.leaks() == []


def is_waited_for(path: Path) -> bool:
    """Whether somebody waits for the lock of a file."""
    inode = f":{path.stat().st_ino}"
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and inode in line for line in lines)


def podman(storage: Storage, *words: str) -> str:
    """What podman prints that has the same store."""
    places = ("--root", str(storage.root), "--runroot", str(storage.run))
    argv = [*APART, "podman", *places, "--storage-driver", "overlay", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture
def made() -> Image:
    return image([file("lower")], [file("upper", os.urandom(1 << 20))])


def lock_of(storage: Storage) -> Path:
    return storage.root / "overlay-layers/layers.lock"


def test_a_store_that_another_program_has_locked_is_no_stalled_registry(
    start_pulling: StartPulling, registry: Registry, small: str, made: Image
) -> None:
    puller = start_pulling(images_stall_timeout_s=1, images_lock_timeout_s=3)
    puller.pull(small)
    name = registry.push(made, "made")
    with locked(lock_of(puller.storage)) as holder, pytest.raises(Timeout) as raised:
        puller.pull(name)
    assert raised.value.reason == "STORAGE_LOCKED"
    assert raised.value.metadata["pid"] == str(holder.pid)
    assert raised.value.metadata["program"].startswith("python")
    until(lambda: puller.leaks() == [])
    assert puller.pull(name).image_id == made.image_id


def test_a_pull_goes_on_when_the_store_is_unlocked(
    start_pulling: StartPulling, registry: Registry, small: str, made: Image
) -> None:
    puller = start_pulling(images_stall_timeout_s=1)
    puller.pull(small)
    name = registry.push(made, "made")
    lock = lock_of(puller.storage)
    with ThreadPoolExecutor(1) as pool:
        with locked(lock):
            pulled = pool.submit(puller.pull, name)
            until(lambda: is_waited_for(lock))
        assert pulled.result().image_id == made.image_id


def test_an_image_that_a_prune_of_podman_removes_meanwhile_is_pulled_again(
    puller: Puller, faulty_registry: FaultyRegistry, made: Image
) -> None:
    name = faulty_registry.push(made, "made")
    storage = puller.storage

    def pruned() -> bool:
        return made.image_id in podman(storage, "image", "prune", "-af")

    with ThreadPoolExecutor(1) as pool:
        # As the image is in the store, and has none but its temporary name, or already its own.
        for _ in range(3):
            pulled = pool.submit(puller.pull, name)
            while not pulled.done():
                pruned()
            assert pulled.result().image_id == made.image_id
    while not pruned() and storage.images():
        pass
    puller.pull(name)
    assert puller.storage.names() == {name: made.image_id}


def test_names_that_podman_gives_and_takes_meanwhile_stay_as_they_are(
    puller: Puller, registry: Registry, small: str, made: Image
) -> None:
    # podman writes all names of its image, as it has read them before it had the lock.
    theirs, ours = puller.pull(small), puller.pull(registry.push(made, "made"))
    client, storage = puller.client, puller.storage

    def tag_by_podman() -> None:
        for number in range(4):
            podman(storage, "tag", theirs.image_id, f"localhost/theirs:{number}")
        for number in range(3):
            podman(storage, "untag", theirs.image_id, f"localhost/theirs:{number}")

    with ThreadPoolExecutor(1) as pool:
        tagging = pool.submit(tag_by_podman)
        count = 0
        while not tagging.done():
            client.tag_image(ours.image_id, f"localhost/ours:{count + 1}")
            if count:
                client.remove_image(f"localhost/ours:{count}")
            count += 1
        tagging.result()
    assert storage.names() == {
        **dict.fromkeys((*theirs.names, "localhost/theirs:3"), theirs.image_id),
        **dict.fromkeys((*ours.names, f"localhost/ours:{count}"), ours.image_id),
    }
