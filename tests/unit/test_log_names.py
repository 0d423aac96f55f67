"""The names of the files that belong to a log."""

from __future__ import annotations

from pathlib import Path

from ocigrpc.conmon.log_names import kept_logs, remove_rotated, rotated_path


def test_what_belongs_to_a_log_is_known_by_its_name(tmp_path: Path) -> None:
    log = tmp_path / "c1.log"
    for number in (0, 1, 3, 63):
        Path(rotated_path(str(log), number)).touch()
    for suffix in ("tmp", "held", "next"):
        (tmp_path / f"c1.log.{suffix}").touch()
    other = tmp_path / "c1.log.old"
    other.touch()
    kept = kept_logs(str(log), rotated=True)
    assert {Path(path) for path in kept} == set(tmp_path.iterdir()) - {other}
    remove_rotated(str(log), 2)
    assert set(kept) - set(kept_logs(str(log), rotated=True)) == {f"{log}.3", f"{log}.63"}


def test_numbered_files_are_looked_for_if_we_have_numbered_any_or_there_is_a_first(
    tmp_path: Path,
) -> None:
    log = str(tmp_path / "c1.log")
    second = rotated_path(log, 2)
    Path(second).touch()
    assert kept_logs(log, rotated=True) == [second]
    assert kept_logs(log, rotated=False) == []
    Path(rotated_path(log, 1)).touch()
    assert kept_logs(log, rotated=False) == [rotated_path(log, 1), second]
