"""The calls of ``ocigrpc.v1.ImageService`` as methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from ocigrpc.client.connection import Connection
from ocigrpc.client.failures import translated
from ocigrpc.client.pieces import Pieces
from ocigrpc.client.stream import Stream
from ocigrpc.v1 import image_pb2


class ImageCalls(Connection):
    """What a client can do with images, which are named by a name or an id."""

    def pull_image(
        self,
        image: str,
        *,
        platform: image_pb2.Platform | None = None,
        auth: image_pb2.RegistryAuth | None = None,
        name: str = "",
        only_if_missing: bool = False,
        timeout_s: float | None = None,
    ) -> Stream[image_pb2.PullImageResponse]:
        """Pull an image, which the last message of the stream has; close it to give it up.

        The others say how far the pull is. ``name`` is for archives and directories.
        """
        request = image_pb2.PullImageRequest(
            image=image,
            platform=platform,
            auth=auth,
            name=name,
            only_if_missing=only_if_missing,
        )
        return self._stream(self._images.PullImage(request, timeout=timeout_s))

    def list_images(
        self, wanted: image_pb2.ImageFilter | None = None
    ) -> Iterator[image_pb2.ImageSummary]:
        """The images that match, those that came last first; pages come as they are read."""
        request = image_pb2.ListImagesRequest(filter=wanted)
        while True:
            page = self._call(self._images.ListImages, request)
            yield from page.images
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def image_status(self, image: str) -> image_pb2.ImageStatusResponse:
        """All that is known of an image."""
        return self._call(self._images.ImageStatus, image_pb2.ImageStatusRequest(image=image))

    def tag_image(self, image: str, name: str) -> image_pb2.TagImageResponse:
        """Give an image a further name."""
        request = image_pb2.TagImageRequest(image=image, name=name)
        return self._call(self._images.TagImage, request)

    def remove_image(self, image: str, *, all_names: bool = False) -> image_pb2.RemoveImageResponse:
        """Remove a name, or an image; an unknown one is no error."""
        request = image_pb2.RemoveImageRequest(image=image, all_names=all_names)
        return self._call(self._images.RemoveImage, request)

    def prune_images(self, request: image_pb2.PruneImagesRequest) -> image_pb2.PruneImagesResponse:
        """Remove images that no container uses."""
        return self._call(self._images.PruneImages, request)

    def image_fs_info(self) -> image_pb2.ImageFsInfoResponse:
        """What images take on their disk."""
        return self._call(self._images.ImageFsInfo, image_pb2.ImageFsInfoRequest())

    def save_image(
        self,
        image: str,
        archive_format: image_pb2.ArchiveFormat = image_pb2.ARCHIVE_FORMAT_DOCKER,
        *,
        timeout_s: float | None = None,
    ) -> Stream[bytes]:
        """An image as an archive, in pieces; whole only if it ends without an exception."""
        request = image_pb2.SaveImageRequest(image=image, format=archive_format)
        pieces = self._images.SaveImage(request, timeout=timeout_s)
        return Stream(pieces, (each.chunk for each in pieces), self.address)

    def load_image(
        self, pieces: Iterable[bytes], name: str = "", *, timeout_s: float | None = None
    ) -> image_pb2.LoadImageResponse:
        """Add the images of an archive; ``pieces`` as those of ``copy_into``."""
        archive = Pieces(pieces)
        first = image_pb2.LoadImageRequest(name=name)
        others = (image_pb2.LoadImageRequest(chunk=each) for each in archive.chunks())
        with archive.failing(), translated(self.address):
            return self._images.LoadImage(chain([first], others), timeout=timeout_s)
