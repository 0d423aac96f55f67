"""Overlays on this kernel: what is seen, what is written, and what is left."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ocigrpc.errors import PreconditionFailed
from ocigrpc.host.files import overlay
from ocigrpc.host.files.overlay import (
    TooManyLayers,
    is_mount_point,
    mount_overlay,
    unmount_overlay,
)
from ocigrpc.host.files.tree import remove_tree
from tests.bed.hosts.mounted import mounted

# A kernel that has them, and one that has mount(2) alone.
_STEPS, _AT_ONCE = "lowerdir+", "mount(2)"


@pytest.fixture(params=[_STEPS, _AT_ONCE])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way of mounting."""
    if request.param == _AT_ONCE:
        # The number of no call: ENOSYS, as an old kernel has it.
        monkeypatch.setattr(overlay, "_FSOPEN", 100_000)
    return str(request.param)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """Where an overlay is mounted, and unmounted at the end."""
    directory = tmp_path / "root"
    for name in ("merged", "upper", "work"):
        (directory / name).mkdir(parents=True)
    yield directory / "merged"
    unmount_overlay(str(directory / "merged"))


def layers(store: Path, count: int) -> Sequence[str]:
    """Short links to so many layers, topmost first; layer N has the files N and "all"."""
    (store / "l").mkdir(parents=True)
    for number in range(count):
        (store / f"{number}/diff").mkdir(parents=True)
        (store / f"{number}/diff/{number}").write_text("")
        (store / f"{number}/diff/all").write_text(f"{number}")
        (store / f"l/{number:026}").symlink_to(f"../{number}/diff")
    return [f"l/{number:026}" for number in reversed(range(count))]


def mount(lower: Sequence[str], store: Path, target: Path, *, writable: bool = True) -> None:
    upper, work = (str(target.parent / name) if writable else "" for name in ("upper", "work"))
    mount_overlay(lower, str(target), store_dir=str(store), upper=upper, work=work)


def test_the_topmost_layer_covers_the_others(kernel: str, tmp_path: Path, target: Path) -> None:
    mount(layers(tmp_path / "store", 3), tmp_path / "store", target)
    assert sorted(os.listdir(target)) == ["0", "1", "2", "all"]
    assert (target / "all").read_text() == "2"


def test_what_is_written_is_in_the_upper_directory_alone(
    kernel: str, tmp_path: Path, target: Path
) -> None:
    store = tmp_path / "store"
    mount(layers(store, 2), store, target)
    (target / "all").write_text("own")
    (target / "0").unlink()
    assert (target.parent / "upper/all").read_text() == "own"
    assert [(store / f"{each}/diff/all").read_text() for each in (0, 1)] == ["0", "1"]
    assert (store / "0/diff/0").exists()


def test_without_an_upper_directory_nothing_can_be_written(
    kernel: str, tmp_path: Path, target: Path
) -> None:
    mount(layers(tmp_path / "store", 2), tmp_path / "store", target, writable=False)
    with pytest.raises(OSError, match="Read-only"):
        (target / "new").touch()


def test_paths_may_be_long_and_have_commas_and_colons(kernel: str, tmp_path: Path) -> None:
    directory = tmp_path / ("a,b:c\\" * 40) / ("d" * 200)
    for name in ("merged", "upper", "work"):
        (directory / name).mkdir(parents=True)
    merged = directory / "merged"
    mount(layers(directory / "store", 2), directory / "store", merged)
    try:
        (merged / "new").touch()
        assert (directory / "upper/new").exists()
    finally:
        unmount_overlay(str(merged))


def test_127_layers_are_mounted_either_way(kernel: str, tmp_path: Path, target: Path) -> None:
    mount(layers(tmp_path / "store", 127), tmp_path / "store", target)
    assert len(os.listdir(target)) == 128


def test_500_layers_need_a_kernel_that_takes_them_one_by_one(
    kernel: str, tmp_path: Path, target: Path
) -> None:
    lower = layers(tmp_path / "store", 500)
    if kernel == _STEPS:
        mount(lower, tmp_path / "store", target)
        assert len(os.listdir(target)) == 501
    else:
        with pytest.raises(TooManyLayers):
            mount(lower, tmp_path / "store", target)
        assert not is_mount_point(str(target))


def test_the_working_directory_of_the_process_stays(
    kernel: str, tmp_path: Path, target: Path
) -> None:
    before = Path.cwd()
    mount(layers(tmp_path / "store", 2), tmp_path / "store", target)
    assert Path.cwd() == before


