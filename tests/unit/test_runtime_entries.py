"""Where a runtime keeps what it knows of a container, and what it may be killed over there."""

from __future__ import annotations

import pytest

from ocigrpc.oci.runtime import Runtime


@pytest.mark.parametrize(
    ("path", "argv", "entry"),
    [
        ("runc", (), "/run/runc/web"),
        ("/usr/sbin/runc", ("--debug",), "/run/runc/web"),
        ("crun", (), "/run/crun/web"),
        ("runc", ("--root", "/a/"), "/a/web"),
        ("any", ("--root=/a",), "/a/web"),
        ("runc", ("--root", "/a", "--root", "/b"), "/b/web"),
        ("any", (), ""),
        ("runc", ("--root", "relative"), ""),
        ("runc", ("--root",), ""),
    ],
)
def test_the_entry_of_a_container_is_in_the_root(
    path: str, argv: tuple[str, ...], entry: str
) -> None:
    assert Runtime("any", path, argv).entry_path("web") == entry


@pytest.mark.parametrize(
    ("mount_point", "source", "is_own"),
    [
        ("/run/runc/web/runc.aB3dEf", "/usr/sbin/runc", True),
        ("/run/runc/web/runc.aB3dEf", "/usr/sbin/runc//deleted", True),
        ("/run/crun/web/crun.aB3dEf", "/usr/bin/crun", True),
        ("/run/runc/web/runc.aB3dEf", "/usr/sbin/runc-1.2", False),
        ("/run/runc/web/runc.aB3dEf", "/srv/data", False),
        ("/run/runc/web/runc.aB3dEfG", "/usr/sbin/runc", False),
        ("/run/runc/web/data", "/usr/sbin/runc", False),
    ],
)
def test_a_runtime_mounts_nothing_but_its_own_program(
    mount_point: str, source: str, is_own: bool
) -> None:
    assert Runtime("any", "/bin/sh").is_own_mount(mount_point, source) == is_own


def test_a_program_of_another_name_is_its_own_as_well() -> None:
    runtime = Runtime("any", "/opt/runc-1.2")
    assert runtime.is_own_mount("/run/runc/web/runc.aB3dEf", "/opt/runc-1.2")
