"""The units that are installed are those of the package, with the path of the program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ocigrpc.cli.install_units import DIRECTORY, PROGRAM
from ocigrpc.cli.main import main
from tests.bed.documents import OPERATING, fences

UNITS = sorted(DIRECTORY.iterdir())


def test_operating_shows_the_units_of_the_package() -> None:
    shown = [text for language, text in fences(OPERATING) if language == "ini"]
    assert shown == [unit.read_text() for unit in UNITS]


def test_each_unit_is_written_with_the_path_of_this_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What an older version has left is replaced.
    directory = tmp_path / "etc/systemd/system"
    for _ in range(2):
        assert main(["install-units", "--root", str(tmp_path)]) == 0
        written = [directory / unit.name for unit in UNITS]
        assert capsys.readouterr().out.splitlines() == [str(each) for each in written]
    program = str(Path(sys.executable).with_name("ocigrpc"))
    for each, unit in zip(written, UNITS, strict=True):
        assert each.read_text() == unit.read_text().replace(PROGRAM, program)
    assert f"ExecStart={program} serve\n" in (directory / "ocigrpc.service").read_text()


def test_a_directory_that_can_not_be_written_to_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc").touch()
    assert main(["install-units", "--root", str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_masked_unit_stays_masked_and_no_other_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "etc/systemd/system"
    directory.mkdir(parents=True)
    masked = directory / "ocigrpc.socket"
    masked.symlink_to("/dev/null")
    assert main(["install-units", "--root", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"ocigrpc: {masked} is masked: systemctl unmask ocigrpc.socket\n"
    assert list(directory.iterdir()) == [masked]


def test_a_link_is_replaced_and_what_it_points_to_is_not(tmp_path: Path) -> None:
    directory, other = tmp_path / "etc/systemd/system", tmp_path / "other"
    directory.mkdir(parents=True)
    other.write_text("precious")
    (directory / "ocigrpc.service").symlink_to(other)
    assert main(["install-units", "--root", str(tmp_path)]) == 0
    assert other.read_text() == "precious"
    assert not (directory / "ocigrpc.service").is_symlink()
    assert len(list(directory.iterdir())) == len(UNITS)
