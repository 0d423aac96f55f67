"""The policies of the RPCs of ``ocigrpc.v1.ImageService``."""

from __future__ import annotations

from ocigrpc.rpc.methods import Kind, Method
from ocigrpc.v1 import image_pb2

SERVICE_NAME = image_pb2.DESCRIPTOR.services_by_name["ImageService"].full_name


# Most seconds of the client's time that are reserved for the answer of what may take long.
_ANSWER_S = 0.5


def _method(name: str, kind: Kind) -> Method:
    return Method(f"{SERVICE_NAME}/{name}", kind, f"{SERVICE_NAME}/{name}")


def _archive(name: str) -> Method:
    """Both share their places: each takes as much room as an image."""
    return _method(name, Kind.STREAM)._replace(
        budget=f"{SERVICE_NAME}/SaveImage", is_long=True, answer_limit_s=_ANSWER_S
    )


METHODS = (
    _method("PullImage", Kind.STREAM)._replace(is_long=True, answer_limit_s=_ANSWER_S),
    _method("ListImages", Kind.READ)._replace(is_read_only=True),
    _method("ImageStatus", Kind.READ)._replace(is_read_only=True),
    _method("ImageFsInfo", Kind.READ)._replace(is_read_only=True),
    _method("TagImage", Kind.SLOW),
    _method("RemoveImage", Kind.RESCUE),
    _method("PruneImages", Kind.SLOW),
    _archive("SaveImage"),
    _archive("LoadImage"),
)
