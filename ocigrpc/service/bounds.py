"""How many things one request may hold, counted before any of them is looked at."""

from __future__ import annotations

from collections.abc import Collection

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from ocigrpc.oci.users import GROUPS_LIMIT
from ocigrpc.oci.violations import WORDS_LIMIT, Violations

COUNT_LIMIT = 1024
"""Most entries of a list or map, unless it is one of those below."""

COUNT_LIMITS = {
    "ocigrpc.v1.ContainerConfig.command": WORDS_LIMIT,
    "ocigrpc.v1.ContainerConfig.args": WORDS_LIMIT,
    "ocigrpc.v1.ContainerConfig.env": WORDS_LIMIT,
    "ocigrpc.v1.ContainerConfig.supplemental_groups": GROUPS_LIMIT,
    "ocigrpc.v1.ExecProcess.command": WORDS_LIMIT,
    "ocigrpc.v1.ExecProcess.env": WORDS_LIMIT,
    # There may be as many lists as mounts.
    "ocigrpc.v1.Mount.options": 64,
}
"""Most entries of some fields, by their full names."""


def check_counts(request: Message) -> None:
    """Raise ``InvalidArgument`` (TOO_MANY) with every list or map that has too many entries."""
    found = Violations()
    _check(request, "", found)
    found.raise_any()


def _check(message: Message, prefix: str, found: Violations) -> None:
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if isinstance(value, Message):
            _check(value, f"{path}.", found)
        elif isinstance(value, Collection) and not isinstance(value, str | bytes):
            limit = COUNT_LIMITS.get(field.full_name, COUNT_LIMIT)
            few = found.allow(len(value) <= limit, path, f"has more than {limit}", "TOO_MANY")
            if few and _holds_messages(field):
                for index, each in enumerate(value):
                    _check(each, f"{path}[{index}].", found)


def _holds_messages(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and not kind.GetOptions().map_entry
