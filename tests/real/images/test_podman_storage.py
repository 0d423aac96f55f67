"""One store for the service, podman and buildah: each sees the images of the others."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.image_errors import ImageUnusable
from tests.bed.bundles.bundle import BUSYBOX
from tests.bed.clients.command import Command
from tests.bed.documents import OPERATING, fences
from tests.bed.images.containers import output_of
from tests.bed.images.layout import Image, write_layout
from tests.bed.images.storages import APART, Storage
from tests.bed.services.service import Service
from tests.real.conftest import StartService

BUILT = "localhost/built:1"
_LIMIT_S = 60
_CONTAINERFILE = """
FROM scratch
COPY busybox /bin/busybox
ENTRYPOINT ["/bin/busybox", "echo", "served"]
"""


class Others:
    """podman and buildah, with a store of this test."""

    def __init__(self, directory: Path) -> None:
        self.storage = Storage(directory / "root", directory / "run")

    def argv(self, program: str, *words: str) -> list[str]:
        """The command line of one of them."""
        places = ("--root", str(self.storage.root), "--runroot", str(self.storage.run))
        # What it mounts must not outlive it: nobody else of the test would unmount it.
        return [*APART, program, *places, "--storage-driver", "overlay", *words]

    def run(self, program: str, *words: str) -> str:
        """What one of them prints."""
        ended = subprocess.run(
            self.argv(program, *words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    def names(self) -> set[str]:
        """Those of all images, as podman lists them."""
        found = json.loads(self.run("podman", "images", "--format", "json"))
        return {name for each in found for name in each.get("Names") or []}


@pytest.fixture
def others() -> Iterator[Others]:
    with tempfile.TemporaryDirectory(prefix="ocigrpc-shared-", dir="/var/tmp") as directory:
        yield Others(Path(directory))


@pytest.fixture
def building(others: Others) -> str:
    """A container of buildah, of which an image was built."""
    container = others.run("buildah", "from", "scratch")
    others.run("buildah", "copy", "--quiet", container, str(BUSYBOX), "/bin/busybox")
    others.run("buildah", "config", "--entrypoint", '["/bin/busybox", "echo"]', container)
    others.run("buildah", "config", "--cmd", "built", container)
    others.run("buildah", "commit", "--quiet", container, BUILT)
    return container


@pytest.fixture
def sharing(others: Others, start_service: StartService) -> Service:
    """A service whose store is that of the others."""
    return start_service(images_root=others.storage.root, images_run=others.storage.run)


def test_an_image_that_buildah_has_built_runs_by_its_name(building: str, sharing: Service) -> None:
    assert [list(each.names) for each in sharing.client.list_images()] == [[BUILT]]
    assert output_of(sharing, "built:1") == ["built"]


def test_it_does_so_as_the_documents_say(others: Others, sharing: Service, tmp_path: Path) -> None:
    (text,) = (text for _, text in fences(OPERATING) if "buildah" in text)
    (tmp_path / "web").mkdir()
    shutil.copy(BUSYBOX, tmp_path / "web/busybox")
    (tmp_path / "web/Containerfile").write_text(_CONTAINERFILE)
    # By their names: the programs, with the store and the service of this test.
    programs = {"buildah": others.argv("buildah"), "ocigrpc": Command(sharing).argv()}
    for name, argv in programs.items():
        script = tmp_path / name
        # Not its own name again, which is the first one there.
        path = f"PATH={shlex.quote(os.environ['PATH'])}"
        script.write_text(f'#!/bin/sh\n{path} exec {shlex.join(argv)} "$@"\n')
        script.chmod(0o755)
    text = text.replace("/opt/ocigrpc/bin", str(tmp_path)).replace("/srv/web", f"{tmp_path}/web")
    done = subprocess.run(
        ["bash", "-e", "-c", text],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "served"
    assert others.names() == {"localhost/web:1"}


def test_an_image_that_was_pulled_is_podmans_too(
    small_image: Image, others: Others, sharing: Service, tmp_path: Path
) -> None:
    layout = write_layout(tmp_path / "layout", {"small": small_image})
    for _ in sharing.client.pull_image(f"oci:{layout}:small", name="localhost/small:1"):
        pass
    sharing.client.tag_image("small:1", "localhost/again:2")
    assert others.names() == {"localhost/small:1", "localhost/again:2"}
    sharing.client.remove_image("small:1")
    assert others.names() == {"localhost/again:2"}
    sharing.client.remove_image("again:2")
    assert others.names() == set()
    assert others.storage.leaks() == []


def test_an_image_that_others_have_containers_of_stays(
    building: str, others: Others, sharing: Service
) -> None:
    container = others.run("buildah", "from", BUILT)
    with pytest.raises(ImageUnusable) as caught:
        sharing.client.remove_image(BUILT)
    assert caught.value.reason == "IMAGE_IN_USE"
    assert others.names() == {BUILT}
    others.run("buildah", "rm", container)
    sharing.client.remove_image(BUILT)
    assert others.names() == set()
