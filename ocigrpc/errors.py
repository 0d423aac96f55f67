"""What can go wrong, in the service's own words.

Each exception says what happened and knows nothing of gRPC: ``ocigrpc.rpc.errors``
maps it to a status, in one table. ``reason`` is stable and for programs; ``metadata``
holds every variable that the message mentions, so that nobody has to parse prose.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

PROGRAM_TEXT_LIMIT_BYTES = 2048
"""Most of a program's own words that an error carries: statuses travel in trailers."""

VIOLATIONS_LIMIT = 16
"""Most wrong fields that one error names, for the same reason."""


def cut(text: str, limit_bytes: int = PROGRAM_TEXT_LIMIT_BYTES) -> str:
    """``text`` without outer white space, cut to ``limit_bytes`` of UTF-8."""
    encoded = text.strip().encode(errors="replace")
    if len(encoded) <= limit_bytes:
        return encoded.decode()
    return encoded[:limit_bytes].decode(errors="ignore") + " [...]"


class OcigrpcError(Exception):
    """Anything the service can say about a failure.

    ``reason`` is an UPPER_SNAKE_CASE word, ``message`` a sentence, ``metadata`` the
    variables of the sentence, all strings.
    """

    reason = "UNEXPECTED"

    def __init__(self, message: str, *, reason: str = "", **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        if reason:
            self.reason = reason
        self.metadata = {key: str(value) for key, value in metadata.items()}


class Violation(NamedTuple):
    """One wrong field of a request: its path, and what is wrong with it."""

    field: str
    description: str


class InvalidArgument(OcigrpcError):
    """The request is malformed; nothing was changed."""

    reason = "INVALID_ARGUMENT"

    def __init__(
        self, field: str, description: str, *, reason: str = "", **metadata: object
    ) -> None:
        super().__init__(f"{field}: {description}", reason=reason, field=field, **metadata)
        self.violations: Sequence[Violation] = (Violation(field, description),)

    @classmethod
    def joined(cls, errors: Sequence[InvalidArgument]) -> InvalidArgument:
        """One error for all of ``errors``, at least one: it says what the first one says.

        Its violations are those of all, up to ``VIOLATIONS_LIMIT``.
        """
        first = errors[0]
        first.violations = [each for error in errors for each in error.violations][
            :VIOLATIONS_LIMIT
        ]
        return first

    def below(self, field: str) -> InvalidArgument:
        """The same, of a message that a request has in ``field``."""
        first, *_ = violations = [
            Violation(f"{field}.{each.field}", each.description) for each in self.violations
        ]
        error = InvalidArgument(first.field, first.description, reason=self.reason)
        error.metadata = {**self.metadata, "field": first.field}
        error.violations = violations
        return error


class InvalidSettings(OcigrpcError):
    """The settings can't be used. Names the source, the key and the reason."""

    reason = "INVALID_SETTINGS"


class ContainerNotFound(OcigrpcError):
    """No container has this id."""

    reason = "CONTAINER_NOT_FOUND"

    def __init__(self, container_id: str) -> None:
        super().__init__(f"no container {container_id!r}", container_id=container_id)


class ContainerExists(OcigrpcError):
    """The id, the name or the cgroup is taken by another container."""

    reason = "CONTAINER_EXISTS"


class WrongState(OcigrpcError):
    """The container's state does not allow the call."""

    reason = "WRONG_STATE"

    def __init__(self, container_id: str, state: str, wanted: str) -> None:
        super().__init__(
            f"container {container_id!r} is {state}, not {wanted}",
            container_id=container_id,
            state=state,
            wanted=wanted,
        )


class PreconditionFailed(OcigrpcError):
    """The container's monitor or files are not as the call needs them."""

    reason = "PRECONDITION_FAILED"


class PermissionDenied(OcigrpcError):
    """The caller may not do this."""

    reason = "PERMISSION_DENIED"


class NotImplementedHere(OcigrpcError):
    """The service has no such call."""

    reason = "UNKNOWN_METHOD"


class Busy(OcigrpcError):
    """Another change of the same container is under way."""

    reason = "CONTAINER_BUSY"

    def __init__(self, container_id: str, verb: str) -> None:
        super().__init__(
            f"container {container_id!r} is busy with {verb}", container_id=container_id, verb=verb
        )


class LimitReached(OcigrpcError):
    """A bound of the service is reached; less at once would work."""

    reason = "LIMIT_REACHED"


class Timeout(OcigrpcError):
    """A deadline ran out, the caller's or the service's own."""

    reason = "TIMEOUT"


class Cancelled(OcigrpcError):
    """The caller went away."""

    reason = "CANCELLED"


class Recovering(OcigrpcError):
    """The service has just begun, and does not know all its containers yet."""

    reason = "RECOVERING"


class ShuttingDown(OcigrpcError):
    """The service takes no new calls, since it is ending."""

    reason = "SHUTTING_DOWN"


class RuntimeFailed(OcigrpcError):
    """The OCI runtime failed; its own words are in the metadata as ``output``."""

    reason = "RUNTIME_FAILED"


class CannotRun(RuntimeFailed):
    """What the request asks for can't be had: neither the runtime nor the node is broken.

    The runtime's own words, if it was asked, are in the metadata as ``output``.
    """

    reason = "CANNOT_RUN"


class MonitorFailed(OcigrpcError):
    """conmon failed; its own words are in the metadata as ``output``."""

    reason = "MONITOR_FAILED"


class CgroupFailed(OcigrpcError):
    """The kernel or the init system refused a cgroup, a scope or a slice."""

    reason = "CGROUP_FAILED"


class StoreFailed(OcigrpcError):
    """The store can't be read or written; the metadata names its ``path``."""

    reason = "STORE_FAILED"


class HostFailed(OcigrpcError):
    """The host refused a file, directory or process; the metadata names it."""

    reason = "HOST_FAILED"


def host_failure(error: OSError) -> OcigrpcError:
    """What the host's refusal of a system call is to the caller.

    ``LimitReached`` (TOO_MANY_OPEN_FILES), else ``HostFailed`` with the ``path``, if any.
    """
    text = error.strerror or str(error)
    path = error.filename
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return LimitReached(text, reason="TOO_MANY_OPEN_FILES", error=text)
    if not isinstance(path, str | bytes):
        return HostFailed(f"the host refuses: {text}", error=text)
    name = path if isinstance(path, str) else path.decode(errors="replace")
    return HostFailed(f"the host refuses {name}: {text}", path=name, error=text)


@contextmanager
def host_failing(verb: str, path: object = "") -> Iterator[None]:
    """Raise an ``OSError`` of the block as ``HostFailed``: what can't be done, to what ``path``."""
    try:
        yield
    except OSError as error:
        text = error.strerror or str(error)
        failure = HostFailed(f"can't {verb} {path}".rstrip() + f": {text}", error=text)
        if path:
            failure.metadata["path"] = str(path)
        raise failure from error
