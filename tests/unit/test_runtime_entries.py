"""What a runtime is known by: where it keeps what it knows of a container, and how it pauses."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from ocigrpc.engine.containers.context import Context
from ocigrpc.host.cgroups.hierarchy import Hierarchies, Kind
from ocigrpc.oci.runtime import Runtime, pauses_by_freezer
from ocigrpc.settings.values import RuntimeHandler, Settings


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


@pytest.mark.parametrize(
    ("path", "is_freezer"),
    [
        ("/opt/runc", True),
        ("/opt/crun", True),
        # Its pause is noted in a file of its own, and its state read from there.
        ("/opt/youki", False),
        ("/opt/runc-1.2", False),
        ("/opt/kata-runtime", False),
    ],
)
def test_a_runtime_that_only_freezes_is_known_by_its_name(path: str, is_freezer: bool) -> None:
    assert pauses_by_freezer(path) == is_freezer


def test_a_link_goes_by_the_name_of_what_it_leads_to(tmp_path: Path) -> None:
    for name, other in (("crun", "runsc"), ("runtime", "runc")):
        (tmp_path / other).write_text("#!/bin/sh\n")
        (tmp_path / other).chmod(0o755)
        (tmp_path / name).symlink_to(other)
    assert not pauses_by_freezer(str(tmp_path / "crun"))
    assert pauses_by_freezer(str(tmp_path / "runtime"))


@pytest.mark.parametrize(
    ("path", "pause", "is_freezer"),
    [
        ("/opt/runc", "auto", True),
        ("/opt/runc", "runtime", False),
        ("/opt/kata", "auto", False),
        ("/opt/kata", "freezer", True),
    ],
)
def test_the_settings_decide_how_a_runtime_pauses(
    path: str, pause: Literal["auto", "freezer", "runtime"], is_freezer: bool
) -> None:
    settings = Settings(runtimes={"runc": RuntimeHandler(path=path, pause=pause)})
    context = Context(settings, Hierarchies(Kind.V2, ()))
    assert context.runtime("runc").pauses_by_freezer == is_freezer
