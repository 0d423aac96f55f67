"""``save`` and ``load``: archives in files and pipes, which other programs read and write."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.bed.clients.command import Command
from tests.bed.clients.terminal import seen
from tests.bed.images.layout import Image
from tests.bed.images.storages import Skopeo
from tests.bed.services.service import Service
from tests.real.images.conftest import ImagesOf

NAME = "registry.example/small:1"


@pytest.fixture
def command(service: Service) -> Command:
    return Command(service)


@pytest.fixture
def small_there(images_of_service: ImagesOf, small_image: Image) -> str:
    """The id of the small image, which the service has."""
    return images_of_service.put(small_image, NAME)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_an_archive_brings_the_image_back_with_its_name(
    small_there: str, command: Command, tmp_path: Path, form: str
) -> None:
    path = str(tmp_path / "small.tar")
    assert command.lines("save", "--format", form, "-o", path, NAME) == []
    command.lines("rmi", NAME)
    assert command.lines("load", "-i", path) == [f"Loaded image: {NAME}"]
    assert command.lines("images", "-q") == [small_there[:12]]


def test_an_archive_goes_through_pipes(small_there: str, command: Command) -> None:
    archive = command.feed(b"", "save", small_there[:12])
    command.lines("rmi", "--all")
    assert command.feed(archive, "load", "--quiet") == f"sha256:{small_there}\n".encode()
    loaded = command.feed(archive, "load", "-q", "--name", "again")
    assert loaded == b"localhost/again:latest\n"


def test_other_programs_read_what_is_saved(
    small_there: str, skopeo: Skopeo, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "small.tar"
    command.lines("image", "save", "--output", str(path), NAME)
    ended = skopeo.run("inspect", "--config", f"docker-archive:{path}")
    assert (ended.returncode, ended.stderr) == (0, "")
    with tarfile.open(path) as archive:
        assert "manifest.json" in archive.getnames()


def test_a_file_that_exists_is_replaced_by_force_alone(
    small_there: str, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "small.tar"
    path.write_text("something")
    assert "--force" in command.refusal("save", "-o", str(path), NAME)
    assert path.read_text() == "something"
    assert command.lines("save", "--force", "-o", str(path), NAME) == []
    assert tarfile.is_tarfile(path)


def test_of_an_image_that_is_not_there_no_file_is_left(command: Command, tmp_path: Path) -> None:
    assert "nobody" in command.refusal("save", "-o", str(tmp_path / "a.tar"), "nobody")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_archive_is_refused(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"no archive" * 1000)
    assert f"{path} is no archive" in command.refusal("load", "-i", str(path))
    assert command.lines("images", "-q") == []


def test_an_archive_is_not_for_a_terminal(command: Command) -> None:
    assert "not for a terminal" in seen(command.argv("save", NAME), columns=200)
    assert "from a terminal" in seen(command.argv("load"), columns=200)
