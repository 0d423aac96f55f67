"""Signed images: who has signed them is what the policy wants, or nothing of them is there."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from ocigrpc.image_errors import ImageUnusable, RegistryUnreachable
from tests.bed.hosts.leaks import until
from tests.bed.images.layers import file
from tests.bed.images.layout import Image, image, image_list
from tests.bed.images.pulling import Puller
from tests.bed.images.registry import Registry
from tests.bed.images.signing import (
    Cosign,
    Gpg,
    Place,
    Signer,
    Sigstore,
    signing_by_gpg,
    write_trust,
)

StartPulling = Callable[..., Puller]

_NUMBERS = count()

_HELP = subprocess.run(["skopeo", "--help"], capture_output=True, text=True, check=True).stdout

# Debian 12 has taken sigstore out of its skopeo.
with_sigstore = pytest.mark.skipif(
    "generate-sigstore-key" not in _HELP, reason="skopeo knows no sigstore; that of a node does"
)

# Moves the tag just before each copy into a store, as long as there is something to move it to.
_MOVING = """#!{python}
import http.client, os, pathlib, sys
if "copy" in sys.argv:
    count = pathlib.Path("{count}")
    number = len(count.read_bytes()) + 1 if count.exists() else 1
    count.write_bytes(b"x" * number)
    manifest = pathlib.Path("{manifests}", str(number))
    if manifest.exists():
        registry = http.client.HTTPConnection("{host}")
        headers = {{"Content-Type": "{kind}"}}
        path = "/v2/{name}/manifests/latest"
        registry.request("PUT", path, manifest.read_bytes(), headers)
        assert registry.getresponse().status == 201
os.execv("/usr/bin/skopeo", ["skopeo", *sys.argv[1:]])
"""


@pytest.fixture
def place(registry: Registry, tmp_path: Path) -> Place:
    """A repository of this test's own."""
    return Place(registry, f"signed-{next(_NUMBERS)}", tmp_path / "lookaside")


