"""From what a client wants to pull to the one image that this is now.

A name is resolved to a digest, and nothing else is pulled, even where it is pulled by its tag.
Each client asks its registry by its own credentials, and so has shown that it may have the image,
before it joins a pull. An image that is there is for all clients, by its digest also without
asking.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgspec import Struct

from ocigrpc.engine.images.failures import (
    damaged,
    platform_missing,
    program_failure,
    registry_slow,
    source_unreadable,
)
from ocigrpc.engine.images.find import naming_field
from ocigrpc.engine.images.program import Bench
from ocigrpc.engine.images.pulling.wanted import Found, Wanted
from ocigrpc.engine.images.short_names import short_names
from ocigrpc.engine.model.pulls import PullRequest
from ocigrpc.errors import InvalidArgument, Timeout
from ocigrpc.failing import host_failing
from ocigrpc.host.files.regular import read_regular_file
from ocigrpc.image_errors import ImageNotFound, ImagesFailed, ImageUnusable
from ocigrpc.oci.images.config import CONFIG_LIMIT_BYTES, ImageFile, image_file
from ocigrpc.oci.images.manifest import Blob, Index, Manifest, digest_of, parse_manifest
from ocigrpc.oci.images.platform import Platform
from ocigrpc.oci.images.reference import Reference
from ocigrpc.oci.images.skopeo import auth_file
from ocigrpc.oci.images.source import Archive, parse_source
from ocigrpc.oci.images.storage import LAYERS_LIMIT
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.waiting import Deadline

# Most images of a list for one platform, each of which is asked for; there is rarely more than one.
_FITTING_LIMIT = 16


class Source(Struct, frozen=True):
    """What a request names. ``names`` are the whole names that it may mean; none for an archive.

    ``known`` are those of an image that is there already.
    """

    archive: Archive | None
    names: tuple[Reference, ...] = ()
    known: tuple[Reference, ...] = ()
    own_name: str = ""


def source_of(request: PullRequest, settings: ImagesSettings) -> Source:
    """What a request names.

    Raises ``InvalidArgument`` (INVALID_IMAGE_NAME; CONFLICT for credentials that would go to
    registries that the client has not named), ``HostFailed`` for a registries.conf that can't be
    used.
    """
    with naming_field("image"):
        parsed = parse_source(request.image)
    if isinstance(parsed, Archive):
        return Source(parsed, own_name=_archive_name(request, parsed))
    if request.name:
        problem = "is for archives and directories; an image of a registry has its name from there"
        raise InvalidArgument.of("name", problem, reason="NOT_APPLICABLE")
    short = short_names(settings.registries_conf)
    with naming_field("image"):
        names, known = (
            tuple(each if each.digest else each.tagged() for each in meant)
            for meant in (short.candidates(parsed), short.known(parsed))
        )
    credentials = request.credentials
    if len(names) > 1 and credentials is not None and not credentials.auth_json:
        registries = " ".join(each.registry for each in names)
        problem = f"is for one registry, and the name stands for several: {registries}"
        raise InvalidArgument.of("auth", problem, reason="CONFLICT")
    return Source(None, names, known)


def platform_of(request: PullRequest) -> Platform:
    """What the image of a request is for: in parts that it leaves out, the node's own."""
    return request.platform.filled(Platform.of_machine(os.uname().machine))


def _archive_name(request: PullRequest, archive: Archive) -> str:
    if not request.name:
        own = archive.own_name
        return str(own) if own is not None else ""
    with naming_field("name"):
        name = Reference.parse(request.name)
    if name.is_short or name.digest:
        problem = "must have a registry, as in localhost/app:1, and no digest"
        raise InvalidArgument.of("name", problem, reason="INVALID_IMAGE_NAME")
    return str(name.tagged())


