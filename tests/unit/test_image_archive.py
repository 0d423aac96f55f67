"""What is in archives of images."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Literal

import pytest

from ocigrpc.oci.images.archive import ArchivedImage, ArchiveForm, archived_images

Format = Literal[0, 1, 2]

NAME = "org.opencontainers.image.ref.name"
WHOLE = "io.containerd.image.name"


def archive(form: int = tarfile.PAX_FORMAT, **files: object) -> io.BytesIO:
    """An archive with these files, whose names are those of JSON, after some others."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as out:
        others = {"x" * 150: b"1", "layer": b"y" * 1500, "empty": b""}
        contents = {f"{name}.json": json.dumps(each).encode() for name, each in files.items()}
        for name, content in {**others, **contents}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    made.seek(0)
    return made


def index(*annotations: dict[str, str]) -> dict[str, object]:
    return {"manifests": [{"digest": "sha256:1", "annotations": each} for each in annotations]}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_images_of_docker_save_are_found_by_their_numbers(form: int) -> None:
    saved = [
        {"RepoTags": ["alpine:3", "docker.io/b", "r.io/a"]},
        {"RepoTags": None},
        {"Config": "x"},
    ]
    assert archived_images(archive(form, manifest=saved)) == (
        ArchiveForm.DOCKER,
        [
            ArchivedImage(
                "@0", ["docker.io/library/alpine:3", "docker.io/library/b:latest", "r.io/a:latest"]
            ),
            ArchivedImage("@1", []),
            ArchivedImage("@2", []),
        ],
    )


def test_an_archive_of_both_forms_is_one_of_docker() -> None:
    both = archive(manifest=[{"RepoTags": []}], index=index({}))
    assert archived_images(both)[0] is ArchiveForm.DOCKER


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        ({}, []),
        ({NAME: "latest"}, []),
        ({NAME: "alpine:3"}, ["docker.io/library/alpine:3"]),
        ({NAME: "localhost/a"}, ["localhost/a:latest"]),
        ({NAME: "3", WHOLE: "docker.io/library/alpine:3"}, ["docker.io/library/alpine:3"]),
    ],
)
def test_the_one_image_of_a_layout_needs_no_name(
    annotations: dict[str, str], names: list[str]
) -> None:
    images = [ArchivedImage("", names)]
    assert archived_images(archive(index=index(annotations))) == (ArchiveForm.OCI, images)


def test_images_of_a_layout_are_found_by_their_annotations() -> None:
    found = archived_images(archive(index=index({NAME: "r.io/a:1"}, {NAME: "2"})))
    assert found[1] == [ArchivedImage("r.io/a:1", ["r.io/a:1"]), ArchivedImage("2", [])]


@pytest.mark.parametrize(
    "made",
    [
        io.BytesIO(b"x" * 512),
        io.BytesIO(b""),
        io.BytesIO(bytes(1024)),
        archive(other=1),
        archive(manifest=[]),
        archive(manifest={}),
        archive(manifest=[{"RepoTags": ["NO NAME"]}]),
        archive(manifest=[{"RepoTags": ["ocigrpc.invalid/x:1"]}]),
        archive(index=index({WHOLE: "ocigrpc.invalid/x:1"})),
        archive(manifest=[{"RepoTags": ["a"] * 501}, {"RepoTags": ["b"] * 500}]),
        archive(manifest=[{}] * 1001),
        archive(manifest="x" * (4 << 20)),
        archive(index={}),
        archive(index=index({NAME: "same"}, {NAME: "same"})),
        archive(index=index({NAME: "a"}, {})),
        archive(index=[]),
    ],
)
def test_what_is_no_archive_of_images_is_refused(made: io.BytesIO) -> None:
    with pytest.raises(ValueError, match=r"."):
        archived_images(made)


SAVED = json.dumps([{"RepoTags": ["r.io/a:1"]}]).encode()


def header(name: str, size: int, form: Format = tarfile.PAX_FORMAT, **more: object) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    for field, value in more.items():
        setattr(member, field, value)
    return member.tobuf(form)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_layer_larger_than_8_gib_is_none_of_the_archives_files(
    tmp_path: Path, form: Format
) -> None:
    size = 9 << 30
    # What an archive of that form begins with where its header has no room for the size.
    inner = header("manifest.json", 2) + b"[]".ljust(512, b"\0")
    with open(tmp_path / "sparse", "w+b") as file:
        file.write(header("layer.tar", size, form) + inner)
        file.seek(size - len(inner), os.SEEK_CUR)
        file.write(header("manifest.json", len(SAVED)) + SAVED.ljust(1536, b"\0"))
        file.seek(0)
        assert archived_images(file) == (
            ArchiveForm.DOCKER,
            [ArchivedImage("@0", ["r.io/a:1"])],
        )


@pytest.mark.parametrize(
    "other",
    [
        # Names that only begin or end as that of the list.
        header(f"{'x' * 100}/manifest.json", 0, tarfile.USTAR_FORMAT),
        header("manifest.json", 0, pax_headers={"path": "other.json"}),
        header("manifest.json", 0, type=tarfile.DIRTYPE),
        # Without content, whatever it says.
        header("link", 512, tarfile.USTAR_FORMAT, type=tarfile.LNKTYPE, linkname="other"),
    ],
)
def test_files_have_the_names_and_sizes_that_other_programs_see(other: bytes) -> None:
    # The last one counts.
    whole = other + header("manifest.json", len(SAVED)) + SAVED.ljust(512, b"\0") + other
    with tarfile.open(fileobj=io.BytesIO(whole)) as seen:
        assert len(seen.getmembers()) == 3
    assert archived_images(io.BytesIO(whole))[1] == [ArchivedImage("@0", ["r.io/a:1"])]


@pytest.mark.parametrize(
    "text",
    [
        *(b"x", b"5", b" ", b"0 \n", b"3 \n", b"9 a=b\n", b"6 a=b.", b"-6 a=b\n"),
        *(b"7 size=\n", b"12 size=-512\n", b"21 size=123456789012\n"),
        *(b"30 size=1234567890123456789012\n", b" " * (1 << 20) + b"x", b"9" * 100_000),
    ],
)
def test_headers_of_pax_that_are_none_are_refused(text: bytes) -> None:
    pax = header("pax", len(text), type=tarfile.XHDTYPE) + text + bytes(-len(text) % 512)
    whole = pax + header("manifest.json", len(SAVED)) + SAVED.ljust(1536, b"\0")
    with pytest.raises(ValueError, match=r"."):
        archived_images(io.BytesIO(whole))


@pytest.mark.parametrize(
    ("field", "value"), [(slice(124, 136), b"\x80" + b"\xff" * 11), (slice(124, 136), b"8" * 12)]
)
def test_sizes_of_no_sense_are_refused(field: slice, value: bytes) -> None:
    header = bytearray(archive(manifest=[{}]).getvalue()[:512])
    header[field] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(ValueError, match=r"."):
        archived_images(io.BytesIO(bytes(header) + bytes(1024)))
