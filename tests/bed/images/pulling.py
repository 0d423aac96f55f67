"""A service that pulls images, and the storage that it pulls them into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ocigrpc import Client
from ocigrpc.errors import Timeout
from ocigrpc.v1.image_pb2 import ImageSummary, Platform, PullImageResponse, RegistryAuth
from tests.bed.hosts.host import Host
from tests.bed.hosts.leaks import until
from tests.bed.images.storages import Storage
from tests.bed.services.service import Service
from tests.bed.services.serving import serving


class Puller:
    """A service with a storage of its own."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.storage = Storage(service.directory / "root/images", service.directory / "run/images")

    @property
    def client(self) -> Client:
        """Of the service that runs now."""
        return self.service.client

    def responses(
        self,
        image: str,
        *,
        platform: Platform | None = None,
        auth: RegistryAuth | None = None,
        name: str = "",
        only_if_missing: bool = False,
    ) -> list[PullImageResponse]:
        """All that is answered to a pull."""
        return list(
            self.client.pull_image(
                image, platform=platform, auth=auth, name=name, only_if_missing=only_if_missing
            )
        )

    def pull(
        self,
        image: str,
        *,
        platform: Platform | None = None,
        auth: RegistryAuth | None = None,
        name: str = "",
        only_if_missing: bool = False,
    ) -> ImageSummary:
        """The image that was pulled."""
        *progress, last = self.responses(
            image, platform=platform, auth=auth, name=name, only_if_missing=only_if_missing
        )
        assert all(each.HasField("progress") for each in progress)
        return last.image

    def leaks(self) -> list[str]:
        """What pulls have left, also those that are not undone yet."""
        benches = self.service.directory / "root/benches"
        found = map(str, benches.iterdir() if benches.exists() else ())
        return [*found, *self.storage.leaks(), *self.service.leaks()]


@contextmanager
def pulling(
    host: Host, rootfs: Path, registries_conf: Path, **settings: object
) -> Iterator[Puller]:
    """A service with a storage in which pulls leave nothing but images."""
    settings = {"images_registries_conf": registries_conf, **settings}
    with serving(host, rootfs, **settings) as service:
        puller = Puller(service)
        yield puller
        # Programs that skopeo asks, as gpg, are gone a moment after their answer.
        with suppress(Timeout):
            until(lambda: puller.leaks() == [])
        assert puller.leaks() == []
