"""Messages of CopyOut and CopyInto, and the engine's values; malformed ones are refused."""

from __future__ import annotations

import os

from ocigrpc.engine.copying.archive_in import CopyTarget
from ocigrpc.engine.copying.archive_out import CopySource, PathStat
from ocigrpc.errors import InvalidArgument
from ocigrpc.host.archives.unpack import Unpacked
from ocigrpc.service import from_proto
from ocigrpc.service.session_from_proto import start_missing
from ocigrpc.service.times import timestamp
from ocigrpc.v1 import copy_pb2
from ocigrpc.violations import Violations

# Longest piece of an archive that a client sends.
CHUNK_LIMIT_BYTES = 1 << 20

# Longest name of a file, NAME_MAX of the kernel.
_NAME_LIMIT_BYTES = 255


def copy_source(request: copy_pb2.CopyOutRequest) -> CopySource:
    """What to copy. Raises ``InvalidArgument``."""
    violations = Violations()
    violations.absolute_path("path", request.path)
    if violations.text("name", request.name, _NAME_LIMIT_BYTES):
        usable = "/" not in request.name and request.name != ".."
        violations.allow(usable, "name", "is no name of a file", "MALFORMED")
    violations.raise_any()
    return CopySource(
        container_id=from_proto.container_id(request),
        path=request.path,
        name=request.name or _last_name(request.path),
        follow_link=request.follow_link,
        stat_only=request.stat_only,
    )


def copy_target(request: copy_pb2.CopyIntoRequest) -> CopyTarget:
    """Where to copy, from the first message. Raises ``InvalidArgument``."""
    start = request.start
    if request.WhichOneof("content") != "start":
        raise start_missing()
    violations = Violations()
    violations.absolute_path("path", start.path)
    try:
        violations.raise_any()
        return CopyTarget(
            container_id=from_proto.container_id(start),
            path=start.path,
            keep_types=start.keep_types,
            chown=start.chown,
        )
    except InvalidArgument as error:
        raise error.below("start") from None


def chunk(request: copy_pb2.CopyIntoRequest) -> bytes:
    """The piece of an archive in a message after the first. Raises ``InvalidArgument``."""
    match request.WhichOneof("content"):
        case "chunk":
            if len(request.chunk) > CHUNK_LIMIT_BYTES:
                raise InvalidArgument.of(
                    "chunk", f"is larger than {CHUNK_LIMIT_BYTES} bytes", reason="TOO_LARGE"
                )
            return request.chunk
        case "start":
            raise InvalidArgument.of("start", "only the first message has it", reason="START_AGAIN")
    raise InvalidArgument.of("content", "is required", reason="REQUIRED")


def copy_out_response(content: PathStat | bytes) -> copy_pb2.CopyOutResponse:
    """What is at a path, or a piece of its archive."""
    if isinstance(content, bytes):
        return copy_pb2.CopyOutResponse(chunk=content)
    return copy_pb2.CopyOutResponse(
        stat=copy_pb2.PathStat(
            name=_shown(content.name),
            size_bytes=content.size_bytes,
            mode=content.mode,
            modified_at=timestamp(content.modified_ns),
            link_target=_shown(content.link_target),
        )
    )


def copy_into_response(unpacked: Unpacked) -> copy_pb2.CopyIntoResponse:
    """How much was written."""
    return copy_pb2.CopyIntoResponse(entries=unpacked.entries, bytes=unpacked.content_bytes)


def _last_name(path: str) -> str:
    name = path.rstrip("/").rpartition("/")[2]
    return "." if name in ("", ".", "..") else name


def _shown(name: str) -> str:
    """A name of a file, without the bytes that are no UTF-8."""
    return os.fsencode(name).decode(errors="replace")
