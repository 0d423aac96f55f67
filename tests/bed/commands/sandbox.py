"""A real service with everything of its own, and the proof that nothing of it is left.

``scripts/demo``, ``scripts/bench`` and ``scripts/soak`` run in it: socket, store, run directory,
logs, the OCI runtime's state and the cgroup parent are all private, so that neither a service nor
containers that the machine already has are touched.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import grpc

from ocigrpc.errors import Timeout
from ocigrpc.v1 import runtime_pb2 as pb
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from ocigrpc.waiting import Deadline

START_TIMEOUT_S = 30.0
END_TIMEOUT_S = 60.0


class SandboxFailed(Exception):
    """The service did not start, did not end well, or left something behind."""


class _Service:
    """The service as a process; what of it is in ``directory`` is its own."""

    process: subprocess.Popen[bytes]

    def __init__(self, directory: Path, cgroup_parent: str, runtimes: Mapping[str, Path]) -> None:
        self._directory = directory
        root = f"{directory}/runc"
        handlers = {name: {"path": str(path), "root": root} for name, path in runtimes.items()}
        self._argv = [
            *(sys.executable, "-m", "ocigrpc", "serve"),
            f"--socket-path={directory}/socket",
            f"--root-dir={directory}/root",
            f"--run-dir={directory}/run",
            f"--logs-dir={directory}/log",
            f"--cgroup-parent={cgroup_parent}",
            "--runtimes=" + json.dumps(handlers),
        ]

    def start(self) -> None:
        """Start it, and wait until it is ready; raises ``SandboxFailed``."""
        told = self._directory / "notify"
        told.unlink(missing_ok=True)
        # None of the machine's own settings.
        ours = {key: text for key, text in os.environ.items() if not key.startswith("OCIGRPC_")}
        ours |= {"NOTIFY_SOCKET": str(told), "OCIGRPC_CONFIG": os.devnull}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(told))
            with (self._directory / "service.log").open("ab") as log:
                # In a process group of its own: Ctrl-C is for us, and we end it in good order.
                self.process = subprocess.Popen(
                    self._argv,
                    env=ours,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,
                )
            try:
                _wait_until_ready(self.process, notify)
            except BaseException as error:
                self.process.kill()
                self.process.wait()
                if isinstance(error, SandboxFailed):
                    raise SandboxFailed(f"{error}: {_tail(self._directory)}") from None
                raise

    def stop(self) -> None:
        """Ask it to end, and raise ``SandboxFailed`` unless it ends well."""
        self.process.terminate()
        try:
            status = self.process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        if status != 0:
            raise SandboxFailed(f"the service ended with status {status}")


@dataclass(frozen=True)
class Sandbox:
    """A running service and where its things are."""

    stub: RuntimeServiceStub
    channel: grpc.Channel
    directory: Path
    cgroup_parent: str
    runtime_root: Path
    _service: _Service

    @property
    def pid(self) -> int:
        """Process id of the service."""
        return self._service.process.pid

    def crash(self) -> float:
        """Kill the service, and start it again; the seconds until it is ready."""
        self._service.process.kill()
        self._service.process.wait()
        began_s = time.perf_counter()
        self._service.start()
        took_s = time.perf_counter() - began_s
        grpc.channel_ready_future(self.channel).result(START_TIMEOUT_S)
        return took_s

    def make_bundle(self, args: Sequence[str]) -> Path:
        """An OCI bundle of busybox that runs ``args``: the runtime's own example, amended."""
        bundle = self.directory / "bundle"
        _make_rootfs(bundle / "rootfs")
        subprocess.run(["runc", "spec", "--bundle", str(bundle)], check=True)
        spec = json.loads((bundle / "config.json").read_text())
        spec["process"].update(args=list(args), terminal=False)
        (bundle / "config.json").write_text(json.dumps(spec))
        return bundle

    def log(self) -> str:
        """What the service has logged so far, JSON lines."""
        return (self.directory / "service.log").read_text(errors="replace")

    def remove_containers(self) -> None:
        """Remove every container, by force."""
        # One page after the other, each of which is gone before the next.
        while found := self.stub.ListContainers(pb.ListContainersRequest()).containers:
            for container in found:
                self.stub.RemoveContainer(
                    pb.RemoveContainerRequest(container_id=container.container_id, force=True),
                    timeout=END_TIMEOUT_S,
                )


