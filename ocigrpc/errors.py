"""What can go wrong, as exceptions that know nothing of gRPC.

``ocigrpc.rpc.errors`` has the one table of their status codes. ``reason`` is stable and meant
for programs; ``metadata`` holds every variable that the message mentions, so that nobody has to
parse prose. All are made in one way, from a message, a reason and metadata, and so a client can
make them again from what it was sent; ``of`` is the short form of those whose message is fixed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar, NamedTuple, Self

# Longest text of a program that an error carries: statuses travel in trailers.
PROGRAM_TEXT_LIMIT_BYTES = 2048

# Most wrong fields that one error names, for the same reason.
VIOLATIONS_LIMIT = 16


def cut(text: str, limit_bytes: int = PROGRAM_TEXT_LIMIT_BYTES) -> str:
    """``text`` without outer white space, cut to ``limit_bytes`` of UTF-8."""
    encoded = text.strip().encode(errors="replace")
    if len(encoded) <= limit_bytes:
        return encoded.decode()
    return encoded[:limit_bytes].decode(errors="ignore") + " [...]"


class OcigrpcError(Exception):
    """Any failure that the service reports; this kind itself is a defect of the service.

    ``reason`` is an UPPER_SNAKE_CASE word, ``message`` a sentence, ``metadata`` the
    variables of the sentence, all strings. ``more_reasons`` are those that this kind can
    have besides the one that it has by default.
    """

    reason = "UNEXPECTED"
    more_reasons: ClassVar[str] = ""

    def __init__(self, message: str, /, *, reason: str = "", **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        if reason:
            self.reason = reason
        self.metadata = {key: str(value) for key, value in metadata.items()}

    @classmethod
    def reasons(cls) -> Collection[str]:
        """All the reasons that this kind of error can have."""
        return cls.reason, *cls.more_reasons.split()


class Violation(NamedTuple):
    """One wrong field of a request: its path, and what is wrong with it."""

    field: str
    description: str


class InvalidArgument(OcigrpcError):
    """The request is malformed; nothing was changed.

    ``field`` in the metadata is the first wrong field, ``violations`` are all of them.
    """

    reason = "INVALID_ARGUMENT"
    more_reasons = (
        "ACCOUNTS_UNREADABLE ARCHIVE_MALFORMED CAPABILITY_NOT_HELD CONFLICT DEVICE_NOT_FOUND "
        "DUPLICATE EMPTY_KEY GROUP_NOT_FOUND HOST_PATH_NOT_FOUND ID_NOT_MAPPED INVALID_BUNDLE "
        "INVALID_CGROUP_PARENT INVALID_CONTAINER_ID INVALID_IMAGE_NAME INVALID_INTERVAL "
        "INVALID_KIND INVALID_LOG_PATH INVALID_NAME INVALID_PAGE_TOKEN INVALID_PLATFORM "
        "INVALID_POLICY INVALID_SIGNAL INVALID_SPEC INVALID_STATE INVALID_STREAM INVALID_TIMEOUT "
        "LOG_DIRECTORY_MISSING MALFORMED MALFORMED_MESSAGE MOUNT_NOT_SHARED NAMESPACE_NOT_FOUND "
        "NAMESPACE_WRONG_TYPE NOT_APPLICABLE NOT_AVAILABLE NOT_A_DEVICE NOT_SUPPORTED NUL_BYTE "
        "OUT_OF_RANGE PATH_IS_ROOT PATH_NOT_ABSOLUTE PATH_NOT_SEARCHABLE REQUIRED ROOTFS_NOT_FOUND "
        "SECCOMP_MALFORMED SECCOMP_UNREADABLE SOURCE_UNREADABLE START_AGAIN START_MISSING "
        "SYSCTL_NOT_NAMESPACED TOO_LARGE TOO_LONG TOO_MANY UNKNOWN_CAPABILITY UNKNOWN_ENUM "
        "UNKNOWN_RLIMIT UNKNOWN_RUNTIME_HANDLER USER_NOT_FOUND"
    )

    def __init__(self, message: str, /, *, reason: str = "", **metadata: object) -> None:
        super().__init__(message, reason=reason, **metadata)
        field = self.metadata.get("field", "")
        first = Violation(field, message.removeprefix(f"{field}: "))
        self.violations: Sequence[Violation] = (first,)

    @classmethod
    def of(cls, field: str, description: str, *, reason: str = "", **metadata: object) -> Self:
        """The error for one wrong field."""
        return cls(f"{field}: {description}", reason=reason, field=field, **metadata)

    @classmethod
    def joined(cls, errors: Sequence[InvalidArgument]) -> InvalidArgument:
        """One error for all of ``errors``, at least one, with the message of the first.

        Its violations are those of all, up to ``VIOLATIONS_LIMIT``.
        """
        first = errors[0]
        violations = [each for error in errors for each in error.violations]
        first.violations = violations[:VIOLATIONS_LIMIT]
        return first

    def below(self, field: str) -> InvalidArgument:
        """The same error for a message that a request has in ``field``."""
        return self.with_violations(
            [Violation(f"{field}.{each.field}", each.description) for each in self.violations]
        )

    def with_violations(self, violations: Sequence[Violation]) -> InvalidArgument:
        """The same error, of which something else is said."""
        first = violations[0]
        metadata = {**self.metadata, "field": first.field}
        message = f"{first.field}: {first.description}"
        error = InvalidArgument(message, reason=self.reason, **metadata)
        error.violations = violations
        return error


class InvalidSettings(OcigrpcError):
    """The settings can't be used; the metadata names the ``key``."""

    reason = "INVALID_SETTINGS"
    more_reasons = (
        "CERTIFICATE_UNUSABLE OPEN_FILES_LIMIT SOCKET_DIRECTORY_CLOSED SOCKET_DIRECTORY_UNSAFE "
        "SOCKET_PATH_TAKEN UNKNOWN_GROUP"
    )


