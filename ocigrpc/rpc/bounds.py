"""How many entries a request may have, counted before any of them is checked."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from ocigrpc.violations import Violations

# Most entries of a list or map by default.
COUNT_LIMIT = 1024


def check_counts(request: Message, limits: Mapping[str, int]) -> None:
    """Raise ``InvalidArgument`` (TOO_MANY) with every list or map that has too many entries.

    ``limits`` has the full names of fields; the limit of all others is :data:`COUNT_LIMIT`.
    """
    if _has_lists(request.DESCRIPTOR):
        violations = Violations()
        _check(request, "", limits, violations)
        violations.raise_any()


@functools.cache
def _has_lists(kind: Descriptor) -> bool:
    """Whether messages of this kind have a list or map, be it in a message in them.

    Most requests only name a container. The cache has an entry for each kind of request.
    """
    kinds, seen = [kind], {kind}
    for each in kinds:
        for field in each.fields:
            if field.is_repeated:
                return True
            if field.message_type and field.message_type not in seen:
                seen.add(field.message_type)
                kinds.append(field.message_type)
    return False


def _check(
    message: Message, prefix: str, limits: Mapping[str, int], violations: Violations
) -> None:
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if isinstance(value, Message):
            _check(value, f"{path}.", limits, violations)
        elif isinstance(value, Collection) and not isinstance(value, str | bytes):
            limit = limits.get(field.full_name, COUNT_LIMIT)
            few = violations.allow(len(value) <= limit, path, f"has more than {limit}", "TOO_MANY")
            if few and _holds_messages(field):
                for index, each in enumerate(value):
                    _check(each, f"{path}[{index}].", limits, violations)


def _holds_messages(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and not kind.GetOptions().map_entry
