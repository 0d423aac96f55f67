"""What was made for an exec is given up at its end, whatever fails by then."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.sessions.exec_workspace import new_workspace
from ocigrpc.errors import CgroupFailed
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.controller import ControllerGroup


def unreadable(directory: Path) -> Cgroup:
    """A group whose frozen state can't be read."""
    (directory / "freezer.state").mkdir(parents=True)
    freezer = ControllerGroup(str(directory), str(directory), frozenset({"freezer"}), False)
    return Cgroup("/c", (freezer,))


def test_an_exec_whose_cgroup_can_not_be_ended_holds_no_descriptor(tmp_path: Path) -> None:
    group = unreadable(tmp_path / "group")
    found = SimpleNamespace(
        container_id="c1",
        paths=SimpleNamespace(bundle=str(tmp_path), run_dir=str(tmp_path)),
        cgroups=SimpleNamespace(container=group),
    )
    before = os.listdir("/proc/self/fd")
    workspace = new_workspace(cast(Container, found), kept=False)
    workspace.files.make({})
    (tmp_path / "group" / workspace.name).mkdir()
    with pytest.raises(CgroupFailed):
        workspace.close()
    assert os.listdir("/proc/self/fd") == before