@contextmanager
def sandbox(name: str, **runtimes: Path) -> Iterator[Sandbox]:
    """A service in a sandbox; at the end it is stopped, and nothing of it is left.

    ``runtimes`` are programs to use like runc, by the names of their handlers.

    SIGINT and SIGTERM end the block in good order. Raises ``SandboxFailed``.
    """
    mark = f"ocigrpc-{name}-{secrets.token_hex(4)}"
    directory = Path(tempfile.mkdtemp(prefix=f"{mark}-"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as undo:
        undo.callback(_refuse_remains, mark)
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        undo.callback(_refuse_files, directory)
        service = _Service(directory, f"/{mark}", {"runc": Path("runc"), **runtimes})
        service.start()
        undo.callback(service.stop)
        channel = undo.enter_context(grpc.insecure_channel(f"unix:{directory}/socket"))
        running = Sandbox(
            RuntimeServiceStub(channel),
            channel,
            directory,
            f"/{mark}",
            directory / "runc",
            service,
        )
        undo.callback(running.remove_containers)
        # From here on nobody interrupts: what is cut off here would be left for good.
        undo.callback(_ignore_interrupts)
        yield running


def _ignore_interrupts() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _make_rootfs(rootfs: Path) -> None:
    (rootfs / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None, "scripts/setup installs it"
    shutil.copy(busybox, rootfs / "bin/busybox")
    for applet in ("sh", "sleep", "true"):
        (rootfs / "bin" / applet).symlink_to("busybox")


def _wait_until_ready(process: subprocess.Popen[bytes], notify: socket.socket) -> None:
    """Wait for the word that says so; see sd_notify(3)."""
    ended = os.pidfd_open(process.pid)
    try:
        ready = Deadline(START_TIMEOUT_S).wait(notify.fileno(), ended)
    except Timeout as error:
        raise SandboxFailed("the service is not ready in time") from error
    finally:
        os.close(ended)
    if notify.fileno() not in ready or b"READY=1" not in notify.recv(4096):
        raise SandboxFailed("the service did not start")


def _tail(directory: Path) -> str:
    lines = (directory / "service.log").read_text(errors="replace").splitlines()
    return lines[-1] if lines else "it said nothing"


def _refuse_files(directory: Path) -> None:
    """Raise unless the service has removed all that it made for containers."""
    left = [*files_of_containers(directory), *directory.glob("socket")]
    if left:
        raise SandboxFailed(f"files are left: {', '.join(map(str, left))}")


def _refuse_remains(mark: str) -> None:
    """Raise if a process, mount, cgroup or directory that bears our mark is left."""
    left = [f"process {path.parent.name}" for path in _marked_processes(mark)]
    left += [f"mount {line}" for line in mounts(mark)]
    left += cgroups(f"{mark}*")
    left += map(str, Path(tempfile.gettempdir()).glob(f"{mark}*"))
    if left:
        raise SandboxFailed(f"something is left: {', '.join(left)}")


def files_of_containers(directory: Path) -> list[Path]:
    """What a service keeps for containers in its run and log directories, and runc in its own."""
    kept = ("run/containers", "run/exits", "run/sockets", "log", "runc")
    return [path for each in kept for path in directory.glob(f"{each}/*")]


def mounts(mark: str) -> list[str]:
    """The mounts that bear a mark, as mountinfo has them."""
    lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    return [line for line in lines if mark in line]


def cgroups(pattern: str) -> list[str]:
    """The cgroups of a path like ``pattern``, wherever hierarchies are mounted."""
    roots = ("/sys/fs/cgroup", *glob("/sys/fs/cgroup/*/"))
    return [path for root in roots for path in glob(f"{root}/{pattern}/")]


def _marked_processes(mark: str) -> Iterator[Path]:
    """The /proc/PID/cmdline of every process that was told a path of ours."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                yield path
        except OSError:
            continue
