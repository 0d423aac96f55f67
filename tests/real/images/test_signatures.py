"""Signed images: who has signed them is what the policy wants, or nothing of them is there."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from ocigrpc.image_errors import ImageUnusable
from tests.bed.hosts.leaks import until
from tests.bed.images.layers import file
from tests.bed.images.layout import Image, image
from tests.bed.images.pulling import Puller
from tests.bed.images.registry import Registry
from tests.bed.images.signing import (
    Cosign,
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


def test_a_signature_is_for_a_repository_whatever_the_tag_as_images_are_pulled_by_digest(
    make_signer: Callable[[], Signer],
    start_pulling: StartPulling,
    place: Place,
    made: Image,
    tmp_path: Path,
) -> None:
    signer = make_signer()
    settings = write_trust(tmp_path, place, signer, identity="matchExact")
    puller = start_pulling(**settings)
    signer.push(made, place)
    place.registry.push(made, place.name, "other")
    denied(puller, place.repository)
    write_trust(tmp_path, place, signer)
    assert puller.pull(f"{place.repository}:other").image_id == made.image_id
