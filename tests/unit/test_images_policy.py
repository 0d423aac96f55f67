"""Which policies may ask for signatures."""

from __future__ import annotations

import json

import pytest

from ocigrpc.oci.images_policy import wants_signatures

ANYTHING, REJECT = {"type": "insecureAcceptAnything"}, {"type": "reject"}
SIGNED = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/key"}


def _policy(default: dict[str, str], *scope: dict[str, str]) -> bytes:
    transports = {"docker": {"r.io": [REJECT], "r.io/a": scope}} if scope else {}
    return json.dumps({"default": [default], "transports": transports}).encode()


@pytest.mark.parametrize(
    "text",
    [
        _policy(ANYTHING),
        _policy(REJECT, ANYTHING),
        b'{"default": [{"type": "insecureAcceptAnything"}]}',
    ],
)
def test_a_policy_without_keys_wants_no_signatures(text: bytes) -> None:
    assert not wants_signatures(text)


@pytest.mark.parametrize(
    "text",
    [
        _policy(SIGNED),
        _policy(REJECT, SIGNED),
        _policy(ANYTHING, ANYTHING, {"type": "sigstoreSigned"}),
        _policy(ANYTHING, {"type": "of a later version"}),
    ],
)
def test_one_requirement_of_any_scope_is_enough(text: bytes) -> None:
    assert wants_signatures(text)


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff", b'{"default": {}}', b"[" * 100_000])
def test_what_is_no_policy_counts_as_one_that_wants_signatures(text: bytes) -> None:
    assert wants_signatures(text)
