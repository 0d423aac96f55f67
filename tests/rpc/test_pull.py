"""PullImage, between a real client and a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.engine.model.pulls import PullProgress, PullRequest
from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.progress import LayerProgress, LayerState
from ocigrpc.oci.images.skopeo import Credentials
from ocigrpc.v1 import image_pb2 as v1
from ocigrpc.v1.image_pb2_grpc import ImageServiceStub
from tests.bed.clients.refusal import refused
from tests.rpc.running import Running, running
from tests.rpc.test_image_service import ID, detail


@pytest.fixture
def served(socket_path: Path) -> Iterator[Running]:
    with running(socket_path) as it:
        yield it


@pytest.fixture
def images(served: Running) -> ImageServiceStub:
    return ImageServiceStub(served.channel)


def test_progress_comes_before_the_image(served: Running, images: ImageServiceStub) -> None:
    layers = tuple(LayerProgress("sha256:l", 7, 3, state) for state in LayerState)
    served.engine.images.progress = [PullProgress("sha256:d", 7, 3, layers)]
    served.engine.images.details = [detail()]
    first, last = images.PullImage(v1.PullImageRequest(image="a"))
    progress = first.progress
    assert (progress.digest, progress.total_bytes, progress.received_bytes) == ("sha256:d", 7, 3)
    states = [v1.LayerState.Name(each.state) for each in progress.layers]
    assert states == [f"LAYER_STATE_{each.name}" for each in LayerState]
    assert last.image.image_id == ID


def test_what_is_asked_for_arrives(served: Running, images: ImageServiceStub) -> None:
    served.engine.images.details = [detail()]
    auth = v1.RegistryAuth(username="me", password="p:w")
    platform = v1.Platform(architecture="arm", variant="v7")
    request = v1.PullImageRequest(
        image="a", platform=platform, auth=auth, name="n", only_if_missing=True
    )
    list(images.PullImage(request))
    wanted = PullRequest("a", Platform("", "arm", "v7"), Credentials("me", "p:w"), "n", True)
    assert served.engine.images.calls == [("pull", wanted)]


@pytest.mark.parametrize(
    ("request_", "field", "reason"),
    [
        (v1.PullImageRequest(), "image", "REQUIRED"),
        (v1.PullImageRequest(image="a" * 9999), "image", "TOO_LONG"),
        (
            v1.PullImageRequest(image="a", platform=v1.Platform(os="Linux!")),
            "platform",
            "INVALID_PLATFORM",
        ),
        (
            v1.PullImageRequest(image="a", auth=v1.RegistryAuth(username="a", identity_token="b")),
            "auth",
            "CONFLICT",
        ),
        (
            v1.PullImageRequest(image="a", auth=v1.RegistryAuth(password="b")),
            "auth.username",
            "REQUIRED",
        ),
        (
            v1.PullImageRequest(image="a", auth=v1.RegistryAuth(username="a:b")),
            "auth.username",
            "MALFORMED",
        ),
        (
            v1.PullImageRequest(image="a", auth=v1.RegistryAuth(auth_json="[]")),
            "auth.auth_json",
            "MALFORMED",
        ),
    ],
)
def test_what_is_malformed_is_refused(
    images: ImageServiceStub, request_: v1.PullImageRequest, field: str, reason: str
) -> None:
    with refused("INVALID_ARGUMENT", reason) as refusal:
        list(images.PullImage(request_))
    assert refusal.fields == [field]
