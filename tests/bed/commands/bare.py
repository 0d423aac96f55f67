"""conmon and runc driven by hand, with the least Python that does it."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ocigrpc.conmon.argv import ConmonOptions, create_argv
from ocigrpc.oci.paths import ContainerPaths

_ENVIRONMENT = {"PATH": os.environ["PATH"]}


@dataclass(frozen=True)
class Bare:
    """Containers of one bundle, below a directory and a cgroup of their own."""

    bundle: Path
    directory: Path
    cgroup_parent: str
    conmon_path: str
    runtime_path: str

    def prepare(self, container_id: str) -> ConmonOptions:
        """All that is there before a container is created: its bundle, and conmon's argv."""
        paths = ContainerPaths(self.directory / "bare", container_id)
        for path in (paths.bundle, paths.exits, paths.sockets):
            path.mkdir(parents=True, exist_ok=True)
        spec = json.loads((self.bundle / "config.json").read_text())
        spec["root"]["path"] = str(self.bundle / spec["root"]["path"])
        spec["linux"]["cgroupsPath"] = f"{self.cgroup_parent}/{container_id}"
        paths.spec_file.write_text(json.dumps(spec))
        return ConmonOptions(
            conmon_path=self.conmon_path,
            container_id=container_id,
            paths=paths,
            runtime_path=self.runtime_path,
            runtime_argv=("--root", str(self.directory / "runc")),
            log_path=str(paths.bundle / "log"),
            log_level="warning",
        )

    def create(self, monitor: ConmonOptions) -> int:
        """Create the container; a pidfd of its conmon, to close."""
        sync, theirs_sync = socket.socketpair()
        start, theirs_start = socket.socketpair()
        with sync, start:
            with theirs_sync, theirs_start:
                fds = (theirs_sync.fileno(), theirs_start.fileno())
                pipes = {"_OCI_SYNCPIPE": str(fds[0]), "_OCI_STARTPIPE": str(fds[1])}
                conmon = subprocess.Popen(
                    create_argv(monitor),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_ENVIRONMENT | pipes,
                    pass_fds=fds,
                    process_group=0,
                )
            start.send(b"\0")
            if conmon.wait() != 0:
                raise RuntimeError(f"conmon ended with status {conmon.returncode}")
            answer = sync.recv(4096)
        if json.loads(answer)["pid"] <= 0:
            raise RuntimeError(f"conmon reports {answer!r}")
        return os.pidfd_open(int(monitor.paths.monitor_pid_file.read_text()))

    def verb(self, *words: str) -> None:
        _run([self.runtime_path, "--root", str(self.directory / "runc"), *words])

    def stop_and_remove(self, container_id: str, conmon: int) -> None:
        """Kill it, wait for conmon's end, and delete it."""
        self.verb("kill", container_id, "KILL")
        select.select([conmon], [], [])
        os.close(conmon)
        self.verb("delete", container_id)


def _run(argv: Sequence[str]) -> None:
    subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_ENVIRONMENT,
        process_group=0,
        check=True,
    )
