"""What ``doctor`` reads out of texts."""

from __future__ import annotations

import pytest

from ocigrpc.cli.doctor.programs import version_number


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("conmon version 2.1.6", (2, 1, 6)),
        ("runc version 1.1.5+ds1", (1, 1, 5)),
        ("crun version 1.8.1", (1, 8, 1)),
        ("6.18.44-fc-v595", (6, 18, 44)),
        ("crun version UNKNOWN", (0,)),
    ],
)
def test_version_is_the_first_number_with_a_dot(text: str, version: tuple[int, ...]) -> None:
    assert version_number(text) == version