@pytest.fixture(
    params=["gpg", *(pytest.param(form, marks=with_sigstore) for form in ("sigstore", "cosign"))]
)
def make_signer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Signer]]:
    """Makes those who sign in one form, each with another key."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory, ExitStack() as stack:

        def make() -> Signer:
            home = Path(directory, str(next(_NUMBERS)))
            if request.param == "gpg":
                return stack.enter_context(signing_by_gpg(home))
            return Cosign(home) if request.param == "cosign" else Sigstore(home)

        yield make


@pytest.fixture
def made() -> Image:
    return image([file("signed", b"text")])


def denied(puller: Puller, name: str) -> None:
    """A pull is denied, and leaves nothing."""
    with pytest.raises(ImageUnusable) as caught:
        puller.pull(name)
    assert caught.value.reason == "IMAGE_DENIED_BY_POLICY"
    assert (puller.storage.images(), puller.storage.layers()) == ([], [])
    # gpg, which skopeo asks, is gone a moment after its answer.
    until(lambda: puller.leaks() == [])


def test_an_image_that_the_right_one_has_signed_is_pulled(
    make_signer: Callable[[], Signer],
    start_pulling: StartPulling,
    place: Place,
    made: Image,
    tmp_path: Path,
) -> None:
    signer = make_signer()
    puller = start_pulling(**write_trust(tmp_path, place, signer))
    signer.push(made, place)
    assert puller.pull(place.repository).image_id == made.image_id


def test_an_image_that_nobody_or_another_one_has_signed_is_denied(
    make_signer: Callable[[], Signer],
    start_pulling: StartPulling,
    place: Place,
    made: Image,
    tmp_path: Path,
) -> None:
    signer = make_signer()
    puller = start_pulling(**write_trust(tmp_path, place, signer))
    place.registry.push(made, place.name)
    denied(puller, place.repository)
    make_signer().push(made, place)
    denied(puller, place.repository)
    signer.push(made, place)
    assert puller.pull(place.repository).image_id == made.image_id


def test_a_signature_is_for_its_image_and_repository_alone(
    make_signer: Callable[[], Signer],
    start_pulling: StartPulling,
    place: Place,
    made: Image,
    tmp_path: Path,
) -> None:
    signer, elsewhere = make_signer(), replace(place, name=f"{place.name}-elsewhere")
    puller = start_pulling(**write_trust(tmp_path, place, signer))
    signer.push(made, elsewhere)
    place.registry.push(made, place.name)
    signer.transplant(made, elsewhere, made, place)
    denied(puller, place.repository)
    other = image([file("signed", b"other text")])
    signer.push(other, place)
    changed = image([file("signed", b"changed text")])
    place.registry.push(changed, place.name)
    signer.transplant(other, place, changed, place)
    denied(puller, place.repository)


def test_whoever_has_not_signed_of_several_is_missing(
    make_signer: Callable[[], Signer],
    start_pulling: StartPulling,
    place: Place,
    made: Image,
    tmp_path: Path,
) -> None:
    signers = make_signer(), make_signer()
    puller = start_pulling(**write_trust(tmp_path, place, *signers))
    signers[0].push(made, place)
    denied(puller, place.repository)


@pytest.fixture
def gpg() -> Iterator[Gpg]:
    """Signs for tags, which others leave out."""
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as directory,
        signing_by_gpg(Path(directory, "gpg")) as signer,
    ):
        yield signer


@pytest.fixture(params=["", "matchExact"])
def identity(request: pytest.FixtureRequest) -> str:
    """How the policy compares names, as by default and exactly."""
    return str(request.param)


def test_an_old_signed_image_under_another_tag_is_denied(
    gpg: Gpg,
    start_pulling: StartPulling,
    place: Place,
    made: Image,
    tmp_path: Path,
    identity: str,
) -> None:
    puller = start_pulling(**write_trust(tmp_path, place, gpg, identity=identity))
    gpg.push(made, place, "old")
    place.registry.push(made, place.name, "new")
    denied(puller, f"{place.repository}:new")
    assert puller.pull(f"{place.repository}:old").image_id == made.image_id


def test_an_image_that_is_there_gets_no_name_that_it_was_not_signed_for(
    gpg: Gpg,
    start_pulling: StartPulling,
    place: Place,
    made: Image,
    tmp_path: Path,
    identity: str,
) -> None:
    puller = start_pulling(**write_trust(tmp_path, place, gpg, identity=identity))
    gpg.push(made, place, "old")
    place.registry.push(made, place.name, "new")
    old, new = (f"{place.repository}:{tag}" for tag in ("old", "new"))
    puller.pull(old)
    with pytest.raises(ImageUnusable) as caught:
        puller.pull(new)
    assert caught.value.reason == "IMAGE_DENIED_BY_POLICY"
    assert [list(each.names) for each in puller.client.list_images()] == [[old]]
    gpg.push(made, place, "new")
    assert sorted(puller.pull(new).names) == [new, old]
    until(lambda: puller.leaks() == [])


def test_the_image_of_a_list_is_pulled_by_the_tag_that_it_was_signed_for(
    gpg: Gpg, start_pulling: StartPulling, place: Place, made: Image, tmp_path: Path
) -> None:
    puller = start_pulling(**write_trust(tmp_path, place, gpg, identity="matchExact"))
    gpg.push(made, place, "signed")
    # Another image for the same platform, which skopeo does not choose.
    other = image([file("signed", b"other text")])
    listed = image_list(made, other)
    for tag in ("signed", "other"):
        place.registry.push(listed, place.name, tag)
    denied(puller, f"{place.repository}:other")
    assert puller.pull(f"{place.repository}:signed").image_id == made.image_id


def test_by_its_digest_an_image_needs_any_signature_of_the_repository(
    gpg: Gpg, start_pulling: StartPulling, place: Place, made: Image, tmp_path: Path
) -> None:
    puller = start_pulling(**write_trust(tmp_path, place, gpg, identity="matchExact"))
    gpg.push(made, place)
    name = f"{place.repository}@{made.digest}"
    denied(puller, name)
    write_trust(tmp_path, place, gpg)
    assert puller.pull(name).image_id == made.image_id


@pytest.mark.parametrize("times", [1, 3])
def test_a_tag_that_moves_is_resolved_again_but_not_for_ever(
    gpg: Gpg, start_pulling: StartPulling, place: Place, made: Image, tmp_path: Path, times: int
) -> None:
    # Two images in turn, so that each copy is of another one than was resolved.
    other = image([file("signed", b"other text")])
    for each in (other, made):
        gpg.push(each, place)
    manifests, count = tmp_path / "manifests", tmp_path / "count"
    manifests.mkdir()
    for number in range(1, times + 1):
        (manifests / str(number)).write_bytes((other if number % 2 else made).manifest.data)
    program = tmp_path / "skopeo"
    program.write_text(
        _MOVING.format(
            manifests=manifests,
            count=count,
            python=sys.executable,
            host=place.registry.host,
            name=place.name,
            kind=made.manifest.media_type,
        )
    )
    program.chmod(0o755)
    settings = write_trust(tmp_path, place, gpg)
    puller = start_pulling(**settings, images_skopeo=program)
    if times == 1:
        assert puller.pull(place.repository).image_id == other.image_id
        assert [each.image_id for each in puller.client.list_images()] == [other.image_id]
    else:
        with pytest.raises(RegistryUnreachable) as caught:
            puller.pull(place.repository)
        assert caught.value.metadata["cause"] == "moved"
        assert (puller.storage.images(), puller.storage.layers()) == ([], [])
    until(lambda: puller.leaks() == [])
