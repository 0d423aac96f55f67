"""From the messages of images to the engine's values; malformed messages are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from ocigrpc.engine.model.images import ImageFilter, PruneRequest
from ocigrpc.engine.model.pulls import PullRequest
from ocigrpc.errors import InvalidArgument
from ocigrpc.oci.images.archive import ArchiveForm
from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.reference import REFERENCE_LIMIT_BYTES
from ocigrpc.oci.images.skopeo import Credentials, auth_json_problem
from ocigrpc.service.from_proto import check_labels
from ocigrpc.service.times import seconds_of
from ocigrpc.v1 import image_pb2
from ocigrpc.violations import PATH_LIMIT_BYTES, Violations

# Of a path and a name after it.
_SOURCE_LIMIT_BYTES = PATH_LIMIT_BYTES + 1024
_AUTH_LIMIT_BYTES = 64 << 10

_INT64_MAX = (1 << 63) - 1
_FORMS = {
    image_pb2.ARCHIVE_FORMAT_UNSPECIFIED: ArchiveForm.DOCKER,
    image_pb2.ARCHIVE_FORMAT_DOCKER: ArchiveForm.DOCKER,
    image_pb2.ARCHIVE_FORMAT_OCI: ArchiveForm.OCI,
}


class ArchiveStart(NamedTuple):
    """The name for an image of an archive, and the first piece of that."""

    name: str
    chunk: bytes


class _NamesImage(Protocol):
    @property
    def image(self) -> str: ...


def image(request: _NamesImage) -> str:
    """The id or the name in a request. Raises ``InvalidArgument``."""
    if not request.image:
        raise InvalidArgument.of("image", "is required", reason="REQUIRED")
    return request.image


def pull_request(request: image_pb2.PullImageRequest) -> PullRequest:
    """What to pull, and how. Raises ``InvalidArgument``."""
    violations = Violations()
    violations.allow(bool(request.image), "image", "is required", "REQUIRED")
    violations.text("image", request.image, _SOURCE_LIMIT_BYTES)
    violations.text("name", request.name, REFERENCE_LIMIT_BYTES)
    asked = request.platform
    platform = Platform(asked.os, asked.architecture, asked.variant)
    problem = platform.problem()
    violations.allow(not problem, "platform", problem, "INVALID_PLATFORM")
    credentials = None
    if request.HasField("auth"):
        credentials = _credentials(violations, request.auth)
    violations.raise_any()
    return PullRequest(request.image, platform, credentials, request.name, request.only_if_missing)


def _credentials(violations: Violations, auth: image_pb2.RegistryAuth) -> Credentials | None:
    texts = {
        "username": auth.username,
        "password": auth.password,
        "identity_token": auth.identity_token,
        "auth_json": auth.auth_json,
    }
    for field, text in texts.items():
        violations.text(f"auth.{field}", text, _AUTH_LIMIT_BYTES)
    given = [auth.username or auth.password, auth.identity_token, auth.auth_json]
    ways = "must be a username with a password, or an identity_token, or an auth_json"
    violations.allow(sum(map(bool, given)) <= 1, "auth", ways, "CONFLICT")
    violations.allow(
        bool(auth.username) or not auth.password, "auth.username", "is required", "REQUIRED"
    )
    violations.allow(":" not in auth.username, "auth.username", "has a colon", "MALFORMED")
    if auth.auth_json:
        problem = auth_json_problem(auth.auth_json)
        violations.allow(not problem, "auth.auth_json", problem, "MALFORMED")
    return Credentials(**texts) if any(given) else None


def tag_request(request: image_pb2.TagImageRequest) -> tuple[str, str]:
    """The image, and the name to give it. Raises ``InvalidArgument``."""
    violations = Violations()
    for field, value in (("image", request.image), ("name", request.name)):
        violations.allow(bool(value), field, "is required", "REQUIRED")
    violations.raise_any()
    return request.image, request.name


def image_filter(request: image_pb2.ListImagesRequest) -> ImageFilter:
    """The filter in a request. Raises ``InvalidArgument``."""
    asked = request.filter
    violations = Violations()
    violations.text("filter.reference", asked.reference, REFERENCE_LIMIT_BYTES)
    check_labels(violations, "filter.label_selector", asked.label_selector)
    violations.raise_any()
    return ImageFilter(
        reference=asked.reference,
        label_selector=dict(asked.label_selector),
        dangling=asked.dangling,
        unused=asked.unused,
    )


def prune_request(request: image_pb2.PruneImagesRequest) -> PruneRequest:
    """Which images to remove. Raises ``InvalidArgument``."""
    violations = Violations()
    older_than_s = seconds_of(request.older_than)
    violations.allow(
        older_than_s is not None,
        "older_than",
        "must be a duration that is not negative",
        "OUT_OF_RANGE",
    )
    violations.in_range("until_free_bytes", request.until_free_bytes, 0, _INT64_MAX)
    check_labels(violations, "label_selector", request.label_selector)
    violations.raise_any()
    return PruneRequest(
        all=request.all,
        older_than_s=older_than_s or 0.0,
        until_free_bytes=request.until_free_bytes,
        label_selector=dict(request.label_selector),
        dry_run=request.dry_run,
    )


def save_request(request: image_pb2.SaveImageRequest) -> tuple[str, ArchiveForm]:
    """The image, and the form of its archive. Raises ``InvalidArgument``."""
    form = _FORMS.get(request.format)
    if form is None:
        raise InvalidArgument.of("format", "is not known here", reason="UNKNOWN_ENUM")
    return image(request), form


def archive_messages(
    messages: Iterator[image_pb2.LoadImageRequest],
) -> Iterator[image_pb2.LoadImageRequest]:
    """The messages of an archive; without any, it is an empty one."""
    yield next(messages, image_pb2.LoadImageRequest())
    yield from messages


def archive_start(message: image_pb2.LoadImageRequest) -> ArchiveStart:
    """What the first message of an archive has."""
    return ArchiveStart(message.name, message.chunk)


def chunk(message: image_pb2.LoadImageRequest) -> bytes:
    """The piece of an archive in a message after the first. Raises ``InvalidArgument``."""
    if message.name:
        raise InvalidArgument.of("name", "only the first message has it", reason="START_AGAIN")
    return message.chunk