@pytest.mark.parametrize("missing", ["layer", "target"])
def test_a_failure_leaves_no_mount_and_no_descriptor(
    kernel: str, missing: str, tmp_path: Path, target: Path
) -> None:
    lower = layers(tmp_path / "store", 2)
    if missing == "layer":
        (tmp_path / "store" / lower[1]).unlink()
    else:
        target.rmdir()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match=r".+"):
        mount(lower, tmp_path / "store", target)
    assert not is_mount_point(str(target))
    assert os.listdir("/proc/self/fd") == before


def test_an_option_that_the_kernel_does_not_know_is_refused(
    kernel: str, tmp_path: Path, target: Path
) -> None:
    lower = layers(tmp_path / "store", 2)
    with pytest.raises(OSError, match=r".+"):
        mount_overlay(lower, str(target), store_dir=str(tmp_path / "store"), options=["nonsense=1"])
    mount_overlay(lower, str(target), store_dir=str(tmp_path / "store"), options=["xino=off"])


def test_a_directory_from_elsewhere_is_above_the_layers(
    kernel: str, tmp_path: Path, target: Path
) -> None:
    (target.parent / "upper/all").write_text("own")
    mount_overlay(
        layers(tmp_path / "store", 1),
        str(target),
        store_dir=str(tmp_path / "store"),
        above=[str(target.parent / "upper")],
    )
    assert (target / "all").read_text() == "own"
    assert (target / "0").exists()


def test_a_wide_directory_in_an_overlay_is_removed_whole(
    kernel: str, tmp_path: Path, target: Path
) -> None:
    store = tmp_path / "store"
    lower = layers(store, 2)
    (store / "0/diff/wide").mkdir()
    (target.parent / "upper/wide").mkdir()
    for number in range(600):
        (target.parent / f"upper/wide/{number}/below").mkdir(parents=True)
    mount(lower, store, target)
    remove_tree(str(target), str(target / "wide"))
    assert not (target / "wide").exists()


def test_it_is_unmounted_while_its_files_are_open(
    kernel: str, tmp_path: Path, target: Path
) -> None:
    mount(layers(tmp_path / "store", 2), tmp_path / "store", target)
    with (target / "all").open() as file:
        unmount_overlay(str(target))
        assert not is_mount_point(str(target))
        assert file.read() == "1"
    unmount_overlay(str(target))
    assert list(target.iterdir()) == []


def test_every_overlay_there_is_unmounted(tmp_path: Path, target: Path) -> None:
    lower = layers(tmp_path / "store", 2)
    for _ in range(3):
        mount(lower, tmp_path / "store", target, writable=False)
    unmount_overlay(str(target))
    assert not is_mount_point(str(target))


def test_a_mount_of_another_kind_is_left(tmp_path: Path, target: Path) -> None:
    with mounted(target, "-t", "tmpfs", "tmpfs"):
        with pytest.raises(PreconditionFailed) as refused:
            unmount_overlay(str(target))
        assert (refused.value.reason, refused.value.metadata["path"]) == (
            "MOUNT_IN_THE_WAY",
            str(target),
        )
        assert is_mount_point(str(target))


def test_an_overlay_of_anothers_is_left(tmp_path: Path, target: Path) -> None:
    lower = [tmp_path / "lower", tmp_path / "more"]
    for each in lower:
        each.mkdir()
    options = ("-t", "overlay", "overlay", "-o", "lowerdir=" + ":".join(map(str, lower)))
    with mounted(target, *options):
        with pytest.raises(PreconditionFailed, match="unmounted first"):
            unmount_overlay(str(target))
        assert is_mount_point(str(target))


@pytest.mark.parametrize("place", ["", "0 and\rmore"])
def test_a_mount_on_or_in_an_overlay_of_ours_is_left_with_it(
    place: str, tmp_path: Path, target: Path
) -> None:
    mount(layers(tmp_path / "store", 2), tmp_path / "store", target)
    (target / place).mkdir(exist_ok=True)
    with mounted(target / place, "-t", "tmpfs", "tmpfs"):
        with pytest.raises(PreconditionFailed) as refused:
            unmount_overlay(str(target))
        assert refused.value.metadata["path"] == str(target / place)
        assert is_mount_point(str(target / place))
    assert (target / "all").read_text() == "1"


def test_a_missing_directory_is_no_mount_point(tmp_path: Path) -> None:
    assert not is_mount_point(str(tmp_path / "missing"))
    unmount_overlay(str(tmp_path / "missing"))
