"""The one table from exceptions to gRPC statuses, and the way there and back."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf import any as any_message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from ocigrpc import errors, image_errors
from ocigrpc.errors import InvalidArgument, OcigrpcError, Violation, cut

# ``domain`` of every ``google.rpc.ErrorInfo``.
DOMAIN = "ocigrpc"

# Most that a status takes: clients refuse trailers of more than 8 KiB altogether.
TRAILER_LIMIT_BYTES = 7168

_CODES: Mapping[type[OcigrpcError], grpc.StatusCode] = {
    OcigrpcError: grpc.StatusCode.INTERNAL,
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidSettings: grpc.StatusCode.INTERNAL,
    errors.ContainerNotFound: grpc.StatusCode.NOT_FOUND,
    image_errors.ImageNotFound: grpc.StatusCode.NOT_FOUND,
    errors.PathNotFound: grpc.StatusCode.NOT_FOUND,
    errors.ContainerExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PreconditionFailed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotImplementedHere: grpc.StatusCode.UNIMPLEMENTED,
    errors.Busy: grpc.StatusCode.ABORTED,
    errors.LimitReached: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Timeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.Recovering: grpc.StatusCode.UNAVAILABLE,
    errors.ShuttingDown: grpc.StatusCode.UNAVAILABLE,
    errors.CannotRun: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RuntimeFailed: grpc.StatusCode.INTERNAL,
    errors.MonitorFailed: grpc.StatusCode.INTERNAL,
    errors.CgroupFailed: grpc.StatusCode.INTERNAL,
    errors.StoreFailed: grpc.StatusCode.INTERNAL,
    errors.HostFailed: grpc.StatusCode.INTERNAL,
    image_errors.RegistryUnauthorized: grpc.StatusCode.UNAUTHENTICATED,
    image_errors.RegistryUnreachable: grpc.StatusCode.UNAVAILABLE,
    image_errors.StorageFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    image_errors.ImageUnusable: grpc.StatusCode.FAILED_PRECONDITION,
    image_errors.ImagesFailed: grpc.StatusCode.INTERNAL,
}

# What an operator can correct, and no client; these kinds, and these reasons of others.
_OF_NODE = (
    errors.InvalidSettings,
    errors.LimitReached,
    errors.Timeout,
    errors.RuntimeFailed,
    errors.MonitorFailed,
    errors.CgroupFailed,
    errors.StoreFailed,
    errors.HostFailed,
    image_errors.ImagesFailed,
    image_errors.StorageFull,
)
_REASONS_OF_NODE = frozenset({"CGROUP_NOT_OURS", "MOUNT_IN_THE_WAY", "STILL_FROZEN"})
# Of those kinds: a time that the client has set, a client that does not read or write, and a
# container that ended by itself.
_REASONS_OF_CLIENT = frozenset(
    {
        *("TIMEOUT", "EXEC_TIMEOUT", "REQUEST_TIMEOUT", "ATTACH_TOO_SLOW", "EVENTS_TOO_SLOW"),
        *("CONTAINER_ENDED", *errors.CannotRun.reasons()),
    }
)

# More than the path of any field has.
_FIELD_LIMIT_BYTES = 512
# At a limit for texts, one violation is kept for each of these.
_BYTES_OF_A_FIELD = 64
# Tried in turn: most texts are short, and a few long ones must not crowd out the rest.
_TEXT_LIMITS_BYTES = (errors.PROGRAM_TEXT_LIMIT_BYTES, 1024, 512, 256, 128, 64)


def code_of(error: OcigrpcError) -> grpc.StatusCode:
    """The status code of this kind of error, or of the kind that it is derived from."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def is_of_node(error: OcigrpcError) -> bool:
    """Whether somebody should look at the node, or its settings; no other request would help."""
    if error.reason in _REASONS_OF_CLIENT:
        return False
    return isinstance(error, _OF_NODE) or error.reason in _REASONS_OF_NODE


def status_of(error: OcigrpcError) -> grpc.Status:
    """The whole status: code, message, ``ErrorInfo`` and, for a wrong request, ``BadRequest``.

    Long texts are cut until the status fits into ``TRAILER_LIMIT_BYTES``.
    """
    for limit_bytes in _TEXT_LIMITS_BYTES:
        status = _status(error, limit_bytes)
        if _size_on_the_wire(status) <= TRAILER_LIMIT_BYTES:
            break
    else:
        status = Status(code=status.code, message=status.message)
    return rpc_status.to_status(status)


def error_of(status: Status) -> OcigrpcError | None:
    """The exception that a service made ``status`` of; None if it was no service of ours.

    A reason that is not known here, of a newer service, gives the first kind with the
    status code.
    """
    info, request = ErrorInfo(), BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(request)
    if info.domain != DOMAIN:
        return None
    kinds = [kind for kind, code in _CODES.items() if code.value[0] == status.code]
    known = (each for each in kinds if info.reason in each.reasons())
    kind = next(known, kinds[0] if kinds else OcigrpcError)
    error = kind(status.message, reason=info.reason)
    error.metadata = dict(info.metadata)
    if isinstance(error, InvalidArgument):
        error.violations = [
            Violation(each.field, each.description) for each in request.field_violations
        ]
    return error


def _status(error: OcigrpcError, limit_bytes: int) -> Status:
    metadata = {key: cut(value, limit_bytes) for key, value in error.metadata.items()}
    details = [any_message.pack(ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))]
    if isinstance(error, InvalidArgument):
        violations = [
            # Drop violations rather than cut the names of fields.
            BadRequest.FieldViolation(
                field=cut(each.field, _FIELD_LIMIT_BYTES),
                description=cut(each.description, limit_bytes),
            )
            for each in error.violations[: limit_bytes // _BYTES_OF_A_FIELD]
        ]
        details.append(any_message.pack(BadRequest(field_violations=violations)))
    number: int = code_of(error).value[0]
    return Status(code=number, message=cut(error.message, limit_bytes), details=details)


def _size_on_the_wire(status: Status) -> int:
    """Bytes of the message, percent-encoded, and of the details, in base64."""
    escaped = sum(1 if 0x20 <= byte < 0x7F else 3 for byte in status.message.encode())
    return escaped + status.ByteSize() * 4 // 3
