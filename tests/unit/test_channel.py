"""Addresses as gRPC has them."""

from __future__ import annotations

import os
from urllib.parse import quote, unquote_to_bytes

import pytest

from ocigrpc.client.channel import target_of


@pytest.mark.parametrize(
    "path",
    ["/run/ocigrpc.sock", "/a-b_c.d~e", "/a b%41?c#d", "/\xfc\u20ac", os.fsdecode(b"/\xff\n")],
)
def test_the_path_of_a_socket_is_quoted_as_in_a_uri(path: str) -> None:
    target = target_of(f"unix://{path}")
    assert target == f"unix:{quote(os.fsencode(path))}"
    assert unquote_to_bytes(target.removeprefix("unix:")) == os.fsencode(path)
