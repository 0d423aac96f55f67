"""A Debian package as a version after it: ``python -m tests.bed.hosts.newer PACKAGE DIRECTORY``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from ocigrpc import __version__

NEWER = f"{__version__}+newer"
_VERSIONS = (
    ("DEBIAN/control", f"Version: {__version__}\n"),
    ("usr/lib/ocigrpc/ocigrpc/__init__.py", f'__version__ = "{__version__}"\n'),
)


def newer(package: Path, directory: Path) -> Path:
    """The same package as NEWER, in that directory; not compressed, which takes long."""
    made = directory / f"ocigrpc_{NEWER}.deb"
    with tempfile.TemporaryDirectory(prefix="ocigrpc-newer-") as temporary:
        tree = Path(temporary, "tree")
        subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
        for name, version in _VERSIONS:
            text = (tree / name).read_text()
            assert version in text
            (tree / name).write_text(text.replace(version, version.replace(__version__, NEWER)))
        build = f"dpkg-deb --build -Znone {tree} {made}"
        subprocess.run(build.split(), stdout=subprocess.DEVNULL, check=True)
    return made


if __name__ == "__main__":
    newer(*map(Path, sys.argv[1:]))
