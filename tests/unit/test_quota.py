"""Quotas of projects, where the kernel has none, and which projects would be taken."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ocigrpc.engine.images.layers.quotas import Layer, Quotas, counted
from ocigrpc.engine.model.rootfs import RootfsRecord
from ocigrpc.errors import HostFailed, PreconditionFailed
from ocigrpc.host import quota

# A file system that has none in any kernel, and belongs to every host.
WITHOUT = "/proc/sys"
# Which of these depends on how old the kernel is, and how it was built.
UNSUPPORTED = r"Function not implemented|Invalid argument|Inappropriate ioctl|not supported"
EMPTY, USED = quota.ProjectUsage(0, 0, 0), quota.ProjectUsage(4096, 1, 0)


def test_a_file_system_without_quotas_supports_nothing(tmp_path: Path) -> None:
    assert quota.support(WITHOUT) == (False, False)
    assert quota.support(str(tmp_path / "none")) == (False, False)


def test_what_is_asked_of_it_nevertheless_is_an_error_of_the_kernel() -> None:
    with pytest.raises(OSError, match=WITHOUT):
        quota.project_of(WITHOUT)
    for call in (
        lambda: quota.usage(WITHOUT, 1),
        lambda: quota.set_limit(WITHOUT, 1, 1024),
        lambda: quota.set_project(WITHOUT, 1),
    ):
        with pytest.raises(OSError, match=UNSUPPORTED):
            call()


def test_noted_projects_are_those_of_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, trees = tmp_path / "projid", tmp_path / "projects"
    monkeypatch.setattr(quota, "_NAMES", str(names))
    monkeypatch.setattr(quota, "_TREES", str(trees))
    assert quota.noted_projects() == set()
    names.write_text("# names\nstorage:100000\nbroken\nvolumes: 7 \n")
    trees.write_text("#5:/no\n42:/srv/a\n42:/srv/b\nx:/srv\n\n")
    assert quota.noted_projects() == {100000, 7, 42}


def test_without_quotas_a_root_has_no_project_and_a_limit_is_refused() -> None:
    quotas = Quotas(WITHOUT)
    assert quotas.free((), 0) == 0
    with pytest.raises(PreconditionFailed) as refused:
        quotas.free((), 1 << 20)
    assert refused.value.reason == "ROOTFS_QUOTA_UNSUPPORTED"
    assert refused.value.metadata == {"field": "config.rootfs_limit_bytes", "path": WITHOUT}
    record = RootfsRecord("r", "c", "i")
    quotas.begin(record, "/none", "/none")
    quotas.end(record, "/none")
    quotas.end(record, WITHOUT)


def test_a_layer_that_has_left_its_project_is_not_counted(tmp_path: Path) -> None:
    assert counted("c", Layer(str(tmp_path))) is None
    assert counted("c", Layer(str(tmp_path), 7)) is None
    assert counted("c", Layer(str(tmp_path / "none"), 7)) is None


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[int, quota.ProjectUsage]:
    """What projects take on a disk that has quotas of projects."""
    taken = dict[int, quota.ProjectUsage]()
    monkeypatch.setattr(quota, "support", lambda path: quota.Support(True, True))
    monkeypatch.setattr(quota, "project_of", lambda path: 0)
    monkeypatch.setattr(quota, "noted_projects", set)
    monkeypatch.setattr(quota, "usage", lambda path, number: taken.get(number, EMPTY))
    return taken


def test_a_project_is_free_that_nobody_has_lent_noted_used_or_limited(
    disk: dict[int, quota.ProjectUsage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quotas = Quotas(str(tmp_path))
    first = quotas.free((), 0)
    assert first > 1 << 30
    disk[first] = USED
    disk[first + 1] = quota.ProjectUsage(0, 0, 1024)
    monkeypatch.setattr(quota, "noted_projects", lambda: {first + 2})
    assert quotas.free({first + 3}, 0) == first + 4


def test_without_a_free_project_a_root_has_none_and_a_limit_is_refused(
    disk: dict[int, quota.ProjectUsage], tmp_path: Path
) -> None:
    quotas = Quotas(str(tmp_path))
    first = quotas.free((), 0)
    lent = range(first, first + 100_000)
    assert quotas.free(lent, 0) == 0
    with pytest.raises(HostFailed) as refused:
        quotas.free(lent, 1 << 20)
    assert refused.value.metadata == {"path": str(tmp_path)}


def test_the_kernel_is_asked_of_some_thousand_projects_at_most(
    disk: dict[int, quota.ProjectUsage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[int]()

    def usage(path: str, number: int) -> quota.ProjectUsage:
        asked.append(number)
        return USED

    monkeypatch.setattr(quota, "usage", usage)
    assert Quotas(str(tmp_path)).free((), 0) == 0
    assert len(asked) <= 5000


def test_many_projects_that_follow_each_other_do_not_hide_those_that_are_free(
    disk: dict[int, quota.ProjectUsage], tmp_path: Path
) -> None:
    quotas = Quotas(str(tmp_path))
    first = quotas.free((), 0)
    disk.update(dict.fromkeys(range(first, first + 50_000), USED))
    for _ in range(3):
        assert first + 50_000 <= quotas.free((), 1 << 20) < first + 100_000


def test_below_a_project_of_somebody_there_are_none(
    disk: dict[int, quota.ProjectUsage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "project_of", lambda path: 5)
    assert Quotas(str(tmp_path)).free((), 0) == 0
    with pytest.raises(PreconditionFailed):
        Quotas(str(tmp_path)).free((), 1 << 20)


def test_a_project_that_another_has_taken_meanwhile_is_left_with_its_limit(
    disk: dict[int, quota.ProjectUsage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    projects, limits = dict[str, int](), dict[int, int]()
    monkeypatch.setattr(quota, "set_project", projects.__setitem__)
    monkeypatch.setattr(quota, "project_of", lambda path: projects.get(path, 0))
    monkeypatch.setattr(
        quota, "set_limit", lambda path, number, limit: limits.update({number: limit})
    )
    quotas = Quotas(str(tmp_path))
    mine = RootfsRecord("r", "c", "i", project_id=quotas.free((), 0), limit_bytes=1 << 20)
    disk[mine.project_id] = quota.ProjectUsage(3 << 12, 3, 7 << 20)
    with pytest.raises(HostFailed):
        quotas.begin(mine, "upper", "work")
    quotas.end(mine, "upper")
    assert (projects, limits) == ({"upper": 0, "work": 0}, {})
    disk[mine.project_id] = quota.ProjectUsage(2 << 12, 2, 0)
    quotas.begin(mine, "upper", "work")
    assert limits == {mine.project_id: 1 << 20}
    # Also when the record is lost.
    quotas.end(None, "upper")
    assert limits == {mine.project_id: 0}
    del limits[mine.project_id]
    projects["upper"] = 5
    for record in (mine, None):
        quotas.end(record, "upper")
    assert limits == {}


def test_a_kernel_that_refuses_a_limit_at_the_end_does_not_keep_a_root(
    disk: dict[int, quota.ProjectUsage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, number: int, limit_bytes: int) -> None:
        raise OSError(errno.ESRCH, "quotas are off")

    monkeypatch.setattr(quota, "set_limit", refuse)
    monkeypatch.setattr(quota, "project_of", lambda path: 7)
    Quotas(str(tmp_path)).end(RootfsRecord("r", "c", "i", project_id=7), "upper")
