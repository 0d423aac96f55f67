"""``reason.proto`` lists every reason that a client can get, as the code gives it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from ocigrpc.rpc.errors import code_of
from ocigrpc.v1.reason_pb2 import Reason
from tests.unit.reasons_in_code import KINDS, reasons_in_code

PROTO = Path(__file__).parents[2] / "protos/ocigrpc/v1/reason.proto"
VALUE = re.compile(r"((?:  // .*\n)+)  REASON_(\w+) = [1-9]\d*;")
HEAD = re.compile(r"(?P<codes>[A-Z_]+(?: or [A-Z_]+)?)(?: with (?P<keys>`\w+`(?:, `\w+`)*))?: \S.*")

# Reasons for which the service does not start, or does not read certificates again: only its log
# has them.
WITHOUT_CLIENTS = set(
    "ADDRESS_UNUSABLE CERTIFICATE_UNUSABLE DIRECTORY_IN_USE DIRECTORY_UNUSABLE INVALID_SETTINGS "
    "NOT_ROOT OPEN_FILES_LIMIT PROGRAM_BROKEN SOCKET_DIRECTORY_CLOSED SOCKET_DIRECTORY_UNSAFE "
    "SOCKET_IN_USE SOCKET_PATH_TAKEN STORE_FOREIGN STORE_MISSING STORE_NEWER STORE_OLDER "
    "STORE_OUTDATED UNKNOWN_GROUP".split()
)

# How to install a program, which the service only says at its start.
KEYS_WITHOUT_CLIENTS = {"install"}

# Keys of an error that another one is made of: of a runtime that was run, or a process.
INHERITED = {"error", "exit_code", "output", "path", "runtime_handler", "undone", "verb"}

FOUND = reasons_in_code()


class Documented(NamedTuple):
    codes: set[str]
    keys: set[str]


def documented() -> dict[str, Documented]:
    """What the comments of the values say."""
    values = {}
    for comment, reason in VALUE.findall(PROTO.read_text()):
        head = HEAD.fullmatch(" ".join(line.strip(" /") for line in comment.splitlines()))
        assert head is not None, reason
        keys = set(re.findall(r"\w+", head["keys"] or ""))
        values[reason] = Documented(set(head["codes"].split(" or ")), keys)
    return values


DOCUMENTED = documented()


def seen_keys(reason: str) -> set[str]:
    found = (keys for (_, each), keys in FOUND.items() if each == reason)
    return set().union(*found) - KEYS_WITHOUT_CLIENTS


def test_every_reason_of_the_code_is_listed_and_no_other() -> None:
    assert set(DOCUMENTED) == {reason for _, reason in FOUND} - WITHOUT_CLIENTS


def test_reasons_that_no_client_gets_are_in_the_code() -> None:
    assert {reason for _, reason in FOUND} >= WITHOUT_CLIENTS


def test_every_value_has_a_comment_that_can_be_read() -> None:
    values = {each.name.removeprefix("REASON_") for each in Reason.DESCRIPTOR.values}
    assert values - {"UNSPECIFIED"} == set(DOCUMENTED)


@pytest.mark.parametrize("reason", sorted(DOCUMENTED))
def test_comment_has_the_status_of_the_exception(reason: str) -> None:
    kinds = {kind for kind, each in FOUND if each == reason}
    codes = {code_of(KINDS[kind]("")).name for kind in kinds}
    assert DOCUMENTED[reason].codes == codes


@pytest.mark.parametrize("reason", sorted(DOCUMENTED))
def test_comment_has_the_keys_of_the_metadata(reason: str) -> None:
    seen = seen_keys(reason)
    assert seen <= DOCUMENTED[reason].keys <= seen | INHERITED
