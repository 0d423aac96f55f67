"""conmon and a runtime driven by hand, with the least Python that does it."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ocigrpc.conmon.argv import ConmonOptions, create_argv
from ocigrpc.oci.paths import ContainerPaths

_ENVIRONMENT = {"PATH": os.environ["PATH"]}


@dataclass(frozen=True)
class Bare:
    """Containers of one bundle, below directories and a cgroup of their own.

    ``state_dir`` is for what a reboot clears, ``directory`` for logs.
    """

    bundle: Path
    directory: Path
    state_dir: Path
    cgroup_parent: str
    conmon_path: str
    runtime_path: str
    name: str = "bare"
    _prepared: dict[str, ConmonOptions] = field(default_factory=dict)
    # A pidfd of each container's conmon.
    _monitors: dict[str, int] = field(default_factory=dict)

    def prepare(self, container_id: str) -> None:
        """Make all that is there before a container is run: its own bundle, and conmon's argv."""
        paths = ContainerPaths(str(self.state_dir / "bare"), container_id)
        for path in (paths.bundle, paths.exits, paths.sockets):
            os.makedirs(path, exist_ok=True)
        spec = json.loads((self.bundle / "config.json").read_text())
        spec["root"]["path"] = str(self.bundle / spec["root"]["path"])
        spec["linux"]["cgroupsPath"] = f"{self.cgroup_parent}/{container_id}"
        Path(paths.spec_file).write_text(json.dumps(spec))
        self._prepared[container_id] = ConmonOptions(
            conmon_path=self.conmon_path,
            container_id=container_id,
            paths=paths,
            runtime_path=self.runtime_path,
            runtime_argv=("--root", self._root),
            log_path=str(self.directory / f"{container_id}.log"),
            log_level="warning",
        )

    def run(self, container_id: str) -> None:
        """Create and start a container that was prepared."""
        self._monitors[container_id] = _create(self._prepared.pop(container_id))
        self._verb("start", container_id)

    def pause(self, container_id: str) -> None:
        self._verb("pause", container_id)

    def resume(self, container_id: str) -> None:
        self._verb("resume", container_id)

    def exec(self, container_id: str, *command: str) -> None:
        """Run a program in it, and read its output."""
        argv = [self.runtime_path, "--root", self._root, "exec", container_id, *command]
        with _popen(argv, subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            child.stdout.read()
            child.stderr.read()
        _require_success(argv, child.returncode)

    def stop_and_remove(self, container_id: str) -> None:
        """Kill it, wait for conmon's end, and delete it."""
        conmon = self._monitors.pop(container_id)
        self._verb("kill", container_id, "KILL")
        select.select([conmon], [], [])
        os.close(conmon)
        self._verb("delete", container_id)

    def _verb(self, *words: str) -> None:
        argv = [self.runtime_path, "--root", self._root, *words]
        _require_success(argv, _popen(argv, subprocess.DEVNULL).wait())

    @property
    def _root(self) -> str:
        return str(self.state_dir / Path(self.runtime_path).name)


def _create(monitor: ConmonOptions) -> int:
    """Create a container; a pidfd of its conmon, to close."""
    sync, theirs_sync = socket.socketpair()
    start, theirs_start = socket.socketpair()
    with sync, start:
        with theirs_sync, theirs_start:
            fds = (theirs_sync.fileno(), theirs_start.fileno())
            pipes = {"_OCI_SYNCPIPE": str(fds[0]), "_OCI_STARTPIPE": str(fds[1])}
            argv = create_argv(monitor)
            conmon = _popen(argv, subprocess.DEVNULL, pipes, fds)
        start.send(b"\0")
        _require_success(argv, conmon.wait())
        answer = sync.recv(4096)
    if json.loads(answer)["pid"] <= 0:
        raise RuntimeError(f"conmon reports {answer!r}")
    return os.pidfd_open(int(Path(monitor.paths.monitor_pid_file).read_text()))


def _popen(
    argv: Sequence[str],
    output: int,
    variables: dict[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=_ENVIRONMENT | (variables or {}),
        pass_fds=pass_fds,
        process_group=0,
    )


def _require_success(argv: Sequence[str], returncode: int) -> None:
    if returncode:
        raise RuntimeError(f"{' '.join(argv)} ended with status {returncode}")
