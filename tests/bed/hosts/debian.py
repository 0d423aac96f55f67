"""A Debian that has been booted, for packages to be installed, upgraded and removed."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bed.hosts.host import Host, native, private_systemd_host

_LIMIT_S = 400.0
# Where it keeps the list of its files as they were.
_BEFORE = "root/before"
# Of these, apt and dpkg keep lists and logs, and systemd which units were ever enabled.
_LISTED = "etc usr var opt srv"
_KEPT = ("var/lib/dpkg", "var/lib/apt", "var/lib/systemd", "var/cache", "var/log", "var/tmp")
_APT_CONFIG = """
APT::Get::Assume-Yes "true";
APT::Install-Recommends "false";
Dpkg::Use-Pty "false";
"""


class Debian:
    """One that is booted."""

    def __init__(self, root: Path, host: Host) -> None:
        self.root = root
        self.host = host
        (root / "etc/apt/apt.conf.d/99test").write_text(_APT_CONFIG)
        # A machine that is booted again has it.
        if not (root / _BEFORE).exists():
            (root / _BEFORE).write_text("\n".join(self._files()))

    def run(self, script: str, *, status: int = 0) -> str:
        """What a script of bash prints, which runs in /root and ends with that exit status."""
        done = subprocess.run(
            self.host.command(["/bin/bash", "-euc", f"cd /root\n{script}"]),
            # Every root has it.
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout.strip()

    def left(self) -> set[str]:
        """The files on its disk that were not there when it was first booted."""
        return self._files() - set((self.root / _BEFORE).read_text().splitlines())

    def reboot(self) -> None:
        """Boot it again, unless somebody else has done so."""

    def _files(self) -> set[str]:
        found = self.run(f"cd /; find {_LISTED}").splitlines()
        return {path for path in found if not path.startswith(_KEPT)}


@contextmanager
def this_machine() -> Iterator[Debian]:
    """The machine that the tests run on, which is thrown away afterwards, as a node's is."""
    with native() as host:
        yield Debian(Path("/"), host)


class _OfItsOwn(Debian):
    """One in a directory, with a systemd of its own."""

    def __init__(self, root: Path, boots: ExitStack) -> None:
        self._boots = boots
        super().__init__(root, boots.enter_context(private_systemd_host(root)))

    def reboot(self) -> None:
        self._boots.close()
        self.host = self._boots.enter_context(private_systemd_host(self.root))


@contextmanager
def debian(suite: str) -> Iterator[Debian]:
    """A Debian of this release, with systemd and as little else as there can be."""
    with tempfile.TemporaryDirectory(prefix="ocigrpc-debian-", dir="/var/tmp") as directory:
        # Not root alone looks into it.
        Path(directory).chmod(0o755)
        # A purge of netbase, which Python needs, leaves its /etc/hosts.
        included = "--include=systemd,dbus,busybox-static,netbase"
        # Unlike a timeout here, this one ends all processes.
        subprocess.run(
            [
                "timeout",
                str(_LIMIT_S),
                "debootstrap",
                "--variant=minbase",
                included,
                suite,
                directory,
            ],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        with ExitStack() as boots:
            yield _OfItsOwn(Path(directory), boots)
