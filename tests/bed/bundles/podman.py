"""podman with a storage of its own, and the specs that it makes."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.bed.bundles.bundle import make_rootfs
from tests.bed.hosts.leaks import below

COMMAND = ("sleep", "1000")
# A limit that every machine lets a runtime set.
OPEN_FILES = ("--ulimit", "nofile=100:200")


class Podman:
    """podman with a storage of its own, and a runtime that notes specs.

    Nothing is made of most containers: the runtime fails when it has noted the spec.
    """

    def __init__(self, directory: Path) -> None:
        self.notes = directory / "notes.json"
        self.rootfs = make_rootfs(directory)
        self._argv = [
            *("podman", "--root", str(directory / "storage"), "--runroot", str(directory / "run")),
            *("--tmpdir", str(directory / "tmp"), "--storage-driver", "vfs"),
            *("--cgroup-manager", "cgroupfs", "--events-backend", "none"),
        ]
        self._parent = f"ocigrpc-{directory.name}"
        self._named = ("--name", "c", "--cgroup-parent", f"/{self._parent}")
        self._program = ("--rootfs", str(self.rootfs), *COMMAND)
        self._noting = directory / "noting"
        self._noting.write_text(_NOTING.format(notes=self.notes))
        self._noting.chmod(0o755)

    def run(self, *words: str, check: bool = True) -> None:
        """Run podman; its own output is of interest only when it fails."""
        argv = [*self._argv, "--runtime", str(self._noting), *words]
        ended = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 0 or not check, ended.stderr

    def clear(self) -> None:
        """Leave nothing of it, the cgroups included that podman lets be."""
        self.run("rm", "--all", "--force", "--time", "0", check=False)
        for name in (self._parent, "libpod_parent"):
            for group in below(Path("/sys/fs/cgroup"), name):
                for each in (group / "conmon", group):
                    # The second is there for every podman.
                    with suppress(OSError):
                        each.rmdir()
        assert below(Path("/sys/fs/cgroup"), self._parent) == []

    def spec(self, words: tuple[str, ...]) -> Any:
        """The spec that podman makes of the options ``words``."""
        network = () if "--network=host" in words else ("--network", "none")
        self.notes.unlink(missing_ok=True)
        self.run("create", *self._named, *network, *OPEN_FILES, *words, *self._program)
        # It fails, since nothing is made.
        self.run("init", "c", check=False)
        self.run("rm", "--force", "c")
        return json.loads(self.notes.read_text())

    def process(self, words: tuple[str, ...], exec_words: tuple[str, ...]) -> Any:
        """The process of an exec in such a container, which runs for that."""
        really = ("--detach", "--env", "REALLY=1", "--network", "none")
        limits = (*OPEN_FILES, "--ulimit", "nproc=1000:1000")
        self.run("run", *self._named, *really, *limits, *words, *self._program)
        try:
            self.run("exec", *exec_words, "c", "true")
            return json.loads(self.notes.read_text())
        finally:
            self.run("rm", "--force", "--time", "0", "c")


_NOTING = """#!/bin/sh
# Notes the spec of a create, which fails then, and the process of an exec.
for word; do
    case $last in
        --bundle) cp "$word/config.json" "{notes}"; bundle=$word;;
        --process) cp "$word" "{notes}";;
    esac
    case $word in create) verb=create;; esac
    last=$word
done
if [ "$verb" = create ] && ! grep -q '"REALLY=1"' "$bundle/config.json"; then exit 1; fi
exec runc "$@"
"""
