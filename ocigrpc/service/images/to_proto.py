"""From the engine's values of images to messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from ocigrpc.engine.model.images import (
    FsInfo,
    FsUsage,
    ImageDetail,
    ImageView,
    Pruned,
    WritableLayer,
)
from ocigrpc.engine.model.pulls import PullProgress
from ocigrpc.engine.model.values import Position
from ocigrpc.errors import cut
from ocigrpc.oci.images.config import ImageConfig, Step
from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.progress import LayerProgress
from ocigrpc.service.pages import ANSWER_LIMIT_BYTES, size_of
from ocigrpc.service.times import timestamp
from ocigrpc.v1 import image_pb2

# Most containers of an image that are named.
CONTAINERS_LIMIT = 1000

# Most names of an image that are shown: at their largest, with the largest config, they fit an
# answer.
NAMES_LIMIT = 1000

# Most bytes of each text of a history.
HISTORY_TEXT_BYTES = 4096

_M = TypeVar("_M", bound=Message)


class _Summaries(Protocol):
    def append(self, message: image_pb2.ImageSummary, /) -> None: ...
    def __delitem__(self, index: int, /) -> None: ...


def add_image(entries: _Summaries, view: ImageView) -> tuple[Position, int]:
    """Add an image to a list: where it stands there, and the size of its entry."""
    summary = image_summary(view)
    entries.append(summary)
    return view.position, size_of(summary)


def image_summary(view: ImageView) -> image_pb2.ImageSummary:
    """An image in a list."""
    return image_pb2.ImageSummary(
        image_id=view.image_id,
        names=view.names[:NAMES_LIMIT],
        digests=view.digests[:NAMES_LIMIT],
        created_at=timestamp(view.created_ns),
        pulled_at=timestamp(view.pulled_ns),
        size_bytes=view.size_bytes,
        unique_bytes=view.unique_bytes,
        labels=view.labels,
        platform=_platform(view.platform),
        pinned=view.pinned,
        containers=len(view.container_ids),
        user=view.user,
        dangling=view.is_dangling,
    )


def pull_response(update: PullProgress | ImageView) -> image_pb2.PullImageResponse:
    """How far a pull is, or the image that it has pulled."""
    if isinstance(update, ImageView):
        return image_pb2.PullImageResponse(image=image_summary(update))
    progress = image_pb2.PullProgress(
        digest=update.digest,
        total_bytes=update.total_bytes,
        received_bytes=update.received_bytes,
        layers=map(_layer_progress, update.layers),
    )
    return image_pb2.PullImageResponse(progress=progress)


def _layer_progress(layer: LayerProgress) -> image_pb2.LayerProgress:
    return image_pb2.LayerProgress(
        digest=layer.digest,
        size_bytes=layer.size_bytes,
        received_bytes=layer.received_bytes,
        state=f"LAYER_STATE_{layer.state.name}",
    )


def image_status(detail: ImageDetail) -> image_pb2.ImageStatusResponse:
    """All that is known of an image."""
    return image_pb2.ImageStatusResponse(
        image=image_summary(detail.view),
        config=_config(detail.config),
        layers=[
            image_pb2.ImageLayer(
                diff_id=layer.diff_id,
                digest=layer.digest,
                size_bytes=layer.size_bytes,
                images=layer.images,
                path=layer.path,
            )
            for layer in detail.layers
        ],
        history=map(_step, detail.history),
        author=detail.author,
        container_ids=detail.view.container_ids[:CONTAINERS_LIMIT],
        last_used_at=timestamp(detail.view.used_ns),
    )


def pruned(pruned: Pruned) -> image_pb2.PruneImagesResponse:
    """What was removed, as much of it as one message takes."""
    return image_pb2.PruneImagesResponse(
        images=_fitting(map(image_summary, pruned.images)), reclaimed_bytes=pruned.reclaimed_bytes
    )


def loaded(views: Iterable[ImageView]) -> image_pb2.LoadImageResponse:
    """The images of an archive, as many as one message takes."""
    return image_pb2.LoadImageResponse(images=_fitting(map(image_summary, views)))


def _fitting(messages: Iterable[_M]) -> Iterator[_M]:
    """As many as one answer takes."""
    left_bytes = ANSWER_LIMIT_BYTES
    for message in messages:
        left_bytes -= size_of(message)
        if left_bytes < 0:
            break
        yield message


def fs_info(info: FsInfo) -> image_pb2.ImageFsInfoResponse:
    """What images take."""
    return image_pb2.ImageFsInfoResponse(
        path=info.path,
        total=_usage(info.total),
        available=_usage(info.available),
        image_bytes=info.images_bytes,
        reclaimable_bytes=info.reclaimable_bytes,
        image_count=info.image_count,
        writable_layers=_fitting(map(_writable_layer, info.writable_layers)),
    )


def _writable_layer(layer: WritableLayer) -> image_pb2.WritableLayer:
    return image_pb2.WritableLayer(
        container_id=layer.container_id,
        used=_usage(layer.used) if layer.measured_ns else None,
        measured_at=timestamp(layer.measured_ns),
        limit_bytes=layer.limit_bytes,
    )


def _usage(usage: FsUsage) -> image_pb2.FsUsage:
    return image_pb2.FsUsage(bytes=usage.bytes, inodes=usage.inodes)


def _config(config: ImageConfig) -> image_pb2.ImageConfig:
    return image_pb2.ImageConfig(
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        env=config.env,
        working_dir=config.working_dir,
        user=config.user,
        stop_signal=config.stop_signal,
        volumes=config.volumes,
        exposed_ports=config.exposed_ports,
        labels=config.labels,
    )


def _platform(platform: Platform) -> image_pb2.Platform:
    return image_pb2.Platform(
        os=platform.os, architecture=platform.architecture, variant=platform.variant
    )


def _step(step: Step) -> image_pb2.ImageHistory:
    return image_pb2.ImageHistory(
        created_at=timestamp(step.created_ns),
        created_by=cut(step.created_by, HISTORY_TEXT_BYTES),
        comment=cut(step.comment, HISTORY_TEXT_BYTES),
        empty_layer=step.empty_layer,
    )
