"""The calls about images, between a real client and a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import msgspec
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from ocigrpc.engine.model.images import (
    FsUsage,
    ImageDetail,
    ImageFilter,
    ImageView,
    LayerView,
    PruneRequest,
    WritableLayer,
)
from ocigrpc.oci.images.config import ImageConfig, Step
from ocigrpc.oci.images.platform import Platform
from ocigrpc.service.images.to_proto import HISTORY_TEXT_BYTES, NAMES_LIMIT
from ocigrpc.service.pages import ANSWER_LIMIT_BYTES
from ocigrpc.v1 import image_pb2 as v1
from ocigrpc.v1.image_pb2_grpc import ImageServiceStub
from tests.bed.clients.refusal import refused
from tests.rpc.running import Running, running

ID = "a" * 64
CONFIG = ImageConfig(
    entrypoint=("/e",),
    cmd=("c", "d"),
    env=("A=b",),
    working_dir="/w",
    user="1:2",
    stop_signal="SIGQUIT",
    volumes=("/v",),
    exposed_ports=("80/tcp",),
    labels={"l": "m"},
)


def detail(image_id: str = ID, pulled_ns: int = 2_000_000_000) -> ImageDetail:
    view = ImageView(
        image_id=image_id,
        names=("r.io/a:1",),
        digests=("r.io/a@sha256:1",),
        created_ns=1_000_000_000,
        pulled_ns=pulled_ns,
        size_bytes=12,
        unique_bytes=7,
        labels={"l": "m"},
        user="1:2",
        platform=Platform("linux", "arm", "v7"),
        pinned=True,
        container_ids=("c1", "c2"),
        is_used=True,
        used_ns=3_000_000_000,
    )
    layers = (LayerView("sha256:d", "sha256:p", 7, 1, "/r/overlay/x/diff"),)
    return ImageDetail(view, CONFIG, layers, (Step(3, "RUN " + "x" * 9999, "why", True),), "me")


@pytest.fixture
def served(socket_path: Path) -> Iterator[Running]:
    with running(socket_path) as it:
        yield it


@pytest.fixture
def images(served: Running) -> ImageServiceStub:
    return ImageServiceStub(served.channel)


def test_an_image_is_shown_whole(served: Running, images: ImageServiceStub) -> None:
    served.engine.images.details = [detail()]
    (shown,) = images.ListImages(v1.ListImagesRequest()).images
    assert (shown.image_id, *shown.names, *shown.digests) == (ID, "r.io/a:1", "r.io/a@sha256:1")
    assert (shown.created_at.seconds, shown.pulled_at.seconds) == (1, 2)
    assert (shown.size_bytes, shown.unique_bytes, shown.pinned, shown.user) == (12, 7, True, "1:2")
    assert shown.platform == v1.Platform(os="linux", architecture="arm", variant="v7")
    status = images.ImageStatus(v1.ImageStatusRequest(image=ID))
    assert status.image == shown
    assert {field: getattr(status.config, field) for field in CONFIG.__struct_fields__} == {
        field: list(value) if isinstance(value, tuple) else value
        for field, value in ((each, getattr(CONFIG, each)) for each in CONFIG.__struct_fields__)
    }
    (layer,) = status.layers
    assert (layer.diff_id, layer.digest, layer.size_bytes, layer.images) == (
        *("sha256:d", "sha256:p"),
        *(7, 1),
    )
    assert (shown.containers, *status.container_ids) == (2, "c1", "c2")
    assert not shown.dangling
    assert status.last_used_at.seconds == 3
    assert (layer.path, status.author) == ("/r/overlay/x/diff", "me")
    (step,) = status.history
    assert (step.comment, step.empty_layer) == ("why", True)
    assert HISTORY_TEXT_BYTES <= len(step.created_by) < HISTORY_TEXT_BYTES + 10


def test_an_image_with_the_largest_names_and_config_fits_an_answer(
    served: Running, images: ImageServiceStub
) -> None:
    found = detail()
    names = tuple(f"{'r' * 255}:{number:0128}" for number in range(2000))
    digests = tuple(f"{'r' * 255}@sha256:{number:064}" for number in range(2000))
    view = msgspec.structs.replace(
        found.view, names=names, digests=digests, labels={"l": "m" * (1 << 20)}
    )
    served.engine.images.details = [msgspec.structs.replace(found, view=view)]
    (shown,) = images.ListImages(v1.ListImagesRequest()).images
    assert (len(shown.names), len(shown.digests)) == (NAMES_LIMIT, NAMES_LIMIT)
    assert shown.ByteSize() < ANSWER_LIMIT_BYTES


def test_lists_come_in_pages(served: Running, images: ImageServiceStub) -> None:
    details = [detail(f"{number:064}", 10 - number) for number in range(5)]
    served.engine.images.details = details
    request, seen = v1.ListImagesRequest(page_size=2), list[str]()
    while True:
        page = images.ListImages(request)
        seen += [each.image_id for each in page.images]
        if not page.next_page_token:
            break
        assert len(page.images) == 2
        request.page_token = page.next_page_token
    assert seen == [each.view.image_id for each in details]


def test_the_filter_arrives(served: Running, images: ImageServiceStub) -> None:
    wanted = v1.ImageFilter(
        reference="r.io/*", label_selector={"l": "m"}, dangling=True, unused=True
    )
    images.ListImages(v1.ListImagesRequest(filter=wanted))
    assert served.engine.images.calls == [("list", ImageFilter("r.io/*", {"l": "m"}, True, True))]


def test_names_are_given_and_taken(served: Running, images: ImageServiceStub) -> None:
    tagged = images.TagImage(v1.TagImageRequest(image="a", name="b"))
    assert (tagged.name, tagged.from_image_id) == ("localhost/b:latest", "2" * 64)
    removed = images.RemoveImage(v1.RemoveImageRequest(image="a", all_names=True))
    assert (*removed.untagged, removed.image_id) == ("r.io/a:1", "1" * 64)
    assert served.engine.images.calls == [("tag", "a", "b"), ("remove", "a", True)]


def test_a_prune_says_what_is_gone(served: Running, images: ImageServiceStub) -> None:
    served.engine.images.details = [detail()]
    request = v1.PruneImagesRequest(
        all=True, until_free_bytes=5, label_selector={"l": "m"}, dry_run=True
    )
    request.older_than.FromMilliseconds(90_000_500)
    pruned = images.PruneImages(request)
    assert ([each.image_id for each in pruned.images], pruned.reclaimed_bytes) == ([ID], 7)
    wanted = PruneRequest(True, 90_000.5, 5, {"l": "m"}, True)
    assert served.engine.images.calls == [("prune", wanted)]


def test_an_answer_has_as_many_pruned_images_as_fit(
    served: Running, images: ImageServiceStub
) -> None:
    large = detail()
    view = msgspec.structs.replace(large.view, labels={"l": "x" * (1 << 20)})
    served.engine.images.details = [msgspec.structs.replace(large, view=view)] * 5
    pruned = images.PruneImages(v1.PruneImagesRequest())
    assert (len(pruned.images), pruned.reclaimed_bytes) == (2, 7)


def test_what_images_take_is_answered(served: Running, images: ImageServiceStub) -> None:
    layers = WritableLayer("a", FsUsage(8, 9), 1_000_000_000, 10), WritableLayer("b")
    served.engine.images.layers = layers
    info = images.ImageFsInfo(v1.ImageFsInfoRequest())
    assert info == v1.ImageFsInfoResponse(
        path="/store",
        total=v1.FsUsage(bytes=1, inodes=2),
        available=v1.FsUsage(bytes=3, inodes=4),
        image_bytes=5,
        reclaimable_bytes=6,
        image_count=7,
        writable_layers=[
            v1.WritableLayer(
                container_id="a",
                used=v1.FsUsage(bytes=8, inodes=9),
                measured_at=Timestamp(seconds=1),
                limit_bytes=10,
            ),
            v1.WritableLayer(container_id="b"),
        ],
    )


@pytest.mark.parametrize(
    ("form", "word"),
    [
        (v1.ARCHIVE_FORMAT_UNSPECIFIED, "docker-archive"),
        (v1.ARCHIVE_FORMAT_DOCKER, "docker-archive"),
        (v1.ARCHIVE_FORMAT_OCI, "oci-archive"),
    ],
)
def test_an_image_is_saved_in_pieces(
    images: ImageServiceStub, form: v1.ArchiveFormat, word: str
) -> None:
    pieces = images.SaveImage(v1.SaveImageRequest(image="a", format=form))
    assert [each.chunk for each in pieces] == [f"{word} of a".encode(), b"end"]


def test_an_archive_of_an_unknown_form_is_refused(images: ImageServiceStub) -> None:
    unknown = v1.SaveImageRequest.FromString(b"\x0a\x01a\x10\x09")
    with refused("INVALID_ARGUMENT", "UNKNOWN_ENUM") as refusal:
        list(images.SaveImage(unknown))
    assert refusal.fields == ["format"]
    with refused("INVALID_ARGUMENT", "REQUIRED") as refusal:
        list(images.SaveImage(v1.SaveImageRequest()))
    assert refusal.fields == ["image"]


def test_an_archive_arrives_in_pieces(served: Running, images: ImageServiceStub) -> None:
    served.engine.images.details = [detail()]
    pieces = [
        v1.LoadImageRequest(name="n"),
        *(v1.LoadImageRequest(chunk=each) for each in (b"a", b"b")),
    ]
    loaded = images.LoadImage(iter(pieces))
    assert [each.image_id for each in loaded.images] == [ID]
    images.LoadImage(iter([]))
    assert served.engine.images.calls == [("load", "n", b"ab"), ("load", "", b"")]


def test_an_archive_whose_pieces_do_not_come_ends_at_the_deadline(images: ImageServiceStub) -> None:
    silence = threading.Event()

    def messages() -> Iterator[v1.LoadImageRequest]:
        yield v1.LoadImageRequest(chunk=b"a")
        silence.wait()

    try:
        with refused("DEADLINE_EXCEEDED", "TIMEOUT"):
            images.LoadImage(messages(), timeout=3)
    finally:
        silence.set()


def test_the_name_of_an_archive_comes_first(images: ImageServiceStub) -> None:
    with refused("INVALID_ARGUMENT", "START_AGAIN") as refusal:
        images.LoadImage(iter([v1.LoadImageRequest(), v1.LoadImageRequest(name="n")]))
    assert refusal.fields == ["name"]


def test_a_prune_of_no_sense_names_what_is_wrong(images: ImageServiceStub) -> None:
    request = v1.PruneImagesRequest(until_free_bytes=-1, label_selector={"": "x"})
    request.older_than.FromSeconds(-1)
    with refused("INVALID_ARGUMENT") as refusal:
        images.PruneImages(request)
    assert refusal.fields[:2] == ["older_than", "until_free_bytes"]
    assert refusal.fields[2].startswith("label_selector")


@pytest.mark.parametrize(
    ("call", "request_", "fields"),
    [
        ("ImageStatus", v1.ImageStatusRequest(), ["image"]),
        ("RemoveImage", v1.RemoveImageRequest(), ["image"]),
        ("TagImage", v1.TagImageRequest(), ["image", "name"]),
    ],
)
def test_what_is_required_is_named(
    images: ImageServiceStub,
    call: str,
    request_: v1.ImageStatusRequest | v1.RemoveImageRequest | v1.TagImageRequest,
    fields: list[str],
) -> None:
    method: grpc.UnaryUnaryMultiCallable[object, object] = getattr(images, call)
    with refused("INVALID_ARGUMENT", "REQUIRED") as refusal:
        method(request_)
    assert refusal.fields == fields
