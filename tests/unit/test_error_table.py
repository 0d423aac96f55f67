"""The table from exceptions to gRPC statuses, and what fits into a status."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st

from ocigrpc.errors import (
    InvalidArgument,
    OcigrpcError,
    PreconditionFailed,
    RuntimeFailed,
    Violation,
    WrongState,
)
from ocigrpc.rpc import errors
from ocigrpc.rpc.errors import TRAILER_LIMIT_BYTES, code_of, error_of, status_of
from tests.unit.reasons_in_code import reasons_in_code


def kinds(kind: type[OcigrpcError] = OcigrpcError) -> Iterator[type[OcigrpcError]]:
    """The exceptions of the service; the client has more, and a test may have made some."""
    yield kind
    for each in kind.__subclasses__():
        if each.__module__.startswith("ocigrpc.") and "client" not in each.__module__.split("."):
            yield from kinds(each)


def test_every_exception_has_a_row_of_its_own_and_nothing_else_has() -> None:
    assert set(errors._CODES) == set(kinds())


def test_no_exception_is_ok_or_unknown() -> None:
    assert not {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN} & set(errors._CODES.values())


def test_more_special_exception_has_the_row_of_its_kind() -> None:
    class Special(WrongState):
        pass

    special = Special.of("c1", "paused", "running")
    assert code_of(special) is grpc.StatusCode.FAILED_PRECONDITION


def details_of(error: OcigrpcError) -> tuple[Status, ErrorInfo, BadRequest]:
    """What the trailers of ``error`` hold."""
    sent = status_of(error)
    [(key, value)] = sent.trailing_metadata
    assert key == "grpc-status-details-bin"
    assert isinstance(value, bytes)
    status = Status.FromString(value)
    info, bad_request = ErrorInfo(), BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad_request)
    return status, info, bad_request


def test_status_says_what_the_exception_says() -> None:
    status, info, bad_request = details_of(WrongState.of("c1", "paused", "running"))
    assert status.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert (info.domain, info.reason) == ("ocigrpc", "WRONG_STATE")
    assert dict(info.metadata) == {"container_id": "c1", "state": "paused", "wanted": "running"}
    assert not bad_request.field_violations


def test_wrong_request_has_one_violation_for_each_field() -> None:
    error = InvalidArgument.joined(
        [InvalidArgument.of("a", "is a"), InvalidArgument.of("b", "is b")]
    )
    _, _, bad_request = details_of(error)
    found = [(each.field, each.description) for each in bad_request.field_violations]
    assert found == [("a", "is a"), ("b", "is b")]


def test_two_kilobytes_of_a_programs_output_arrive_whole() -> None:
    words = "w" * 2048
    _, info, _ = details_of(RuntimeFailed("runc failed", output=words))
    assert info.metadata["output"] == words


def every_kind_and_reason() -> list[tuple[type[OcigrpcError], str]]:
    return [(kind, reason) for kind in kinds() for reason in kind.reasons()]


@pytest.mark.parametrize(("kind", "reason"), every_kind_and_reason())
def test_exception_is_made_again_from_what_is_sent(kind: type[OcigrpcError], reason: str) -> None:
    sent = kind("a: is wrong", reason=reason, field="a", container_id="c1")
    made = error_of(details_of(sent)[0])
    assert made is not None
    assert (type(made), made.reason, made.message) == (kind, reason, sent.message)
    assert made.metadata == {"field": "a", "container_id": "c1"}
    if isinstance(made, InvalidArgument):
        assert list(made.violations) == [Violation("a", "is wrong")]


def test_all_violations_are_made_again() -> None:
    sent = InvalidArgument.joined(
        [InvalidArgument.of("a", "is a"), InvalidArgument.of("b", "is b")]
    )
    made = error_of(details_of(sent)[0])
    assert isinstance(made, InvalidArgument)
    assert list(made.violations) == [Violation("a", "is a"), Violation("b", "is b")]


def test_reason_of_a_newer_service_gives_a_kind_with_the_same_code() -> None:
    made = error_of(details_of(WrongState("no", reason="NEWER"))[0])
    assert isinstance(made, WrongState | PreconditionFailed)
    assert made.reason == "NEWER"


def test_status_of_another_service_is_no_exception_of_ours() -> None:
    assert error_of(Status(code=5, message="not found")) is None


def test_every_reason_in_the_code_is_one_of_its_exception_and_every_other_is_in_the_code() -> None:
    defaults = {(kind.__name__, kind.reason) for kind in kinds()}
    known = {(kind.__name__, reason) for kind, reason in every_kind_and_reason()}
    assert known == defaults | set(reasons_in_code())


# What the wire makes of a text is anything from its bytes to three times their number.
_TEXTS = st.builds(
    lambda unit, times: unit * times, st.text(min_size=1, max_size=4), st.integers(0, 20_000)
)


@settings(deadline=None)
@given(message=_TEXTS, values=st.lists(_TEXTS, max_size=6))
def test_status_fits_into_the_trailers_with_its_reason(message: str, values: list[str]) -> None:
    metadata = {f"key{index}": value for index, value in enumerate(values)}
    status, info, _ = details_of(RuntimeFailed(message, **metadata))
    assert info.reason == "RUNTIME_FAILED"
    assert set(info.metadata) == set(metadata)
    assert wire_size(status) <= TRAILER_LIMIT_BYTES


@settings(deadline=None)
@given(text=_TEXTS)
def test_wrong_request_fits_into_the_trailers_with_its_fields(text: str) -> None:
    error = InvalidArgument.joined([InvalidArgument.of(text, text) for _ in range(100)])
    status, _, bad_request = details_of(error)
    assert bad_request.field_violations
    assert wire_size(status) <= TRAILER_LIMIT_BYTES


def test_names_of_fields_stay_whole_beside_long_descriptions() -> None:
    fields = [f"config.mounts[{number}].{'option' * 30}" for number in range(100)]
    error = InvalidArgument.joined([InvalidArgument.of(field, "é" * 2000) for field in fields])
    _, _, bad_request = details_of(error)
    named = [each.field for each in bad_request.field_violations]
    assert named
    assert named == fields[: len(named)]


def wire_size(status: Status) -> int:
    escaped = sum(1 if 32 <= byte < 127 else 3 for byte in status.message.encode())
    return escaped + len(status.SerializeToString()) * 4 // 3
