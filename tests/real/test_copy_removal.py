"""A copy that a removal overtakes: neither harms the other."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.containers.teardown import teardown
from ocigrpc.engine.copying.archive_in import CopyTarget, copy_into
from ocigrpc.engine.copying.archive_out import CopySource, copy_out
from ocigrpc.engine.model.rootfs import NoRootFilesystems
from ocigrpc.engine.store.store import Store
from ocigrpc.errors import ContainerNotFound
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline
from tests.bed.bundles.archives import archive, member
from tests.bed.hosts.leaks import LIMIT_S
from tests.unit.test_store import RECORD

COPY_OUT = CopySource("c1", "/", ".")
COPY_INTO = CopyTarget("c1", "/")


class OneRoot(NoRootFilesystems):
    """A directory as the root filesystem of one container."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.released_with: list[str] = []

    def ensure_mounted(self, rootfs_id: str) -> str:
        """The directory."""
        return str(self.path)

    def release(self, rootfs_id: str, deadline: Deadline) -> None:
        """Remove what is in it, as what is below an overlay goes while the overlay is open."""
        self.released_with = os.listdir(self.path)
        for each in self.path.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()


@pytest.fixture
def roots(tmp_path: Path) -> OneRoot:
    for name in ("a", "b"):
        (tmp_path / "root" / name).mkdir(parents=True)
        (tmp_path / "root" / name / "large").write_bytes(b"x" * (1 << 20))
    return OneRoot(tmp_path / "root")


@pytest.fixture
def container(tmp_path: Path, roots: OneRoot) -> Iterator[Container]:
    """One that has ended, and whose root is lent."""
    context = Context(Settings(run_dir=str(tmp_path / "run")), Hierarchies.detect())
    context.roots = roots
    record = msgspec.structs.replace(
        RECORD, cgroup_parent=f"/{tmp_path.name}", init=None, init_program=None, rootfs_id="r"
    )
    with closing(Store(tmp_path / "store", 100)) as store:
        container = Container(record, store, context)
        container.settled.set()
        yield container


def test_a_copy_out_that_files_were_taken_from_is_no_whole_one(container: Container) -> None:
    pieces = copy_out(container, COPY_OUT, Deadline(LIMIT_S))
    next(pieces)
    next(pieces)
    assert teardown(container, Deadline(LIMIT_S)) == []
    with pytest.raises(ContainerNotFound):
        list(pieces)


def test_a_copy_into_ends_before_the_files_go(container: Container, roots: OneRoot) -> None:
    deadline = Deadline(LIMIT_S)
    removal = threading.Thread(target=teardown, args=(container, Deadline(LIMIT_S)))

    def endless() -> Iterator[bytes]:
        yield archive((member("half"), b"x" * 9000))[:5000]
        assert (roots.path / "half").exists()
        removal.start()
        deadline.wait()

    with pytest.raises(ContainerNotFound):
        copy_into(container, COPY_INTO, endless(), deadline)
    removal.join(LIMIT_S)
    assert sorted(roots.released_with) == ["a", "b"]
    assert os.listdir(roots.path) == []


def test_when_files_have_begun_to_go_no_copy_begins(container: Container) -> None:
    assert teardown(container, Deadline(LIMIT_S)) == []
    with pytest.raises(ContainerNotFound):
        list(copy_out(container, COPY_OUT, Deadline(LIMIT_S)))
    with pytest.raises(ContainerNotFound):
        copy_into(container, COPY_INTO, [archive(member("x"))], Deadline(LIMIT_S))


def test_a_removal_does_not_wait_for_ever_for_a_copy(
    container: Container, roots: OneRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocigrpc.engine.containers.container._FILES_WAIT_S", 0.05)
    # As one that a dead file system holds.
    with container.files.one():
        assert teardown(container, Deadline(LIMIT_S)) == []
    assert os.listdir(roots.path) == []
