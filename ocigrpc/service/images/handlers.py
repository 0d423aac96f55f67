"""``ocigrpc.v1.ImageService``: each handler unpacks, calls the engine, and packs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import chain
from typing import cast

from ocigrpc.rpc.call import Call
from ocigrpc.rpc.methods import Service
from ocigrpc.service import pages, streams
from ocigrpc.service.images import from_proto, to_proto
from ocigrpc.service.images.engine import Images
from ocigrpc.service.images.methods import METHODS, SERVICE_NAME
from ocigrpc.v1 import image_pb2 as v1
from ocigrpc.v1 import image_pb2_grpc


class ImageService:
    """The handlers. ``protos/ocigrpc/v1/image.proto`` documents each RPC."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def PullImage(self, request: v1.PullImageRequest, call: Call) -> Iterator[v1.PullImageResponse]:
        """Pull it, and say how far that is."""
        wanted = from_proto.pull_request(request)
        with closing(self._images.pull(wanted, call.deadline)) as updates:
            yield from map(to_proto.pull_response, updates)

    def ListImages(self, request: v1.ListImagesRequest, call: Call) -> v1.ListImagesResponse:
        """Those that match."""
        wanted = from_proto.image_filter(request)
        page = pages.page_of(request, request.filter.SerializeToString(deterministic=True))
        views = self._images.list_images(wanted, page.after)
        answer = v1.ListImagesResponse()
        answer.next_page_token = pages.fill_page(answer.images, views, to_proto.add_image, page)
        return answer

    def ImageStatus(self, request: v1.ImageStatusRequest, call: Call) -> v1.ImageStatusResponse:
        """All that is known of it."""
        return to_proto.image_status(self._images.status(from_proto.image(request)))

    def TagImage(self, request: v1.TagImageRequest, call: Call) -> v1.TagImageResponse:
        """Give it a further name."""
        tagged = self._images.tag(*from_proto.tag_request(request), call.deadline)
        return v1.TagImageResponse(name=tagged.name, from_image_id=tagged.from_image_id)

    def RemoveImage(self, request: v1.RemoveImageRequest, call: Call) -> v1.RemoveImageResponse:
        """Take a name of it, or all of it."""
        wanted = from_proto.image(request)
        removed = self._images.remove(wanted, request.all_names, call.deadline)
        return v1.RemoveImageResponse(
            untagged=removed.untagged,
            image_id=removed.image_id,
            container_ids=removed.container_ids[: to_proto.CONTAINERS_LIMIT],
        )

    def PruneImages(self, request: v1.PruneImagesRequest, call: Call) -> v1.PruneImagesResponse:
        """Remove what nobody uses."""
        return to_proto.pruned(self._images.prune(from_proto.prune_request(request), call.deadline))

    def ImageFsInfo(self, request: v1.ImageFsInfoRequest, call: Call) -> v1.ImageFsInfoResponse:
        """What images take."""
        return to_proto.fs_info(self._images.fs_info())

    def SaveImage(self, request: v1.SaveImageRequest, call: Call) -> Iterator[v1.SaveImageResponse]:
        """It as an archive."""
        with closing(self._images.save(*from_proto.save_request(request), call.deadline)) as pieces:
            for piece in pieces:
                yield v1.SaveImageResponse(chunk=piece)

    def LoadImage(
        self, messages: Iterator[v1.LoadImageRequest], call: Call
    ) -> v1.LoadImageResponse:
        """Add the images of an archive."""
        with streams.queued(
            from_proto.archive_messages(messages),
            from_proto.archive_start,
            from_proto.chunk,
            len,
            call.deadline,
        ) as (start, chunks):
            pieces = chain([start.chunk], chunks.each(call.deadline))
            return to_proto.loaded(self._images.load(start.name, pieces, call.deadline))


def image_service(images: Images) -> Service:
    """The service, as a server gets it."""
    # The handlers get a Call where the generated types expect grpc's context.
    servicer = cast(image_pb2_grpc.ImageServiceServicer, ImageService(images))
    add = partial(image_pb2_grpc.add_ImageServiceServicer_to_server, servicer)
    return Service(SERVICE_NAME, add, METHODS)
