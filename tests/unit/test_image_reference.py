"""Names of images."""

from __future__ import annotations

import pytest

from ocigrpc.oci.images.reference import Reference, image_id_of

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("alpine", ("", "alpine", "", "")),
        ("alpine:3.20", ("", "alpine", "3.20", "")),
        ("library/alpine", ("", "library/alpine", "", "")),
        ("docker.io/library/alpine", ("docker.io", "library/alpine", "", "")),
        ("localhost/app", ("localhost", "app", "", "")),
        ("node:5000/team/app:V1", ("node:5000", "team/app", "V1", "")),
        ("[::1]:5000/app", ("[::1]:5000", "app", "", "")),
        (f"quay.io/a/b@{DIGEST}", ("quay.io", "a/b", "", DIGEST)),
        (f"quay.io/a/b:1@{DIGEST}", ("quay.io", "a/b", "1", DIGEST)),
    ],
)
def test_a_name_is_taken_apart_and_written_as_it_was(
    text: str, parts: tuple[str, str, str, str]
) -> None:
    assert Reference.parse(text) == parts
    assert str(Reference.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("docker.io/alpine", "docker.io/library/alpine"),
        (f"docker.io/alpine:3@{DIGEST}", f"docker.io/library/alpine:3@{DIGEST}"),
        ("index.docker.io/alpine", "docker.io/library/alpine"),
        ("index.docker.io/team/app:1", "docker.io/team/app:1"),
        ("docker.io:443/alpine", "docker.io:443/alpine"),
    ],
)
def test_a_name_at_docker_hub_is_written_as_it_is_there(text: str, written: str) -> None:
    assert str(Reference.parse(text)) == written


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "app:", "app@", "Team/app", "a//b", "a/../b", "-a", "a b", "app\n", "é"),
        *("docker://alpine", "app@sha256:12", "app:" + "t" * 129, "r.io/" + "a" * 256),
        *("0a" * 32, DIGEST),
        *("ocigrpc.invalid/pull:1", f"ocigrpc.invalid/a/b@{DIGEST}", "docker.io/" + "a" * 245),
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        Reference.parse(text)


def test_a_short_name_of_docker_hub_is_below_library() -> None:
    assert str(Reference.parse("alpine").at("docker.io").tagged()) == (
        "docker.io/library/alpine:latest"
    )
    assert str(Reference.parse("team/app").at("docker.io")) == "docker.io/team/app"
    assert str(Reference.parse("alpine:3").at("quay.io").digested(DIGEST)) == (
        f"quay.io/alpine@{DIGEST}"
    )


def test_an_id_may_have_its_algorithm() -> None:
    assert image_id_of("0a" * 32) == image_id_of(DIGEST) == "0a" * 32
    assert image_id_of("0a") == image_id_of("sha256:0A" + "0a" * 31) == ""
