"""The wheel, built and installed as README does it, works away from the checkout.

It and what it needs install without a compiler, and the source distribution makes the same wheel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import pytest

from ocigrpc import __version__
from tests.bed import REPOSITORY
from tests.bed.documents import README, fences

PREFIX = "/opt/ocigrpc"
(INSTALL,) = (text for _, text in fences(README) if "pip wheel" in text)

_LIMIT_S = 300

pytestmark = pytest.mark.timeout(_LIMIT_S + 30)


class Installed(NamedTuple):
    """The package in a virtual environment of its own, and the copy that it was built from."""

    prefix: Path
    checkout: Path
    output: str

    def run(self, *arguments: str) -> str:
        """What the command ``ocigrpc`` prints, in a directory that has nothing of it."""
        done = subprocess.run(
            [self.prefix / "bin/ocigrpc", *arguments],
            cwd=self.prefix.parent,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    with tempfile.TemporaryDirectory(prefix="ocigrpc-wheel-", dir="/var/tmp") as name:
        directory = Path(name)
        checkout, prefix = directory / "checkout", directory / "installed"
        for each in (checkout, directory / "tmp"):
            each.mkdir()
        owned = f"safe.directory={REPOSITORY}"
        archive = subprocess.run(
            ["git", "-c", owned, "archive", "HEAD"], cwd=REPOSITORY, capture_output=True, check=True
        )
        subprocess.run(["tar", "-x"], cwd=checkout, input=archive.stdout, check=True)
        # Unlike a timeout here, this one ends all processes.
        bounded = ["timeout", "--kill-after=5", str(_LIMIT_S)]
        done = subprocess.run(
            [*bounded, "bash", "-e", "-c", INSTALL.replace(PREFIX, str(prefix))],
            cwd=checkout,
            env=_environment() | {"PIP_NO_CACHE_DIR": "1", "TMPDIR": str(directory / "tmp")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done
        yield Installed(prefix, checkout, done.stdout)


def _environment() -> dict[str, str]:
    """The one here, without what leads to this checkout or to settings of this machine."""
    ours = ("OCIGRPC_", "PYTHON", "VIRTUAL_ENV")
    rest = {key: text for key, text in os.environ.items() if not key.startswith(ours)}
    return rest | {"OCIGRPC_CONFIG": os.devnull, "CC": "false", "CXX": "false"}


def test_the_source_distribution_makes_the_same_wheel(installed: Installed, tmp_path: Path) -> None:
    python, sources, made = f"{tmp_path}/bin/python", tmp_path / "sources", tmp_path / "made"
    pip = [python, "-m", "pip", "--quiet", "--no-cache-dir"]
    build = [python, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(sources)]
    for argv in (
        [sys.executable, "-m", "venv", str(tmp_path)],
        [*pip, "install", "hatchling"],
        build,
    ):
        subprocess.run(argv, cwd=installed.checkout, env=_environment(), check=True)
    (archive,) = sources.iterdir()
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", made, archive], env=_environment(), check=True
    )
    assert _files(made) == _files(installed.prefix / "wheels")


def _files(wheels: Path) -> dict[str, int]:
    """The names and checksums of what is in a directory's wheel of this package."""
    (wheel,) = wheels.glob("ocigrpc-*.whl")
    return {each.filename: each.CRC for each in ZipFile(wheel).infolist()}


def test_the_version_is_that_of_the_checkout(installed: Installed) -> None:
    assert f"ocigrpc {__version__}" in installed.output.splitlines()
    assert installed.run("--version") == f"ocigrpc {__version__}\n"


def test_the_help_names_the_commands(installed: Installed) -> None:
    text = installed.run("--help")
    assert all(f"\n  {command} " in text for command in ("serve", "settings", "protos"))


def test_the_settings_are_the_defaults(installed: Installed) -> None:
    settings = json.loads(installed.run("settings"))
    assert settings["root_dir"] == "/var/lib/ocigrpc"


def test_the_protos_are_those_of_the_checkout(installed: Installed, tmp_path: Path) -> None:
    written = [Path(line) for line in installed.run("protos", str(tmp_path)).splitlines()]
    protos = installed.checkout / "protos/ocigrpc/v1"
    assert sorted(path.name for path in written) == sorted(each.name for each in protos.iterdir())
    for path in written:
        assert path.parent == tmp_path / "ocigrpc/v1"
        assert path.read_text() == (protos / path.name).read_text()


def test_the_units_run_what_is_installed(installed: Installed, tmp_path: Path) -> None:
    installed.run("install-units", "--root", str(tmp_path))
    text = (tmp_path / "etc/systemd/system/ocigrpc.service").read_text()
    assert f"ExecStart={installed.prefix}/bin/ocigrpc serve\n" in text
