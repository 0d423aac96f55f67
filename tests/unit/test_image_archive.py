"""What is in archives of images."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from ocigrpc.oci.images.archive import ArchivedImage, ArchiveForm, archived_images

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
    saved = [{"RepoTags": ["alpine:3", "r.io/a"]}, {"RepoTags": None}, {"Config": "x"}]
    assert archived_images(archive(form, manifest=saved)) == (
        ArchiveForm.DOCKER,
        [
            ArchivedImage("@0", ["docker.io/library/alpine:3", "r.io/a:latest"]),
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
