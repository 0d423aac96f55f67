"""What has to work before containers can be made."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.health import probe_cgroups
from ocigrpc.errors import CgroupFailed
from ocigrpc.host.cgroups.hierarchy import Hierarchies, Hierarchy, Kind
from ocigrpc.settings.values import CgroupSettings, ConmonSettings, Settings
from ocigrpc.waiting import Deadline

SETTINGS = Settings(
    cgroup=CgroupSettings(parent="/containers"), conmon=ConmonSettings(cgroup_parent="/monitors")
)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    hierarchy = Hierarchy(str(tmp_path), "/", frozenset(), unified=True)
    return Context(SETTINGS, Hierarchies(Kind.V2, (hierarchy,)))


def test_a_probe_of_cgroups_leaves_the_parents_alone(context: Context, tmp_path: Path) -> None:
    probe_cgroups(context, Deadline())
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert found == {"containers", "monitors"}


@pytest.mark.parametrize("parent", ["containers", "monitors"])
def test_cgroups_are_probed_below_the_parent_of_containers_and_that_of_monitors(
    context: Context, tmp_path: Path, parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir

    def refuse(path: str, mode: int) -> None:
        if path.startswith(f"{tmp_path}/{parent}/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(CgroupFailed) as caught:
        probe_cgroups(context, Deadline())
    assert caught.value.metadata["path"].startswith(f"{tmp_path}/{parent}/ocigrpc-probe-")
