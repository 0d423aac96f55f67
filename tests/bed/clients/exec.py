"""The client's side of programs that are run in a container."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration

from ocigrpc.v1 import exec_pb2
from ocigrpc.v1.terminal_pb2 import CloseStdin, TerminalSize
from tests.bed.hosts.leaks import LIMIT_S, below, children
from tests.bed.services.service import Service


def process(*command: str, **fields: Any) -> exec_pb2.ExecProcess:
    return exec_pb2.ExecProcess(command=command, **fields)


def shell(script: str, **fields: Any) -> exec_pb2.ExecProcess:
    return process("/bin/sh", "-c", script, **fields)


def seconds(timeout_s: float) -> Duration:
    timeout = Duration()
    timeout.FromMilliseconds(int(timeout_s * 1000))
    return timeout


def exec_sync(
    service: Service,
    container_id: str,
    program: exec_pb2.ExecProcess,
    *,
    timeout_s: float | None = None,
    keep_running: bool = False,
    max_output_bytes: int = 0,
) -> exec_pb2.ExecSyncResponse:
    return service.client.exec_sync(
        container_id,
        program.command,
        env=program.env,
        working_dir=program.working_dir,
        user=program.user,
        timeout_s=timeout_s,
        keep_running=keep_running,
        max_output_bytes=max_output_bytes,
    )


class Talk:
    """A stream of our messages and the program's."""

    def __init__(self, service: Service, container_id: str, script: str, **fields: Any) -> None:
        start = exec_pb2.ExecStart(container_id=container_id, process=shell(script), **fields)
        self._messages: queue.Queue[exec_pb2.ExecRequest | None] = queue.Queue()
        self._messages.put(exec_pb2.ExecRequest(start=start))
        messages = iter(self._messages.get, None)
        self._stream = service.client.exec(messages, timeout_s=LIMIT_S)
        self.stdout = b""
        self.stderr = b""
        self.exit: exec_pb2.ExecExit | None = None

    def type(self, data: bytes) -> None:
        self._messages.put(exec_pb2.ExecRequest(stdin=data))

    def resize(self, rows: int, columns: int) -> None:
        size = TerminalSize(rows=rows, columns=columns)
        self._messages.put(exec_pb2.ExecRequest(resize=size))

    def close_stdin(self) -> None:
        self._messages.put(exec_pb2.ExecRequest(close_stdin=CloseStdin()))

    def hang_up(self) -> None:
        """End our side of the stream."""
        self._messages.put(None)

    def read(self, enough: Callable[[], bool]) -> None:
        while not enough():
            self._take(next(self._stream))

    def read_all(self) -> None:
        for message in self._stream:
            self._take(message)
        self.hang_up()

    def _take(self, message: exec_pb2.ExecResponse) -> None:
        assert self.exit is None, "the exit is the last message"
        self.stdout += message.stdout
        self.stderr += message.stderr
        if message.HasField("exit"):
            self.exit = message.exit

    def leave(self) -> None:
        """Go away in the middle."""
        self._stream.close()
        self.hang_up()


def exec_groups(service: Service) -> list[Path]:
    return [group for parent in service.parents() for group in below(parent, "exec-*")]


def nothing_made_is_left(service: Service, container_id: str) -> bool:
    """Whether an exec has left no group, file or runtime behind, on whatever host."""
    files = list((service.directory / "run/containers" / container_id).glob("exec-*"))
    return not (exec_groups(service) or files)


def nothing_runs_but(service: Service, container_id: str, count: int = 1) -> bool:
    """Whether execs have left nothing behind: groups, files, runtimes, processes."""
    pid = service.status(container_id).pid
    namespace = os.readlink(f"/proc/{pid}/ns/pid")
    alive = 0
    for entry in Path("/proc").glob("[0-9]*"):
        # Processes may end meanwhile.
        with suppress(OSError):
            if os.readlink(entry / "ns/pid") == namespace:
                alive += bool((entry / "cmdline").read_bytes())
    left = not nothing_made_is_left(service, container_id) or list(children(service.pid))
    return alive == count and not left
