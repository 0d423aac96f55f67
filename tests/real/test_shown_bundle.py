"""Bundles shown to hooks: which mount is ours, and what comes of a bundle that was traded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.errors import HostFailed
from ocigrpc.oci.bundle import fill_spec, make_bundle
from ocigrpc.oci.layout import Layout
from ocigrpc.oci.shown_bundle import hide_bundle, show_bundle, shown_bundle


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    layout = Layout(tmp_path / "run", "c1")
    layout.bundle.parent.mkdir(parents=True)
    make_bundle(layout)
    yield layout
    hide_bundle(layout.bundle)
    assert str(layout.bundle) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    bundle = tmp_path / "theirs"
    (bundle / "rootfs").mkdir(parents=True)
    (bundle / "config.json").write_text("theirs")
    return bundle


def test_a_bundle_is_shown_with_our_spec(layout: Layout, bundle: Path) -> None:
    show_bundle(layout, str(bundle))
    assert shown_bundle(layout.bundle) == layout.shown
    # Whoever comes too early finds nothing to run.
    assert (layout.shown / "config.json").read_text() == ""
    fill_spec(layout, {"ours": 1})
    assert (layout.shown / "config.json").read_text() == '{"ours":1}'
    assert (bundle / "config.json").read_text() == "theirs"
    (layout.shown / "rootfs/file").touch()
    assert (bundle / "rootfs/file").exists()
    hide_bundle(layout.bundle)
    assert shown_bundle(layout.bundle) is None
    assert list(layout.shown.iterdir()) == []
    hide_bundle(layout.bundle)


def test_there_may_be_none(layout: Layout) -> None:
    assert shown_bundle(layout.bundle) is None
    layout.shown.mkdir()
    assert shown_bundle(layout.bundle) is None
    hide_bundle(layout.bundle)


def test_a_link_that_was_put_in_place_of_the_spec_is_not_mounted_over(
    layout: Layout, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_text("untouched")
    (bundle / "config.json").unlink()
    (bundle / "config.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostFailed):
        show_bundle(layout, str(bundle))
    assert (tmp_path / "elsewhere").read_text() == "untouched"
    # What was begun can be undone.
    assert shown_bundle(layout.bundle) == layout.shown


@pytest.mark.parametrize("name", ["link", "none", "theirs/config.json"])
def test_what_is_no_directory_any_more_is_not_shown(
    layout: Layout, bundle: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "link").symlink_to(bundle)
    with pytest.raises(HostFailed):
        show_bundle(layout, str(tmp_path / name))
    assert shown_bundle(layout.bundle) is None


def test_a_bundle_that_we_are_in_ourselves_is_shown_without_what_is_mounted_in_it(
    layout: Layout, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("theirs")
    show_bundle(layout, str(tmp_path))
    second = Layout(layout.run_dir, "c2")
    make_bundle(second)
    try:
        show_bundle(second, str(tmp_path))
        assert (second.shown / "run/containers/c1/config.json").exists()
        assert list((second.shown / "run/containers/c1/bundle").iterdir()) == []
    finally:
        hide_bundle(second.bundle)