class Resolver:
    """Asks registries, or reads archives, for one request."""

    def __init__(
        self,
        request: PullRequest,
        platform: Platform,
        settings: ImagesSettings,
        bench: Bench,
        deadline: Deadline,
    ) -> None:
        self._request = request
        self._settings = settings
        self._bench = bench
        self._deadline = deadline
        # Archives are read for as long as they are large.
        self._answer_by = deadline.within(settings.resolve_timeout_s)
        self.platform = platform

    def find(self, source: Source) -> Found:
        """What the request means now. Raises what ``PullImage`` does when it can't be found."""
        if source.archive is not None:
            return self._in_archive(source.archive, source.own_name)
        missing: ImageNotFound | None = None
        for name in source.names:
            try:
                return self._in_registry(name)
            except ImageNotFound as error:
                missing = error
        assert missing is not None, "there is at least one"
        raise missing

    def choose(self, found: Found) -> Wanted:
        """The one image of it that is for the platform."""
        manifest, choice, source = found.manifest, None, found.source
        others: tuple[Manifest, ...] = ()
        by_tag = bool(found.tagged) and self._bench.wants_signatures
        if isinstance(manifest, Index):
            entry = manifest.choose(self.platform)
            if entry is None:
                there = " ".join(sorted({str(each.platform) for each in manifest.entries}))
                raise platform_missing(self._request.image, self.platform, there)
            choice = entry.platform
            if found.repository:
                source = f"docker://{found.repository}@{entry.digest}"
                manifest = self._listed(source, found.registry)
                if by_tag:
                    manifest, others = self._chosen_by_skopeo(found, choice, manifest)
            else:
                manifest = self._laid_out(found, choice)
        elif self._request.platform != Platform("", "", ""):
            own = self._image_file(self._config_text(found, self.platform)).platform
            if not self.platform.accepts(own):
                raise platform_missing(self._request.image, self.platform, str(own))
        if manifest.config.size_bytes > CONFIG_LIMIT_BYTES:
            raise self._damaged(f"its config is larger than {CONFIG_LIMIT_BYTES} bytes")
        layers = max(len(each.layers) for each in (manifest, *others))
        if layers > LAYERS_LIMIT:
            raise ImageUnusable(
                f"image {self._request.image!r} has more than {LAYERS_LIMIT} layers",
                reason="IMAGE_TOO_DEEP",
                image=self._request.image,
                layers=layers,
            )
        if by_tag:
            source = found.tagged
        return Wanted(self._request.image, found, manifest, self.platform, choice, source, others)

    def _in_registry(self, name: Reference) -> Found:
        auth = self._auth(name.registry)
        self._bench.write("auth.json", auth)
        plain = name.digested(name.digest) if name.digest else name
        text = self._inspected(f"docker://{plain}", name.registry)
        digest = digest_of(text)
        if name.digest not in ("", digest):
            raise self._damaged(f"its manifest has digest {digest}")
        source = f"docker://{name.digested(digest)}"
        manifest = self._parsed(text)
        tagged = "" if name.digest else f"docker://{name}"
        parts = name.registry, name.repository, digest, manifest, auth
        return Found(source, str(plain), *parts, tagged=tagged)

    def _in_archive(self, archive: Archive, name: str) -> Found:
        self._bench.write("auth.json", b"{}")
        if not os.path.exists(archive.path):
            raise source_unreadable(archive.path, "there is no such file or directory")
        source = str(archive)
        text = self._inspected(source, "", archive.path)
        manifest = self._parsed(text)
        return Found(source, name, "", "", digest_of(text), manifest, b"{}", archive.path)

    def _auth(self, registry: str) -> bytes:
        if self._request.credentials is None and self._settings.auth_file:
            with host_failing("read", self._settings.auth_file):
                return read_regular_file(self._settings.auth_file)
        return auth_file(registry, self._request.credentials)

    def _listed(self, source: str, registry: str) -> Manifest:
        """The manifest of an image of a list in a registry."""
        manifest = self._parsed(self._inspected(source, registry))
        if isinstance(manifest, Index):
            raise self._damaged("its list of images has another list in it")
        return manifest

    def _chosen_by_skopeo(
        self, found: Found, choice: Platform, first: Manifest
    ) -> tuple[Manifest, tuple[Manifest, ...]]:
        """What skopeo copies of a list for a platform, and the others that fit it."""
        assert isinstance(found.manifest, Index), "only a list has several"
        entries = dict.fromkeys(each.digest for each in found.manifest.fitting(self.platform))
        if len(entries) == 1:
            return first, ()
        if len(entries) > _FITTING_LIMIT:
            raise self._damaged(f"its list has more than {_FITTING_LIMIT} images for one platform")
        fitting = [
            self._listed(f"docker://{found.repository}@{each}", found.registry) for each in entries
        ]
        config = digest_of(self._config_text(found, choice))
        chosen = next((each for each in fitting if each.config.digest == config), first)
        return chosen, tuple(each for each in fitting if each != chosen)

    def _laid_out(self, found: Found, choice: Platform) -> Manifest:
        """What is known of an image of a list in an archive or a directory.

        It has no manifest by its digest there, and layers by what is in them.
        """
        config = self._config_text(found, choice)
        layers = (Blob(each, 0) for each in self._image_file(config).diff_ids)
        return Manifest(Blob(digest_of(config), len(config)), tuple(layers))

    def _config_text(self, found: Found, platform: Platform) -> bytes:
        bench = self._bench
        argv = bench.skopeo.inspect_config(found.source, bench.directory, bench.auth_path, platform)
        return self._output(argv, found.registry, found.archive)

    def _inspected(self, source: str, registry: str, path: str = "") -> bytes:
        bench = self._bench
        argv = bench.skopeo.inspect_raw(source, bench.directory, bench.auth_path)
        return self._output(argv, registry, path)

    def _output(self, argv: Sequence[str], registry: str, path: str) -> bytes:
        """What skopeo prints; ``path`` is that of an archive."""
        try:
            ended = self._bench.run(argv, self._answer_by if registry else self._deadline)
        except Timeout as error:
            if not registry or error.reason != Timeout.reason or not self._deadline.remaining_s():
                raise
            raise registry_slow(registry, self._settings.resolve_timeout_s) from error
        if ended.returncode == 0:
            return ended.stdout
        image, directory = self._request.image, self._bench.directory
        words, auth = ended.failure_text, self._bench.auth
        failure = program_failure(words, image, registry, directory, auth, path)
        if not registry and isinstance(failure, ImagesFailed):
            raise source_unreadable(path, failure.metadata["output"])
        raise failure

    def _parsed(self, text: bytes) -> Manifest | Index:
        try:
            return parse_manifest(text)
        except ValueError as error:
            raise self._damaged(str(error)) from error

    def _image_file(self, text: bytes) -> ImageFile:
        try:
            return image_file(text)
        except ValueError as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, problem: str) -> ImageUnusable:
        return damaged(self._request.image, problem)
