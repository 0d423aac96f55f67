"""Images as archives: what is saved can be loaded, here and by other programs."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

import pytest

from ocigrpc.errors import Timeout
from ocigrpc.image_errors import ImageNotFound
from ocigrpc.v1.image_pb2 import (
    ARCHIVE_FORMAT_DOCKER,
    ARCHIVE_FORMAT_OCI,
    ArchiveFormat,
)
from tests.bed.clients.refusal import refused
from tests.bed.hosts.disks import disk
from tests.bed.hosts.leaks import until
from tests.bed.images.layers import file, hard_link
from tests.bed.images.layout import Image, image, write_layout
from tests.bed.images.pulling import Puller
from tests.bed.images.storages import Skopeo, Storage

FORMATS = [ARCHIVE_FORMAT_DOCKER, ARCHIVE_FORMAT_OCI]
TRANSPORTS = {ARCHIVE_FORMAT_DOCKER: "docker-archive", ARCHIVE_FORMAT_OCI: "oci-archive"}
PIECE_BYTES = 1 << 20


def made() -> Image:
    return image(
        [file("base", os.urandom(3 * PIECE_BYTES)), hard_link("same", "base")],
        [file("top", b"t" * 1000, 0o4755)],
        config={"Cmd": ["/top"]},
    )


def stored(puller: Puller, made: Image, directory: Path, name: str) -> str:
    """Put an image into the storage of a service, by an OCI layout; its id."""
    layout = write_layout(directory / made.image_id, {"it": made})
    return puller.pull(f"oci:{layout}:it", name=name).image_id


def save(puller: Puller, name: str, form: ArchiveFormat, path: Path) -> Path:
    with open(path, "wb") as out, puller.client.save_image(name, form) as pieces:
        for piece in pieces:
            out.write(piece)
    return path


def pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as packed:
        while piece := packed.read(PIECE_BYTES):
            yield piece


def load(puller: Puller, path: Path, name: str = "") -> list[tuple[str, list[str]]]:
    """What a load answers: ids with names."""
    answer = puller.client.load_image(pieces(path), name)
    return [(each.image_id, sorted(each.names)) for each in answer.images]


def layout_archive(directory: Path, images: dict[str, Image]) -> Path:
    """An OCI layout as an archive."""
    layout = write_layout(directory / "layout", images)
    subprocess.run(["tar", "-cf", directory / "a.tar", "-C", layout, "."], check=True, timeout=60)
    return directory / "a.tar"


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_saved_can_be_loaded_again(
    puller: Puller, form: ArchiveFormat, tmp_path: Path
) -> None:
    image_id = stored(puller, made(), tmp_path, "r.io/saved:1")
    path = save(puller, "r.io/saved:1", form, tmp_path / "a.tar")
    puller.client.remove_image("r.io/saved:1")
    assert puller.storage.images() == []
    assert load(puller, path) == [(image_id, ["r.io/saved:1"])]
    assert list(puller.client.image_status(image_id).config.cmd) == ["/top"]
    top = puller.storage.diffs(image_id)[-1] / "top"
    assert (top.read_bytes(), top.stat().st_mode & 0o7777) == (b"t" * 1000, 0o4755)


@pytest.mark.parametrize("form", FORMATS)
def test_other_programs_load_what_is_saved(
    puller: Puller, form: ArchiveFormat, skopeo: Skopeo, storage: Storage, tmp_path: Path
) -> None:
    image_id = stored(puller, made(), tmp_path, "localhost/saved:1")
    path = save(puller, "saved:1", form, tmp_path / "a.tar")
    skopeo.copy(f"{TRANSPORTS[form]}:{path}:localhost/saved:1", storage, "other")
    assert [each["id"] for each in storage.images()] == [image_id]


def test_an_image_that_is_saved_by_its_id_has_no_name_in_the_archive(
    puller: Puller, tmp_path: Path
) -> None:
    image_id = stored(puller, made(), tmp_path, "r.io/saved:1")
    path = save(puller, image_id, ARCHIVE_FORMAT_DOCKER, tmp_path / "a.tar")
    with tarfile.open(path) as archive:
        listed = archive.extractfile("manifest.json")
        assert listed is not None
        assert [each["RepoTags"] for each in json.load(listed)] == [[]]
    puller.client.remove_image(image_id)
    assert load(puller, path) == [(image_id, [])]
    assert load(puller, path, "mine") == [(image_id, ["localhost/mine:latest"])]


def test_no_image_is_no_archive(puller: Puller) -> None:
    with pytest.raises(ImageNotFound):
        next(puller.client.save_image("no-such"))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("program", ["gzip", "bzip2", "xz", "zstd"])
def test_compressed_archives_are_loaded(
    puller: Puller, form: ArchiveFormat, program: str, tmp_path: Path
) -> None:
    image_id = stored(puller, image([file("a", b"a" * 9999)]), tmp_path, "r.io/a:1")
    path = save(puller, "r.io/a:1", form, tmp_path / "a.tar")
    packed = tmp_path / "packed"
    with open(packed, "wb") as out:
        subprocess.run([program, "-c", path], stdout=out, check=True, timeout=60)
    puller.client.remove_image("r.io/a:1")
    assert load(puller, packed) == [(image_id, ["r.io/a:1"])]


def test_an_archive_of_several_images_has_all_of_them(puller: Puller, tmp_path: Path) -> None:
    first, second = image([file("first")]), image([file("second")])
    path = layout_archive(tmp_path, {"r.io/first:1": first, "2": second})
    assert load(puller, path) == [(first.image_id, ["r.io/first:1"]), (second.image_id, [])]
    with refused("INVALID_ARGUMENT", "NOT_APPLICABLE"):
        load(puller, path, "r.io/mine:1")


def test_all_names_of_an_archive_are_given(puller: Puller, tmp_path: Path) -> None:
    image_id = stored(puller, image([file("a")]), tmp_path, "r.io/a:1")
    path = save(puller, "r.io/a:1", ARCHIVE_FORMAT_DOCKER, tmp_path / "a.tar")
    puller.client.remove_image("r.io/a:1")
    renamed = tmp_path / "renamed.tar"
    with tarfile.open(path) as before, tarfile.open(renamed, "w") as after:
        for member in before:
            content = before.extractfile(member) if member.isfile() else None
            if member.name == "manifest.json":
                assert content is not None
                listed = json.load(content)
                listed[0]["RepoTags"] = ["busybox", "r.io/b:2"]
                text = json.dumps(listed).encode()
                member.size, content = len(text), io.BytesIO(text)
            after.addfile(member, content)
    names = ["docker.io/library/busybox:latest", "r.io/b:2"]
    assert load(puller, renamed) == [(image_id, names)]


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive at all", b"\x1f\x8bno gzip", bytes(10240)],
    ids=["nothing", "text", "no gzip", "empty"],
)
def test_what_is_no_archive_is_refused(puller: Puller, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with refused("INVALID_ARGUMENT", "ARCHIVE_MALFORMED") as refusal:
        load(puller, path)
    assert refusal.fields == ["chunk"]
    assert puller.storage.images() == []


@pytest.mark.parametrize("form", FORMATS)
def test_of_a_damaged_archive_nothing_is_left(
    puller: Puller, form: ArchiveFormat, tmp_path: Path
) -> None:
    stored(puller, made(), tmp_path, "r.io/a:1")
    path = save(puller, "r.io/a:1", form, tmp_path / "a.tar")
    puller.client.remove_image("r.io/a:1")
    whole = path.read_bytes()
    at = whole.index(b"\0", PIECE_BYTES)
    path.write_bytes(whole[:at] + b"\1" + whole[at + 1 :])
    with refused("INVALID_ARGUMENT", "ARCHIVE_MALFORMED"):
        load(puller, path)
    assert (puller.storage.images(), puller.storage.layers()) == ([], [])


def lists_first(path: Path, to: Path) -> Sequence[int]:
    """Write an archive anew, its lists first; places in it before the end of the largest file.

    That is the last one then, and without all of it there is no image.
    """
    with tarfile.open(path) as before, tarfile.open(to, "w") as after:
        lists = ("index.json", "manifest.json")
        for member in sorted(before, key=lambda each: (each.name not in lists, each.size)):
            after.addfile(member, before.extractfile(member) if member.isfile() else None)
    with tarfile.open(to) as archive:
        return sorted(
            {
                place
                for each in archive
                for place in (each.offset, each.offset + 100, each.offset_data + each.size // 2)
            }
        )


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("program", ["cat", "gzip", "bzip2", "xz", "zstd"])
def test_an_archive_that_is_cut_anywhere_is_malformed(
    puller: Puller, form: ArchiveFormat, program: str, tmp_path: Path
) -> None:
    made = image([file("base", os.urandom(3000))], [file("top", b"t" * 1000)])
    image_id = stored(puller, made, tmp_path, "r.io/a:1")
    path, cut = tmp_path / "first.tar", tmp_path / "cut.tar"
    places = lists_first(save(puller, "r.io/a:1", form, tmp_path / "a.tar"), path)
    puller.client.remove_image("r.io/a:1")
    if program == "cat":
        whole = path.read_bytes()
    else:
        argv = [program, "-c", str(path)]
        whole = subprocess.run(argv, capture_output=True, check=True, timeout=60).stdout
        places = [len(whole) * part // 8 for part in range(8)]
    for place in places:
        cut.write_bytes(whole[:place])
        with refused("INVALID_ARGUMENT", "ARCHIVE_MALFORMED"):
            load(puller, cut)
        with refused("INVALID_ARGUMENT", "SOURCE_UNREADABLE") as refusal:
            puller.pull(f"{TRANSPORTS[form]}:{cut}")
        assert refusal.metadata["path"] == str(cut)
    assert (puller.storage.images(), puller.storage.layers()) == ([], [])
    if program != "cat":
        cut.write_bytes(whole[:-1])
        with refused("INVALID_ARGUMENT", "ARCHIVE_MALFORMED"):
            load(puller, cut)
    cut.write_bytes(whole)
    assert load(puller, cut) == [(image_id, ["r.io/a:1"])]


def test_of_a_client_that_goes_nothing_is_left(puller: Puller, tmp_path: Path) -> None:
    large = image([file("large", os.urandom(32 * PIECE_BYTES))])
    stored(puller, large, tmp_path, "r.io/a:1")
    benches = puller.service.directory / "root/benches"
    for form in FORMATS:
        with puller.client.save_image("r.io/a:1", form) as saved:
            next(saved)
            assert len(list(benches.iterdir())) == 1
        until(lambda: not list(benches.iterdir()))


def test_of_an_archive_that_does_not_end_nothing_is_left(puller: Puller) -> None:
    benches, given_up = puller.service.directory / "root/benches", Event()

    def pieces() -> Iterator[bytes]:
        yield b"x" * PIECE_BYTES
        until(lambda: list(benches.glob("*/packed")) != [])
        given_up.wait(30)

    with pytest.raises(Timeout):
        puller.client.load_image(pieces(), timeout_s=1)
    given_up.set()
    until(lambda: not list(benches.iterdir()))


@pytest.fixture
def small_root(tmp_path: Path) -> Iterator[Path]:
    """A directory on a small disk."""
    with disk(tmp_path / "disk"):
        yield tmp_path / "disk"


def test_an_archive_leaves_room_on_its_disk(
    small_root: Path, start_pulling: Callable[..., Puller]
) -> None:
    puller = start_pulling(root_dir=small_root)
    free_bytes = [1 << 60]

    def pieces() -> Iterator[bytes]:
        while True:
            yield b"x" * (PIECE_BYTES // 4)
            disk = os.statvfs(small_root)
            free_bytes.append(disk.f_bavail * disk.f_frsize)

    with refused("RESOURCE_EXHAUSTED", "STORAGE_FULL"):
        puller.client.load_image(pieces())
    assert min(free_bytes) > 0
    assert list((small_root / "benches").iterdir()) == []
