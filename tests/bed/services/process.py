"""The service as a process on a host."""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import grpc

from ocigrpc import Client
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from ocigrpc.waiting import Deadline
from tests.bed import REPOSITORY
from tests.bed.hosts.host import Host
from tests.bed.hosts.leaks import LIMIT_S, Leaks, children

SECRET = "an-environment-of-the-service"

# The setting of that name, without roots.
Runtimes = Mapping[str, Mapping[str, object]]


class ServiceProcess:
    """A service with directories, a cgroup parent and runtime roots of its own.

    ``state_dir`` is for what a reboot clears, of runtimes as well; it is ``directory`` by default.
    ``settings`` are flags, without the dashes in front.
    """

    def __init__(
        self,
        host: Host,
        directory: Path,
        *,
        runtimes: Runtimes | None = None,
        state_dir: Path | None = None,
        **settings: object,
    ) -> None:
        self.host = host
        self.directory = directory
        self.state_dir = state_dir or directory
        name = directory.name
        by_systemd = settings.get("cgroup_manager") == "systemd"
        parent = f"{name.replace('-', '_')}.slice" if by_systemd else name
        self.host_leaks = Leaks(host, directory, parent, self.state_dir)
        self.cgroup_parent = parent if by_systemd else f"/{parent}"
        handlers = {"runc": {"path": "runc"}, "crun": {"path": "crun"}} | dict(runtimes or {})
        for runtime, handler in handlers.items():
            root = "crun" if runtime == "crun" else "runc"
            handlers[runtime] = {"root": str(self.state_dir / root), **handler}
        self._settings: dict[str, object] = {
            "socket_path": directory / "socket",
            "root_dir": directory / "root",
            "run_dir": self.state_dir / "run",
            "logs_dir": directory / "log",
            "cgroup_parent": self.cgroup_parent,
            "runtimes": json.dumps(handlers),
            "log_format": "json",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Of the service, as this process sees it."""

    def start(self, *launcher: str) -> None:
        """Start it, and wait until it is ready.

        ``launcher`` is a module that serves in place of ``ocigrpc``, and its arguments.
        """
        self.launch(*launcher)
        self.wait_for_word("READY=1")
        self.connect()

    def launch(self, *launcher: str) -> None:
        """Start it, and wait for nothing."""
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        (self.directory / "notify").unlink(missing_ok=True)
        self._notify.bind(str(self.directory / "notify"))
        with (self.directory / "events").open("ab") as events:
            self._process = subprocess.Popen(
                self.host.command(self.argv(*launcher)),
                cwd=REPOSITORY,
                env=_environment() | {"NOTIFY_SOCKET": str(self.directory / "notify")},
                stdin=subprocess.DEVNULL,
                stdout=events,
                stderr=events,
                # Ctrl-C is for the tests, which then end the service in good order.
                process_group=0,
            )

    def argv(self, *launcher: str) -> list[str]:
        """Its command line, on its host; see :meth:`start`."""
        flags = [
            word
            for key, value in self._settings.items()
            for word in ("--" + key.replace("_", "-").replace(".", "-"), str(value))
        ]
        return [sys.executable, "-m", *(launcher or ("ocigrpc",)), "serve", *flags]

    def refusal(self) -> dict[str, object]:
        """The one line with which it does not start.

        That of wrong settings names the key, and the status is then the one that systemd does not
        restart after.
        """
        ended = subprocess.run(
            self.host.command(self.argv()),
            cwd=REPOSITORY,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert ended.stdout == ""
        (line,) = ended.stderr.splitlines()
        assert not (self.directory / "socket").exists()
        event = json.loads(line)
        assert isinstance(event, dict)
        assert ended.returncode == (2 if "key" in event else 1), ended
        return event

    def connect(self) -> None:
        """Make ``client`` and ``wire`` by connections of their own.

        ``wire`` has the stub's methods, for tests of what is sent and answered; see
        ``tests/README.md``. It repeats nothing.
        """
        address = f"unix:{self.directory}/socket"
        self.client = Client(address, timeout_s=LIMIT_S)
        self.channel = grpc.insecure_channel(
            address,
            [
                ("grpc.use_local_subchannel_pool", 1),
                # When the service is back, that is known soon.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 100),
            ],
        )
        self.wire = RuntimeServiceStub(self.channel)

    def disconnect(self) -> None:
        """Close both; calls that still run are cancelled."""
        self.client.close()
        self.channel.close()

    def another(self) -> Self:
        """The same service, by a connection of its own that outlives the service's death."""
        client = copy.copy(self)
        client.connect()
        return client

    def wait_for_word(self, word: str) -> None:
        """Wait until it sends its init system ``word``; see sd_notify(3)."""
        assert self._process is not None
        # An interpreter that starts beside many others takes its time.
        deadline = Deadline(3 * LIMIT_S)
        ended = os.pidfd_open(self._process.pid)
        try:
            while self._notify.fileno() in deadline.wait(self._notify, ended):
                message, ancillary, _, _ = self._notify.recvmsg(4096, 1024)
                # unix(7): as our pid namespace numbers it.
                self.pid = struct.unpack("3i", ancillary[0][2])[0]
                if word in message.decode().splitlines():
                    return
        finally:
            os.close(ended)
        raise AssertionError((self.directory / "events").read_text())

    def end(self) -> None:
        """Ask it to end, and expect exit status 0 and no socket."""
        self.terminate()
        self.expect_end()

    def expect_end(self) -> None:
        """Wait for exit status 0, after a signal that ends it."""
        assert self._process is not None
        self.disconnect()
        assert self._process.wait(2 * LIMIT_S) == 0, (self.directory / "events").read_text()
        self._notify.close()
        self.pid = 0
        assert not (self.directory / "socket").exists()

    def terminate(self) -> None:
        assert self._process is not None
        self._process.terminate()

    def die(self) -> None:
        """Kill it outright."""
        assert self._process is not None
        self._process.kill()
        self.expect_death()

    def expect_death(self) -> None:
        """Wait for its end by SIGKILL."""
        assert self._process is not None
        assert self._process.wait(LIMIT_S) == -signal.SIGKILL
        # Not before, or calls would be cancelled, and not cut off.
        self.disconnect()
        self._notify.close()
        self.pid = 0

    def is_alive(self) -> bool:
        """Whether its process runs, which may have ended unexpectedly."""
        return self._process is not None and self._process.poll() is None

    def discard(self) -> None:
        """Kill it, if it runs, and what remains of its containers."""
        if self._process is not None and self.is_alive():
            self._process.kill()
            self._process.wait()
        self.host_leaks.purge()

    def events(self) -> list[dict[str, object]]:
        """What it has logged."""
        # A text in an event may have other separators of lines. Behind the last newline is
        # nothing, or an event that is being written.
        lines = (self.directory / "events").read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def leaks(self) -> list[str]:
        """What is there of containers, and of the service's children."""
        forked = children(self.pid) if self.pid else ()
        return [*self.host_leaks.all(), *(f"child {pid} of the service" for pid in forked)]

    def parents(self) -> list[Path]:
        """The cgroup parent, in every hierarchy, while it is there."""
        return list(self.host_leaks.parents())


def _environment() -> dict[str, str]:
    """The one here, without settings that the machine has for another service."""
    ours = {key: text for key, text in os.environ.items() if not key.startswith("OCIGRPC_")}
    return ours | {"SECRET": SECRET, "OCIGRPC_CONFIG": os.devnull}
