"""skopeo takes the images that tests make, and meets the faults that they want."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bed.images.faulty_registry import (
    IDENTITY_TOKEN,
    FaultyRegistry,
    Slow,
    Stall,
    cut,
    damaged,
    redirect,
    status,
)
from tests.bed.images.layers import (
    Entry,
    archive,
    character_device,
    directory,
    fifo,
    file,
    file_capabilities,
    hard_link,
    opaque,
    sparse,
    symlink,
    whiteout,
)
from tests.bed.images.layout import Form, Image, Packing, image, image_list, write_layout
from tests.bed.images.registry import PASSWORD, USER, Registry
from tests.bed.images.storages import Skopeo, Storage, StoredImage

_CAP_NET_RAW = 13
_MIB = 1 << 20

Lie = Callable[[Image], Image]

_LOWER = [
    directory("gone"),
    file("gone/file"),
    directory("full"),
    file("full/old"),
    file("removed"),
    file("set-user-ID", b"program", 0o4755, owner=(0, 1002)),
    file("able", b"program", 0o755, xattrs=file_capabilities(_CAP_NET_RAW)),
    file("named", xattrs={"user.bytes": b"\x00\xff"}),
    hard_link("also-named", "named"),
    symlink("link", "named"),
    character_device("null", 1, 3),
    fifo("fifo"),
    sparse("holes", 16 * _MIB, (8 * _MIB, b"x" * 512)),
]
_UPPER = [whiteout("removed"), whiteout("gone"), *opaque("full"), file("full/new")]


def test_layers_are_the_same_bytes_each_time() -> None:
    assert archive(_LOWER) == archive(_LOWER)
    assert image(_LOWER, _UPPER) == image(_LOWER, _UPPER)


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("packing", [Packing.NONE, Packing.GZIP])
def test_an_image_is_unpacked_as_its_entries_say(
    registry: Registry, skopeo: Skopeo, storage: Storage, form: Form, packing: Packing
) -> None:
    made = image(_LOWER, _UPPER, form=form, packing=packing)
    skopeo.copy(f"docker://{registry.push(made, 'entries')}", storage, "entries")
    lower, upper = storage.diffs(made.image_id)
    _expect_lower(lower)
    for name in ("removed", "gone"):
        hidden = (upper / name).lstat()
        assert stat.S_ISCHR(hidden.st_mode)
        assert hidden.st_rdev == 0
    assert os.getxattr(upper / "full", "trusted.overlay.opaque") == b"y"
    assert [each.name for each in (upper / "full").iterdir()] == ["new"]


def _expect_lower(lower: Path) -> None:
    program = (lower / "set-user-ID").stat()
    assert (program.st_mode & 0o7777, program.st_uid, program.st_gid) == (0o4755, 0, 1002)
    capabilities = file_capabilities(_CAP_NET_RAW)["security.capability"]
    assert os.getxattr(lower / "able", "security.capability") == capabilities
    assert os.getxattr(lower / "named", "user.bytes") == b"\x00\xff"
    assert (lower / "also-named").samefile(lower / "named")
    assert (lower / "link").readlink() == Path("named")
    assert (lower / "null").stat().st_rdev == os.makedev(1, 3)
    assert (lower / "fifo").is_fifo()
    holes = (lower / "holes").read_bytes()
    assert (len(holes), holes.strip(b"\0")) == (16 * _MIB, b"x" * 512)


def test_layers_may_be_compressed_by_zstd(
    registry: Registry, skopeo: Skopeo, storage: Storage
) -> None:
    made = image([file("a", b"text")], packing=Packing.ZSTD)
    skopeo.copy(f"docker://{registry.push(made, 'zstd')}", storage, "zstd")
    [lower] = storage.diffs(made.image_id)
    assert (lower / "a").read_bytes() == b"text"


@pytest.mark.parametrize("form", Form)
def test_of_a_list_the_image_for_a_platform_is_copied(
    registry: Registry, skopeo: Skopeo, storage: Storage, form: Form
) -> None:
    images = {
        architecture: image(
            [file(architecture)], platform={"architecture": architecture, "os": "linux"}, form=form
        )
        for architecture in ("amd64", "arm64")
    }
    name = registry.push(image_list(*images.values(), form=form), f"list-{form.name.lower()}")
    for architecture in images:
        skopeo.copy(f"docker://{name}", storage, architecture, "--override-arch", architecture)
    assert {each["id"] for each in storage.images()} == {each.image_id for each in images.values()}


def test_a_layout_needs_no_registry(
    tmp_path: Path, skopeo: Skopeo, storage: Storage, small_image: Image
) -> None:
    layout = write_layout(tmp_path / "layout", {"a": small_image, "b": image([file("b")])})
    for tag in ("a", "b"):
        skopeo.copy(f"oci:{layout}:{tag}", storage, tag)
    assert len(storage.images()) == 2


def test_an_image_may_have_127_layers(deep: StoredImage) -> None:
    assert len(deep.storage.diffs(deep.image.image_id)) == 127


@pytest.mark.parametrize("entry", [file("../outside"), file("/absolute"), symlink("d", "/")])
def test_bad_names_are_made_as_they_are(entry: Entry) -> None:
    assert entry.name.encode() in archive([entry])


def test_the_guarded_registry_has_a_certificate_and_a_user(
    guarded_registry: Registry, skopeo: Skopeo, storage: Storage, small_image: Image
) -> None:
    source = f"docker://{guarded_registry.push(small_image, 'small')}"
    trust = {"SSL_CERT_FILE": str(guarded_registry.authority)}
    assert "x509" in skopeo.refused(source, storage)
    assert "auth" in skopeo.refused(source, storage, **trust)
    assert "auth" in skopeo.refused(source, storage, "--src-creds", f"{USER}:wrong", **trust)
    skopeo.copy(source, storage, "small", "--src-creds", f"{USER}:{PASSWORD}", **trust)


def test_a_cut_or_damaged_layer_fails(
    faulty_registry: FaultyRegistry, skopeo: Skopeo, storage: Storage
) -> None:
    made = image([file("a", os.urandom(_MIB))])
    source = f"docker://{faulty_registry.push(made, 'a')}"
    layer = made.layers[0].digest
    faulty_registry.goes_wrong(damaged, layer, times=1)
    assert "Digest did not match, expected" in skopeo.refused(source, storage)
    # A newer skopeo asks for the rest.
    faulty_registry.goes_wrong(cut(_MIB // 2), layer, times=1)
    ended = skopeo.run("copy", "-q", source, storage.reference("a"))
    assert "unexpected EOF" in ended.stderr or faulty_registry.count(layer) > 2
    skopeo.copy(source, storage, "a")


@pytest.mark.parametrize("lie", [Image.lying_config, Image.lying_layer])
def test_a_lie_about_a_digest_is_found(
    faulty_registry: FaultyRegistry, skopeo: Skopeo, storage: Storage, lie: Lie
) -> None:
    source = f"docker://{faulty_registry.push(lie(image([file('a')])), 'a')}"
    assert "match" in skopeo.refused(source, storage)


@pytest.mark.parametrize(
    ("code", "word"), [(403, "403"), (404, "404"), (429, "429|too many requests"), (500, "500")]
)
def test_a_status_is_an_error_of_skopeo(
    faulty_registry: FaultyRegistry, skopeo: Skopeo, storage: Storage, code: int, word: str
) -> None:
    source = f"docker://{faulty_registry.push(image([file('a')]), 'a')}"
    faulty_registry.goes_wrong(status(code, Retry_After="0"), "/blobs/")
    assert re.search(word, skopeo.refused(source, storage).lower())


def test_redirects_are_followed(
    faulty_registry: FaultyRegistry, skopeo: Skopeo, storage: Storage
) -> None:
    made = image([file("a")])
    source = f"docker://{faulty_registry.push(made, 'a')}"
    faulty_registry.push(made, "elsewhere")
    layer = made.layers[0].digest
    faulty_registry.goes_wrong(
        redirect(f"http://{faulty_registry.host}/v2/elsewhere/blobs/{layer}"), f"/a/blobs/{layer}"
    )
    skopeo.copy(source, storage, "a")
    assert faulty_registry.count("/elsewhere/") == 1


def test_a_stalled_layer_goes_on_when_it_may(
    faulty_registry: FaultyRegistry, skopeo: Skopeo, storage: Storage
) -> None:
    made = image([file("a", os.urandom(_MIB))])
    source = f"docker://{faulty_registry.push(made, 'a')}"
    stall = Stall(after_bytes=_MIB // 2)
    faulty_registry.goes_wrong(stall, made.layers[0].digest)
    with skopeo.start("copy", "-q", source, storage.reference("a")) as process:
        stall.wait()
        assert process.poll() is None
        stall.go_on()
        assert process.wait(60) == 0


def test_a_slow_layer_takes_its_time(
    faulty_registry: FaultyRegistry, skopeo: Skopeo, storage: Storage
) -> None:
    made = image([file("a", os.urandom(_MIB))])
    source = f"docker://{faulty_registry.push(made, 'a')}"
    slow = Slow(bytes_per_s=1)
    faulty_registry.goes_wrong(slow, made.layers[0].digest)
    with skopeo.start("copy", "-q", source, storage.reference("a")) as process:
        slow.wait()
        assert process.poll() is None
        slow.go_on()
        assert process.wait(60) == 0


def test_a_token_is_for_who_has_a_password_or_an_identity_token(
    faulty_registry: FaultyRegistry, skopeo: Skopeo, storage: Storage, tmp_path: Path
) -> None:
    source = f"docker://{faulty_registry.push(image([file('a')]), 'a')}"
    faulty_registry.wants_token = True
    assert "auth" in skopeo.refused(source, storage)
    skopeo.copy(source, storage, "a", "--src-creds", f"{USER}:{PASSWORD}")
    auth = tmp_path / "auth.json"
    login = {"auth": base64.b64encode(b"<token>:").decode(), "identitytoken": IDENTITY_TOKEN}
    auth.write_text(json.dumps({"auths": {faulty_registry.host: login}}))
    skopeo.copy(source, storage, "b", "--src-authfile", str(auth))
    assert any(each.method == "POST" for each in faulty_registry.asked)
