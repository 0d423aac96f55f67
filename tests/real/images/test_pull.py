"""Pulls of images from registries, archives and directories."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ocigrpc.v1.event_pb2 import OBJECT_KIND_IMAGE, EventFilter, EventKind
from ocigrpc.v1.image_pb2 import Platform, RegistryAuth
from tests.bed.images.faulty_registry import IDENTITY_TOKEN, FaultyRegistry
from tests.bed.images.layers import file
from tests.bed.images.layout import Form, Image, image, image_list, layer, write_layout
from tests.bed.images.pulling import Puller
from tests.bed.images.registry import PASSWORD, USER, Registry

StartPulling = Callable[..., Puller]


def repository(reference: str) -> str:
    return reference.rpartition(":")[0]


def test_an_image_is_pulled_by_its_tag(puller: Puller, small: str, small_image: Image) -> None:
    pulled = puller.pull(small)
    assert pulled.image_id == small_image.image_id
    assert list(pulled.names) == [small]
    assert list(pulled.digests) == [f"{repository(small)}@{small_image.digest}"]
    assert [each.image_id for each in puller.client.list_images()] == [pulled.image_id]
    assert puller.storage.names() == {small: pulled.image_id}
    assert list(puller.client.image_status(small).config.cmd) == ["/bin/sh"]


def test_a_layer_that_is_there_above_another_one_is_not_sent_again(
    puller: Puller, registry: Registry
) -> None:
    # skopeo packs it once more, which takes more bytes than the registry has of it.
    shared = layer([file("shared", bytes(128 << 20))])
    for number in range(2):
        made = image(layer([file(f"below-{number}")]), shared)
        pulled = puller.pull(registry.push(made, f"above-{number}"))
        assert pulled.image_id == made.image_id


def test_an_image_that_is_there_gets_the_name(
    puller: Puller, registry: Registry, small: str, small_image: Image
) -> None:
    puller.pull(small)
    further = registry.push(small_image, "small", "further")
    (answer,) = puller.responses(further)
    assert sorted(answer.image.names) == sorted([small, further])
    (answer,) = puller.responses(small)
    assert answer.image.image_id == small_image.image_id


def test_by_its_digest_an_image_is_found_without_its_registry(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    made = image([file("a")])
    at = repository(faulty_registry.push(made, "a"))
    name = f"{at}@{made.digest}"
    pulled = puller.pull(name)
    assert (list(pulled.names), list(pulled.digests)) == ([], [name])
    asked = len(faulty_registry.asked)
    for same in (name, f"{at}:any@{made.digest}"):
        assert puller.pull(same).image_id == made.image_id
    assert len(faulty_registry.asked) == asked
    assert puller.client.image_status(name).image.image_id == made.image_id


def test_what_is_there_is_not_asked_for_if_only_what_is_missing_is(
    puller: Puller, faulty_registry: FaultyRegistry
) -> None:
    made = image([file("a")])
    name = faulty_registry.push(made, "a")
    assert puller.pull(name, only_if_missing=True).image_id == made.image_id
    asked = len(faulty_registry.asked)
    faulty_registry.push(image([file("b")]), "a")
    assert puller.pull(name, only_if_missing=True).image_id == made.image_id
    assert len(faulty_registry.asked) == asked


def test_a_name_goes_over_to_the_image_that_has_it_now(puller: Puller, registry: Registry) -> None:
    old, new = (image([file("moved", text)]) for text in (b"old", b"new"))
    events = puller.client.watch_events(None, EventFilter(objects=[OBJECT_KIND_IMAGE]))
    next(events)
    name = registry.push(old, "moved")
    puller.pull(name)
    registry.push(new, "moved")
    assert puller.pull(name).image_id == new.image_id
    names = {each.image_id: list(each.names) for each in puller.client.list_images()}
    assert names == {old.image_id: [], new.image_id: [name]}
    seen: list[tuple[str, str, str]] = []
    while len(seen) < 3:
        seen += [
            (EventKind.Name(each.kind), each.image_id, each.name) for each in next(events).events
        ]
    assert seen == [
        ("EVENT_KIND_PULLED", old.image_id, name),
        ("EVENT_KIND_UNTAGGED", old.image_id, name),
        ("EVENT_KIND_PULLED", new.image_id, name),
    ]
    events.close()


def test_names_that_are_given_and_taken_are_events(puller: Puller, small: str) -> None:
    image_id = puller.pull(small).image_id
    wanted = EventFilter(image_id=image_id)
    with puller.client.watch_events(None, wanted) as events:
        next(events)
        puller.client.tag_image(small, "localhost/mine")
        puller.client.remove_image(small)
        puller.client.remove_image("mine")
        seen: list[tuple[EventKind, str]] = []
        while len(seen) < 4:
            seen += [(each.kind, each.name) for each in next(events).events]
    assert seen == [
        (EventKind.EVENT_KIND_TAGGED, "localhost/mine:latest"),
        (EventKind.EVENT_KIND_UNTAGGED, small),
        (EventKind.EVENT_KIND_UNTAGGED, "localhost/mine:latest"),
        (EventKind.EVENT_KIND_REMOVED, ""),
    ]


def test_a_mirror_gets_no_credentials(
    start_pulling: StartPulling, faulty_registry: FaultyRegistry
) -> None:
    made = image([file("a")])
    faulty_registry.push(made, "a")
    puller = start_pulling(
        f'[[registry]]\nlocation = "r.example"\n[[registry.mirror]]\n'
        f'location = "{faulty_registry.host}"\ninsecure = true\n'
    )
    auth = RegistryAuth(username=USER, password=PASSWORD)
    pulled = puller.pull("r.example/a", auth=auth)
    assert (pulled.image_id, list(pulled.names)) == (made.image_id, ["r.example/a:latest"])
    assert not any("Authorization" in each.headers for each in faulty_registry.asked)


@pytest.mark.parametrize("form", Form)
def test_of_a_list_the_image_for_the_platform_is_pulled(
    puller: Puller, registry: Registry, form: Form
) -> None:
    images = {
        architecture: image(
            [file(architecture)], platform={"architecture": architecture, "os": "linux"}, form=form
        )
        for architecture in ("amd64", "arm64")
    }
    made = image_list(*images.values(), form=form)
    name = registry.push(made, f"list-{form.name.lower()}")
    for architecture, wanted in images.items():
        pulled = puller.pull(name, platform=Platform(architecture=architecture))
        assert (pulled.image_id, list(pulled.names)) == (wanted.image_id, [name])
        assert pulled.platform == Platform(os="linux", architecture=architecture)
        assert list(pulled.digests) == [f"{repository(name)}@{made.digest}"]


def test_credentials_are_for_their_registry_and_leave_no_file(
    start_pulling: StartPulling,
    guarded_registry: Registry,
    small_image: Image,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(guarded_registry.authority))
    puller = start_pulling()
    name = guarded_registry.push(small_image, "small")
    auth = RegistryAuth(username=USER, password=PASSWORD)
    assert puller.pull(name, auth=auth).image_id == small_image.image_id
    secret = base64.b64encode(f"{USER}:{PASSWORD}".encode())
    files = (each for each in puller.service.directory.rglob("*") if each.is_file())
    assert [each for each in files if secret in each.read_bytes()] == []


def test_an_identity_token_is_exchanged(puller: Puller, faulty_registry: FaultyRegistry) -> None:
    made = image([file("a")])
    faulty_registry.wants_token = True
    name = faulty_registry.push(made, "a")
    auth = RegistryAuth(identity_token=IDENTITY_TOKEN)
    assert puller.pull(name, auth=auth).image_id == made.image_id


def test_the_settings_may_have_credentials(
    start_pulling: StartPulling, faulty_registry: FaultyRegistry, tmp_path: Path
) -> None:
    auths = f'{{"auths": {{"{faulty_registry.host}": {{"auth": "YWxpY2U6c2VjcmV0"}}}}}}'
    (tmp_path / "auth.json").write_text(auths)
    puller = start_pulling(images_auth_file=tmp_path / "auth.json")
    made = image([file("a")])
    faulty_registry.wants_token = True
    assert puller.pull(faulty_registry.push(made, "a")).image_id == made.image_id
    other = image([file("b")])
    name = faulty_registry.push(other, "b")
    assert puller.pull(name, auth=RegistryAuth(auth_json=auths)).image_id == other.image_id


def test_a_short_name_is_what_registries_conf_makes_of_it(
    start_pulling: StartPulling, registry: Registry, faulty_registry: FaultyRegistry, small: str
) -> None:
    searched = f'unqualified-search-registries = ["{faulty_registry.host}", "{registry.host}"]'
    aliases = f'[aliases]\n"tiny" = "{repository(small)}"'
    puller = start_pulling(f"{searched}\n{aliases}")
    for short in ("small", "tiny"):
        assert list(puller.pull(short).names) == [small]
        assert list(puller.client.image_status(short).image.names) == [small]
    assert faulty_registry.count("/small/") > 0


@pytest.mark.parametrize("transport", ["oci", "oci-archive", "docker-archive", "dir"])
def test_an_image_is_pulled_from_the_node(
    puller: Puller, tmp_path: Path, small_image: Image, transport: str
) -> None:
    layout = write_layout(tmp_path / "layout", {"a": small_image})
    path, reference = tmp_path / "copy", "r.io/a:1"
    if transport == "oci":
        source = f"oci:{layout}:a"
    else:
        source = f"{transport}:{path}" + ("" if transport == "dir" else f":{reference}")
        subprocess.run(["skopeo", "copy", "-q", f"oci:{layout}:a", source], check=True)
    pulled = puller.pull(source, name="localhost/mine")
    assert pulled.image_id == small_image.image_id
    assert list(pulled.names) == ["localhost/mine:latest"]
    own = puller.pull(source)
    named = transport in ("oci-archive", "docker-archive")
    assert set(own.names) == {*pulled.names, *([reference] if named else [])}


def test_an_image_without_a_name_is_there(puller: Puller, tmp_path: Path) -> None:
    made = image([file("a")])
    layout = write_layout(tmp_path / "layout", {"a": made})
    assert (puller.pull(f"oci:{layout}:a").image_id, puller.storage.names()) == (made.image_id, {})
    (listed,) = puller.client.list_images()
    assert (listed.image_id, list(listed.names)) == (made.image_id, [])


def test_a_list_in_a_layout_has_the_image_for_the_platform(puller: Puller, tmp_path: Path) -> None:
    images = [
        image([file(each)], platform={"architecture": each, "os": "linux"})
        for each in ("amd64", "arm64")
    ]
    layout = write_layout(tmp_path / "layout", {"all": image_list(*images)})
    pulled = puller.pull(f"oci:{layout}:all", platform=Platform(architecture="arm64"))
    assert pulled.image_id == images[1].image_id


def test_a_pulled_image_is_known_by_what_it_was_pulled_by_after_a_restart(
    puller: Puller, small: str
) -> None:
    pulled = puller.pull(small)
    puller.service.end()
    puller.service.start()
    (listed,) = puller.service.client.list_images()
    assert listed == pulled