class ContainerNotFound(OcigrpcError):
    """No container has this id."""

    reason = "CONTAINER_NOT_FOUND"

    @classmethod
    def of(cls, container_id: str) -> Self:
        """The error for a container that does not exist."""
        return cls(f"no container {container_id!r}", container_id=container_id)


class PathNotFound(OcigrpcError):
    """The container has no such file or directory."""

    reason = "PATH_NOT_FOUND"


class ContainerExists(OcigrpcError):
    """The id, the name or the cgroup is taken by another container."""

    reason = "CONTAINER_EXISTS"
    more_reasons = "CGROUP_IN_USE LOG_PATH_IN_USE NAME_IN_USE RUNTIME_ID_IN_USE"


class WrongState(OcigrpcError):
    """The container's state does not allow the call."""

    reason = "WRONG_STATE"

    @classmethod
    def of(cls, container_id: str, state: str, wanted: str) -> Self:
        """The error for a container that is ``state``, and should be ``wanted``."""
        message = f"container {container_id!r} is {state}, not {wanted}"
        return cls(message, container_id=container_id, state=state, wanted=wanted)


class PreconditionFailed(OcigrpcError):
    """The container's monitor, files or processes don't allow the call."""

    reason = "PRECONDITION_FAILED"
    more_reasons = (
        "BUNDLE_EXISTS CGROUP_NOT_OURS FILE_CHANGED ID_MAPPING_UNSUPPORTED LOG_DIRECTORY_MISSING "
        "LOG_EXISTS LOG_MISSING "
        "LOG_NOT_ROTATED MONITOR_LOST MOUNT_IN_THE_WAY NOT_A_DIRECTORY NO_TERMINAL "
        "OPTION_UNKNOWN PATH_NOT_SEARCHABLE PATH_READ_ONLY PATH_UNUSABLE PROCESS_OUTSIDE_CGROUP "
        "ROOTFS_QUOTA_UNSUPPORTED RUNTIME_CONTAINER_REPLACED STDIN_NOT_OPEN STDIN_STAYS_OPEN "
        "STILL_FROZEN WRONG_FILE_TYPE"
    )


class PermissionDenied(OcigrpcError):
    """The caller may not do this."""

    reason = "PERMISSION_DENIED"
    more_reasons = "READ_ONLY"


class NotImplementedHere(OcigrpcError):
    """The service has no such call."""

    reason = "UNKNOWN_METHOD"


class Busy(OcigrpcError):
    """Another change of the same container is under way."""

    reason = "CONTAINER_BUSY"

    @classmethod
    def of(cls, container_id: str, verb: str) -> Self:
        """The error for a container that is in the middle of ``verb``."""
        message = f"container {container_id!r} is busy with {verb}"
        return cls(message, container_id=container_id, verb=verb)


