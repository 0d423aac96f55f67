"""Where an image comes from, and what its short names mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocigrpc.engine.images.pulling.sources import source_of
from ocigrpc.engine.model.pulls import PullRequest
from ocigrpc.errors import InvalidArgument
from ocigrpc.oci.images.reference import Reference
from ocigrpc.oci.images.short_names import ShortNames
from ocigrpc.oci.images.skopeo import Credentials
from ocigrpc.oci.images.source import Archive, parse_source
from ocigrpc.settings.images import ImagesSettings

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("docker-archive:/a.tar", ("docker-archive", "/a.tar", "")),
        ("docker-archive:/a.tar:r.io/a:1", ("docker-archive", "/a.tar", "r.io/a:1")),
        ("oci-archive:/a.tar:1.2", ("oci-archive", "/a.tar", "1.2")),
        ("oci:/a b:é", ("oci", "/a b", "é")),
        ("dir:/a", ("dir", "/a", "")),
    ],
)
def test_an_archive_has_a_transport_and_an_absolute_path(
    text: str, parts: tuple[str, str, str]
) -> None:
    assert parse_source(text) == Archive(*parts)
    assert str(parse_source(text)) == text


@pytest.mark.parametrize("text", ["alpine", "oci", "oci:1", "dir:latest", "r.io:5000/a:1"])
def test_anything_else_is_a_name(text: str) -> None:
    assert parse_source(text) == parse_source(f"docker://{text}") == Reference.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("oci:./a", "dir:../a", "dir:/a:1", "oci:/a:", "oci:/a\n", "oci:/a:\0"),
        *("oci:/" + "a" * 4096, "oci:/a:" + "t" * 513, "containers-storage:/a", "tarball:/a"),
    ],
)
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_source(text)


def test_a_reference_that_is_a_whole_name_is_the_images_own() -> None:
    assert str(Archive("docker-archive", "/a", "r.io/a").own_name) == "r.io/a:latest"
    assert str(Archive("oci", "/a", "docker.io/a").own_name) == "docker.io/library/a:latest"
    for reference in ("", "1.2", "a:1", "@0", f"r.io/a@{DIGEST}", "ocigrpc.invalid/a:1"):
        assert Archive("oci", "/a", reference).own_name is None


def names(short: ShortNames, text: str) -> list[str]:
    return [str(each) for each in short.candidates(Reference.parse(text))]


def test_a_short_name_is_its_alias_else_searched_for_else_of_docker_hub() -> None:
    short = ShortNames()
    assert names(short, "alpine:3") == ["docker.io/library/alpine:3"]
    short = short.with_file(
        """
        unqualified-search-registries = ["a.io", "docker.io"]
        [[registry]]
        prefix = "b.io"
        insecure = true
        [aliases]
        alpine = "quay.io/team/alpine"
        gone = "quay.io/gone"
        """
    )
    assert names(short, "alpine:3") == ["quay.io/team/alpine:3"]
    assert names(short, f"alpine@{DIGEST}") == [f"quay.io/team/alpine@{DIGEST}"]
    assert names(short, "busybox") == ["a.io/busybox", "docker.io/library/busybox"]
    short = short.with_file('unqualified-search-registries = ["c.io"]\n[aliases]\ngone = ""')
    assert names(short, "gone") == ["c.io/gone"]
    assert names(short, "alpine") == ["quay.io/team/alpine"]


def test_what_is_there_is_found_by_its_alias_else_built_here_else_where_it_may_come_from() -> None:
    short = ShortNames(aliases={"tiny": "quay.io/team/tiny"}, registries=("a.io",))
    assert [str(each) for each in short.known(Reference.parse("tiny:1"))] == [
        "quay.io/team/tiny:1",
        "localhost/tiny:1",
        "a.io/tiny:1",
        "docker.io/library/tiny:1",
    ]
    assert [str(each) for each in short.known(Reference.parse("r.io/tiny"))] == ["r.io/tiny"]


def test_a_whole_name_is_what_it_is() -> None:
    short = ShortNames(registries=("a.io",))
    assert names(short, "r.io/a") == ["r.io/a"]
    assert names(short, "docker.io/alpine:1") == ["docker.io/library/alpine:1"]


@pytest.mark.parametrize(
    "text",
    [
        *("[aliases", 'unqualified-search-registries = "a"', "[aliases]\na = 1"),
        *('[aliases]\na = "A B"', 'unqualified-search-registries = ["a/b"]'),
    ],
)
def test_a_malformed_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ShortNames().with_file(text)


def test_credentials_go_to_no_registry_that_the_client_has_not_named(tmp_path: Path) -> None:
    conf = tmp_path / "registries.conf"
    settings = ImagesSettings(registries_conf=str(conf))
    user = Credentials(username="bob", password="secret")
    token = Credentials(identity_token="secret")
    each_its_own = Credentials(auth_json="{}")
    conf.write_text('unqualified-search-registries = ["a.io", "b.io"]')
    for credentials in (user, token):
        with pytest.raises(InvalidArgument) as refused:
            source_of(PullRequest("no-alias", credentials=credentials), settings)
        assert (refused.value.metadata["field"], refused.value.reason) == ("auth", "CONFLICT")
    for request in (
        PullRequest("no-alias", credentials=each_its_own),
        PullRequest("no-alias"),
        PullRequest("c.io/no-alias", credentials=user),
    ):
        assert source_of(request, settings).names
    conf.write_text('unqualified-search-registries = ["a.io"]')
    (only,) = source_of(PullRequest("no-alias", credentials=user), settings).names
    assert only.registry == "a.io"
