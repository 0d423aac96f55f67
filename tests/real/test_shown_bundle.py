"""Bundles shown to hooks: which mount is ours, and what comes of a bundle that was traded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.errors import HostFailed
from ocigrpc.oci.bundle import fill_spec, make_bundle
from ocigrpc.oci.paths import ContainerPaths
from ocigrpc.oci.shown_bundle import hide_bundle, show_bundle, shown_bundle


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[ContainerPaths]:
    paths = ContainerPaths(str(tmp_path / "run"), "c1")
    Path(paths.bundle).parent.mkdir(parents=True)
    make_bundle(paths)
    yield paths
    hide_bundle(paths.bundle)
    assert paths.bundle not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    bundle = tmp_path / "theirs"
    (bundle / "rootfs").mkdir(parents=True)
    (bundle / "config.json").write_text("theirs")
    return bundle


def test_a_bundle_is_shown_with_our_spec(paths: ContainerPaths, bundle: Path) -> None:
    show_bundle(paths, str(bundle))
    assert shown_bundle(paths.bundle) == paths.shown
    # Whoever comes too early finds nothing to run.
    assert Path(paths.shown, "config.json").read_text() == ""
    fill_spec(paths, {"ours": 1})
    assert Path(paths.shown, "config.json").read_text() == '{"ours":1}'
    assert (bundle / "config.json").read_text() == "theirs"
    Path(paths.shown, "rootfs/file").touch()
    assert (bundle / "rootfs/file").exists()
    hide_bundle(paths.bundle)
    assert shown_bundle(paths.bundle) is None
    assert list(Path(paths.shown).iterdir()) == []
    hide_bundle(paths.bundle)


def test_there_may_be_none(paths: ContainerPaths) -> None:
    assert shown_bundle(paths.bundle) is None
    Path(paths.shown).mkdir()
    assert shown_bundle(paths.bundle) is None
    hide_bundle(paths.bundle)


def test_a_link_that_was_put_in_place_of_the_spec_is_not_mounted_over(
    paths: ContainerPaths, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_text("untouched")
    (bundle / "config.json").unlink()
    (bundle / "config.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostFailed):
        show_bundle(paths, str(bundle))
    assert (tmp_path / "elsewhere").read_text() == "untouched"
    # What was begun can be undone.
    assert shown_bundle(paths.bundle) == paths.shown


@pytest.mark.parametrize("name", ["link", "none", "theirs/config.json"])
def test_what_is_no_directory_any_more_is_not_shown(
    paths: ContainerPaths, bundle: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "link").symlink_to(bundle)
    with pytest.raises(HostFailed):
        show_bundle(paths, str(tmp_path / name))
    assert shown_bundle(paths.bundle) is None


def test_a_bundle_that_we_are_in_ourselves_is_shown_without_what_is_mounted_in_it(
    paths: ContainerPaths, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("theirs")
    show_bundle(paths, str(tmp_path))
    second = ContainerPaths(paths.run_dir, "c2")
    make_bundle(second)
    try:
        show_bundle(second, str(tmp_path))
        assert Path(second.shown, "run/containers/c1/config.json").exists()
        assert list(Path(second.shown, "run/containers/c1/bundle").iterdir()) == []
    finally:
        hide_bundle(second.bundle)