class LimitReached(OcigrpcError):
    """A limit of the service is reached; fewer calls or containers at once would work."""

    reason = "LIMIT_REACHED"
    more_reasons = (
        "ATTACH_TOO_SLOW DISK_FULL EVENTS_TOO_SLOW TOO_MANY_CALLS TOO_MANY_CONTAINERS "
        "TOO_MANY_LEFT TOO_MANY_OPEN_FILES TOO_MANY_STREAMS"
    )


class Timeout(OcigrpcError):
    """A deadline ran out, the caller's or the service's own."""

    reason = "TIMEOUT"
    more_reasons = (
        "CREATE_TIMEOUT EXEC_TIMEOUT LOG_REOPEN_TIMEOUT PAUSE_TIMEOUT PULL_STALLED REMOVE_TIMEOUT "
        "REQUEST_TIMEOUT RUNTIME_TIMEOUT STOP_TIMEOUT STORAGE_LOCKED"
    )


class Cancelled(OcigrpcError):
    """The client cancelled the call, or went away."""

    reason = "CANCELLED"


class Recovering(OcigrpcError):
    """The service has just started and is still finding its containers."""

    reason = "RECOVERING"


class ShuttingDown(OcigrpcError):
    """The service is stopping and takes no new calls."""

    reason = "SHUTTING_DOWN"


class RuntimeFailed(OcigrpcError):
    """The OCI runtime failed; what it printed is ``output`` in the metadata."""

    reason = "RUNTIME_FAILED"
    more_reasons = (
        "CONTAINER_ENDED EXEC_FAILED RUNTIME_NOT_CONFIGURED RUNTIME_NOT_FOUND "
        "RUNTIME_OUTPUT_MALFORMED"
    )


class CannotRun(RuntimeFailed):
    """The request asks for something impossible here; neither runtime nor node is broken.

    What the runtime printed, if it was run, is ``output`` in the metadata.
    """

    reason = "CANNOT_RUN"
    more_reasons = (
        "HOOK_FAILED LIMIT_REFUSED MEMORY_ABOVE_SWAP MEMORY_IN_USE MEMORY_LIMIT_TOO_LOW "
        "MOUNT_FAILED NAMESPACE_UNUSABLE PROGRAM_KILLED PROGRAM_NOT_EXECUTABLE PROGRAM_NOT_FOUND "
        "RLIMIT_REFUSED SECCOMP_REFUSED SECURITY_LABEL_UNUSABLE SYSCTL_REFUSED WORKING_DIR_UNUSABLE"
    )


class MonitorFailed(OcigrpcError):
    """conmon failed; what it printed is ``output`` in the metadata."""

    reason = "MONITOR_FAILED"
    more_reasons = "LOG_REOPEN_UNCERTAIN MONITOR_GONE MONITOR_PID_MISSING SYNC_MALFORMED"


class CgroupFailed(OcigrpcError):
    """The kernel or the init system refused a cgroup, a scope or a slice."""

    reason = "CGROUP_FAILED"
    more_reasons = (
        "BUS_UNREACHABLE CGROUPS_MISSING CGROUP_OUTSIDE CGROUP_OWN CGROUP_PATH_INVALID "
        "SCOPE_EXISTS SCOPE_FAILED SCOPE_NAME_INVALID SLICE_NAME_INVALID SYSTEMD_UNREACHABLE"
    )


class StoreFailed(OcigrpcError):
    """The store can't be read or written; the metadata names its ``path``."""

    reason = "STORE_FAILED"
    more_reasons = (
        "STORE_CORRUPT STORE_FOREIGN STORE_MISSING STORE_NEWER STORE_OLDER STORE_OUTDATED "
        "STORE_REPLACED"
    )


class HostFailed(OcigrpcError):
    """The host refused a file, directory or process; the metadata names it."""

    reason = "HOST_FAILED"
    more_reasons = (
        "ADDRESS_UNUSABLE DIRECTORY_IN_USE DIRECTORY_UNUSABLE KEYRING_FAILED MONITOR_NOT_FOUND "
        "NOT_ROOT NO_WATCHES_LEFT PROGRAM_BROKEN PROGRAM_NOT_FOUND PROGRAM_NOT_STARTED "
        "SECCOMP_PROFILE_BROKEN SOCKET_IN_USE"
    )
