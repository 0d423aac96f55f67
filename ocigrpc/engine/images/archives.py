"""Images as archives: out of the store, and into it."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from functools import partial
from typing import TypeVar

from ocigrpc.engine.images.failures import program_failure, storage_failing
from ocigrpc.engine.images.find import Finder, new_name
from ocigrpc.engine.images.program import Bench, bench
from ocigrpc.engine.images.pulling.pulls import Pulls
from ocigrpc.engine.images.room import require_room
from ocigrpc.engine.images.storage import Storage
from ocigrpc.engine.model.pulls import PullRequest
from ocigrpc.errors import InvalidArgument, OcigrpcError, cut
from ocigrpc.host.processes.piped import PIECE_BYTES, piped
from ocigrpc.host.processes.programs import find_program, require_program
from ocigrpc.image_errors import ImageNotFound
from ocigrpc.oci.images.archive import UNPACKERS, ArchivedImage, ArchiveForm, archived_images
from ocigrpc.oci.images.reference import image_id_of
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline

# What a pull from an archive fails by when something is wrong with that.
_MALFORMED = ("SOURCE_UNREADABLE", "IMAGE_DAMAGED")

_T = TypeVar("_T")


class Archives:
    """Saves the images of one store, and loads others, which are pulled from their archive."""

    def __init__(self, settings: Settings, storage: Storage, finder: Finder, pulls: Pulls) -> None:
        self._settings = settings
        self._storage = storage
        self._finder = finder
        self._pulls = pulls

    def save(self, text: str, form: ArchiveForm, deadline: Deadline) -> Generator[bytes]:
        """What ``SaveImage`` does."""
        image = self._finder.get(self._storage.snapshot(), text)
        names = () if image_id_of(text) else self._finder.names_meant(image, text)
        name = next((f":{each}" for each in names if "@" not in each), "")
        with bench(self._settings) as tools:
            # skopeo writes one form from its begin to its end, and the other as a file.
            is_stream = form is ArchiveForm.DOCKER
            path = "/dev/stdout" if is_stream else f"{tools.directory}/archive"
            argv = tools.skopeo.copy_out(image.image_id, f"{form}:{path}{name}", tools.directory)
            if is_stream:
                ended = yield from piped(argv, deadline, env=tools.environment)
            else:
                ended = tools.run(argv, deadline, partial(require_room, tools.directory))
            if ended.returncode:
                if self._storage.image(image.image_id) is None:
                    raise ImageNotFound.of(text)
                raise program_failure(ended.failure_text, text, "", tools.directory)
            if not is_stream:
                with storage_failing("read", path), open(path, "rb") as file:
                    while piece := file.read(PIECE_BYTES):
                        yield piece

    def load(self, name: str, pieces: Iterable[bytes], deadline: Deadline) -> Sequence[str]:
        """What ``LoadImage`` does; the ids of the images, in the archive's order."""
        given = [new_name(name, "name")] if name else []
        with bench(self._settings) as tools:
            path = self._received(tools, pieces, deadline)
            try:
                with storage_failing("read", path), open(path, "rb") as file:
                    form, images = archived_images(file)
            except ValueError as error:
                raise _malformed(str(error)) from error
            if given and len(images) > 1:
                problem = f"the archive has {len(images)} images"
                raise InvalidArgument.of("name", problem, reason="NOT_APPLICABLE")
            return [
                self._loaded(f"{form}:{path}", each, given or each.names, deadline)
                for each in images
            ]

    def _received(self, tools: Bench, pieces: Iterable[bytes], deadline: Deadline) -> str:
        """The path of the archive as plain tar."""
        packed, plain = f"{tools.directory}/packed", f"{tools.directory}/plain"
        _write(packed, pieces)
        with storage_failing("read", packed), open(packed, "rb", buffering=0) as file:
            begin = file.read(max(map(len, UNPACKERS)))
            file.seek(0)
            for mark, argv in UNPACKERS.items():
                if begin.startswith(mark):
                    _write(plain, _unpacked(argv, file.fileno(), deadline))
                    os.unlink(packed)
                    return plain
        return packed

    def _loaded(
        self, source: str, image: ArchivedImage, names: Sequence[str], deadline: Deadline
    ) -> str:
        """The id of an image of an archive, which is in the store then, with its names."""
        reference = f":{image.reference}" if image.reference else ""
        image_id = ""
        # It is copied for the first one, and is there for all others.
        for name in names or [""]:
            request = PullRequest(f"{source}{reference}", name=name)
            try:
                image_id = _result(self._pulls.pull(request, deadline)).image_id
            except OcigrpcError as error:
                if error.reason not in _MALFORMED:
                    raise
                raise _malformed(error.message) from error
        return image_id


def _write(path: str, pieces: Iterable[bytes]) -> None:
    """Make a file of these pieces, if its disk has room. Raises ``StorageFull``, ``HostFailed``."""
    # With a buffer, since without one as much is written as the kernel likes.
    with storage_failing("write", path), open(path, "xb") as file:
        for piece in pieces:
            file.write(piece)
            require_room(os.path.dirname(path))


def _unpacked(argv: Sequence[str], packed: int, deadline: Deadline) -> Generator[bytes]:
    """What a program makes of the file ``packed``. Raises ``InvalidArgument``."""
    require_program(argv[0])
    program = find_program(argv[0]) or argv[0]
    ended = yield from piped([program, *argv[1:]], deadline, stdin=packed)
    if ended.returncode:
        raise _malformed(f"{argv[0]} can't unpack it: {cut(ended.failure_text)}")


def _malformed(problem: str) -> InvalidArgument:
    return InvalidArgument.of("chunk", problem, reason="ARCHIVE_MALFORMED")


def _result(steps: Generator[object, None, _T]) -> _T:
    """What a generator returns at its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result
