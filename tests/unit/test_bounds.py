"""Lists and maps of requests that are too long, refused before anything is done with them."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from ocigrpc.errors import VIOLATIONS_LIMIT, InvalidArgument
from ocigrpc.rpc.bounds import COUNT_LIMIT, check_counts
from ocigrpc.service.methods import COUNT_LIMITS
from ocigrpc.v1 import config_pb2, exec_pb2, runtime_pb2
from ocigrpc.violations import ARGUMENTS_LIMIT, Violations, entry_field

Config = config_pb2.ContainerConfig
Create = runtime_pb2.CreateContainerRequest


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (Create(labels={str(n): "" for n in range(COUNT_LIMIT + 1)}), "labels"),
        (Create(config=Config(mounts=[{}] * (COUNT_LIMIT + 1))), "config.mounts"),
        (Create(config=Config(args=[""] * (ARGUMENTS_LIMIT + 1))), "config.args"),
        (
            Create(config=Config(mounts=[{}, {"options": ["ro"] * 65}])),
            "config.mounts[1].options",
        ),
        (
            exec_pb2.ExecRequest(
                start=exec_pb2.ExecStart(
                    process=exec_pb2.ExecProcess(command=[""] * (ARGUMENTS_LIMIT + 1))
                )
            ),
            "start.process.command",
        ),
    ],
)
def test_too_many_of_anything_are_refused_by_the_fields_path(request_: Message, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_counts(request_, COUNT_LIMITS)
    assert caught.value.reason == "TOO_MANY"
    assert [each.field for each in caught.value.violations] == [field]


def test_as_many_as_are_allowed_are_taken() -> None:
    labels = {str(number): "" for number in range(COUNT_LIMIT)}
    config = Config(args=[""] * 10_000, mounts=[{"options": ["ro"] * 64}])
    check_counts(Create(labels=labels, config=config), COUNT_LIMITS)


def test_the_limits_are_of_fields_that_there_are() -> None:
    pool = runtime_pb2.DESCRIPTOR.pool
    assert all(pool.FindFieldByName(name).is_repeated for name in COUNT_LIMITS)


def test_no_more_violations_are_kept_than_are_sent() -> None:
    found = Violations()
    for number in range(1000):
        found.add(f"field{number}", "is wrong", "MALFORMED")
    with pytest.raises(InvalidArgument) as caught:
        found.raise_any()
    fields = [each.field for each in caught.value.violations]
    assert fields == [f"field{number}" for number in range(VIOLATIONS_LIMIT)]


def test_the_path_of_an_entry_is_one_line_whatever_the_key() -> None:
    assert entry_field("labels", "a") == 'labels["a"]'
    assert entry_field("labels", 'a"\n') == 'labels["a\\"\\n"]'
    assert len(entry_field("labels", "x" * 10_000)) < 100
