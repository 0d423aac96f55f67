"""What pulls are made of: places, jobs, what is left, and an image without layers."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from ocigrpc.engine.images import program
from ocigrpc.engine.images.pulling.job import Job
from ocigrpc.engine.images.pulling.places import Places
from ocigrpc.engine.images.pulling.wanted import Found, Wanted
from ocigrpc.engine.model.pulls import PullProgress
from ocigrpc.errors import Timeout
from ocigrpc.image_errors import ImageNotFound
from ocigrpc.oci.images.empty_image import layout
from ocigrpc.oci.images.manifest import Blob, Manifest, digest_of
from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.progress import LayerProgress, LayerState
from ocigrpc.oci.images.skopeo import Skopeo, auth_json_problem, waking_name
from ocigrpc.oci.images.storage import (
    StoredContainer,
    StoredImage,
    StoredLayer,
    orphans,
    stored_images,
)
from ocigrpc.oci.images.storage_edit import with_pulled
from ocigrpc.waiting import Deadline

DIGEST = "sha256:" + "0a" * 32
MANIFEST = Manifest(Blob(DIGEST, 1), ())
FOUND = Found("docker://r.io/a", "r.io/a:1", "r.io", "r.io/a", DIGEST, MANIFEST, b"{}")


@pytest.fixture
def job() -> Job:
    return Job(Wanted("a", FOUND, MANIFEST, Platform("linux", "amd64"), None, FOUND.source))


def test_a_place_is_waited_for_and_as_many_are_there_as_the_settings_say_now() -> None:
    limit = [1]
    places = Places(lambda: limit[0])
    with places.taken(Deadline()):
        with pytest.raises(Timeout), places.taken(Deadline(0.01)):
            raise AssertionError
        limit[0] = 2
        with places.taken(Deadline(0.01)):
            pass
        limit[0] = 1
        got = threading.Event()

        def take() -> None:
            with places.taken(Deadline(20)):
                got.set()

        thread = threading.Thread(target=take)
        thread.start()
        assert not got.is_set()
    thread.join(20)
    assert got.is_set()


@pytest.mark.parametrize("limit_s", [1, 60, 3600])
def test_a_connection_that_only_keeps_alive_is_stalled(
    limit_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(program, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    monkeypatch.setattr(program, "_io_bytes", lambda pid: int(4 * now_s[0]))
    monkeypatch.setattr(program, "lock_holder", lambda pid: None)
    watchdog = program._Watchdog(1, str(tmp_path), limit_s, limit_s)
    for tick in range(int(limit_s)):
        now_s[0] = float(tick)
        watchdog.check()
    now_s[0] = limit_s
    with pytest.raises(Timeout) as caught:
        watchdog.check()
    assert caught.value.reason == "PULL_STALLED"


def test_who_waits_for_a_lock_is_not_stalled_and_waits_for_a_limit_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, holder = [0.0], list[int | None]([os.getpid()])
    monkeypatch.setattr(program, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    monkeypatch.setattr(program, "_io_bytes", lambda pid: 0)
    monkeypatch.setattr(program, "lock_holder", lambda pid: holder[0])
    watchdog = program._Watchdog(1, str(tmp_path), 10, 100)

    def check_at(*times_s: float) -> None:
        for now_s[0] in times_s:
            watchdog.check()

    check_at(0, 50, 99)
    # It has got the lock, waits for bytes, and then for another one.
    holder[0] = None
    check_at(100, 108)
    holder[0] = os.getpid()
    check_at(109, 208)
    with pytest.raises(Timeout) as caught:
        check_at(209)
    assert caught.value.reason == "STORAGE_LOCKED"
    assert caught.value.metadata["pid"] == str(os.getpid())
    holder[0] = None
    with pytest.raises(Timeout) as caught:
        check_at(218, 219)
    assert caught.value.reason == "PULL_STALLED"


def test_a_job_is_cancelled_by_the_last_to_leave_and_takes_nobody_then(job: Job) -> None:
    first, second = job.join("r.io/a:1"), job.join("")
    assert first is not None
    assert second is not None
    assert job.close() == {"r.io/a:1"}
    job.leave(first)
    assert not job.deadline.cancelled
    job.leave(second)
    assert job.deadline.cancelled
    assert job.join("r.io/a:1") is None


def test_all_that_wait_get_its_failure(job: Job) -> None:
    callers = [job.join("") for _ in range(2)]
    job.end(ImageNotFound.of("a"))
    raised = []
    for caller in callers:
        assert caller is not None
        with pytest.raises(ImageNotFound) as failure:
            list(job.follow(caller, Deadline()))
        raised.append(failure.value)
    assert raised[0] is not raised[1]
    assert raised[0].metadata == raised[1].metadata == {"image": "a"}


def test_progress_has_all_layers_and_then_what_has_changed(job: Job) -> None:
    def report(*received: int) -> None:
        layers = (LayerProgress(DIGEST, 9, each, LayerState.RECEIVING) for each in received)
        job.report(PullProgress(DIGEST, 18, sum(received), tuple(layers)))

    caller = job.join("")
    assert caller is not None
    report(1, 1)
    steps = job.follow(caller, Deadline())
    assert [each.received_bytes for each in next(steps).layers] == [1, 1]
    report(1, 5)
    progress = next(steps)
    assert (progress.received_bytes, [each.received_bytes for each in progress.layers]) == (6, [5])


def test_an_orphan_is_of_these_blobs_and_of_no_image_and_no_container() -> None:
    layers = {
        each.id: each
        for each in (
            StoredLayer("low", packed_digest="p1", diff_digest="d1"),
            StoredLayer("top", "low", packed_digest="p2"),
            StoredLayer("loose", "low", packed_digest="p3"),
            StoredLayer("work", "low", diff_digest="d4"),
            StoredLayer("mapped", "low", packed_digest="p2"),
            StoredLayer("other", packed_digest="p5"),
        )
    }
    images = [StoredImage("i", layer="top", mapped_layers=["mapped"])]
    blobs = {"p1", "p2", "p3", "d4"}
    assert orphans(blobs, layers, images, []) == {"loose", "work"}
    assert orphans(blobs, layers, images, [StoredContainer("c", layer="work")]) == {"loose"}
    assert orphans(blobs, layers, [], []) == {"low", "top", "loose", "work", "mapped"}


def test_names_take_the_place_of_a_temporary_one_and_go_over() -> None:
    images = [{"id": "new", "names": ["t", "r.io/a:2"]}, {"id": "old", "names": ["r.io/a:1"]}]
    changed = with_pulled(json.dumps(images).encode(), "new", "t", ["r.io/a:1", "r.io/a:2"])
    assert {each.id: each.names for each in stored_images(changed)} == {
        "new": ["r.io/a:1", "r.io/a:2"],
        "old": None,
    }


def test_an_image_without_layers_is_another_one_for_each_mark() -> None:
    files = layout("mark")
    assert files.keys() != layout("other").keys()
    for name, content in files.items():
        if name.startswith("blobs/sha256/"):
            assert digest_of(content) == f"sha256:{name.rpartition('/')[2]}"
    (entry,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(files[f"blobs/{entry['digest'].replace(':', '/')}"])
    assert manifest["layers"] == []


def test_the_store_is_woken_whatever_the_policy_says() -> None:
    skopeo = Skopeo("/skopeo", "/root", "/run", policy="/policy.json")
    argv = list(skopeo.wake("/layout", waking_name("p"), "/s"))
    assert argv[5:] == [
        *("/skopeo", "--tmpdir", "/s", "--insecure-policy", "copy", "-q", "oci:/layout"),
        "containers-storage:[overlay@/root+/run]ocigrpc.invalid/wake:p",
    ]


def test_a_file_of_credentials_is_json_and_is_not_repeated() -> None:
    assert auth_json_problem('{"auths": {"r.io": {"auth": "eA=="}}}') == ""
    assert "secret" not in auth_json_problem('{"auths": "secret"}')
