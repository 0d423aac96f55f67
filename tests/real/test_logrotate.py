"""logrotate, as people set it up: no line of a log is lost, however slow its reader is."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ocigrpc.errors import OcigrpcError
from ocigrpc.v1.log_pb2 import ContainerLogsResponse as Answer
from ocigrpc.waiting import Deadline
from tests.bed.clients.logs import numbers, reopen, responses
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service

LINES = 400_000
ROUNDS = 20
WRITING = f"""i=0; while [ $i -lt {ROUNDS} ]; do
    seq $((i*{LINES // ROUNDS}+1)) $(((i+1)*{LINES // ROUNDS})); i=$((i+1)); sleep 0.1
done"""

CONFIGS = {
    "plain": "nocreate",
    "create": "create 0600 root root",
    "dateext": "nocreate\n dateext\n dateformat -%Y%m%d-%s",
    "extension": "nocreate\n extension .log",
    "dateext and extension": "nocreate\n dateext\n dateformat -%Y%m%d-%s\n extension .log",
    "compress": "nocreate\n compress",
    "delaycompress": "create\n compress\n delaycompress",
    "compress and extension": "nocreate\n compress\n extension .log",
    "olddir below it": "nocreate\n olddir old\n compress",
    "few kept": "nocreate\n rotate 1",
}


class Logrotate:
    """logrotate for one log; its ``postrotate`` has the log reopened by this test."""

    def __init__(self, log: Path, directives: str, reopened: Callable[[], None]) -> None:
        directory = log.parent.parent
        (log.parent / "old").mkdir()
        self._go, self._done = directory / "go", directory / "done"
        os.mkfifo(self._go)
        os.mkfifo(self._done)
        self.rotations = 0
        self._reopened = reopened
        self._config = directory / "logrotate.conf"
        self._config.write_text(
            f"{log} {{\n rotate 100\n missingok\n {directives}\n"
            f" postrotate\n echo > {self._go}\n cat {self._done}\n endscript\n}}\n"
        )
        self._config.chmod(0o644)
        self._state = directory / "state"

    def run(self) -> None:
        """Rotate it once; not at all when there is a file of this second already."""
        argv = ["logrotate", "--force", "--state", str(self._state), str(self._config)]
        with ExitStack() as stack:
            go = os.open(self._go, os.O_RDWR)
            stack.callback(os.close, go)
            process = stack.enter_context(subprocess.Popen(argv))
            ended = os.pidfd_open(process.pid)
            stack.callback(os.close, ended)
            if go in Deadline(LIMIT_S).wait(go, ended):
                try:
                    self._reopened()
                    self.rotations += 1
                finally:
                    self._done.write_text("")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    # logrotate refuses a directory that others may write to.
    (tmp_path / "logs").mkdir(mode=0o700)
    return tmp_path / "logs" / "0.log"


@contextmanager
def rotating(service: Service, log: Path, directives: str) -> Iterator[str]:
    """A container, not started yet, whose log is rotated again and again while it writes."""
    container_id = service.create(WRITING, log_path=str(log)).container_id

    def reopen_if_written() -> None:
        try:
            reopen(service, container_id)
        except OcigrpcError:
            assert service.state(container_id) == "stopped"

    logrotate = Logrotate(log, directives, reopen_if_written)
    yield container_id
    # What a reader has not come to is kept open for it, but for at most 64 files.
    while service.state(container_id) == "running" and logrotate.rotations < 60:
        logrotate.run()
    service.wait(container_id)
    assert logrotate.rotations >= 2


@pytest.mark.parametrize("directives", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_slow_follower_loses_nothing_when_logrotate_rotates(
    service: Service, log: Path, directives: str
) -> None:
    with rotating(service, log, directives) as container_id:
        call = responses(service, container_id, follow=True)
        first = next_in_thread(call)
        service.start_container(container_id)
    # Not before now is more than the first message read.
    parts = b""
    gaps = skipped = 0
    for answer in [*first(), *call]:
        gaps, skipped = gaps + answer.gap, skipped + answer.skipped_lines
        parts += b"".join(line.content + b"\n" * (not line.partial) for line in answer.lines)
    assert (gaps, skipped) == (0, 0)
    assert parts.splitlines() == numbers(1, LINES)


def next_in_thread(call: Iterator[Answer]) -> Callable[[], list[Answer]]:
    """Have the first message of a call read, so that it has begun; what it was."""
    found: list[Answer] = []
    thread = threading.Thread(target=lambda: found.append(next(call)))
    thread.start()

    def joined() -> list[Answer]:
        thread.join(LIMIT_S)
        return found

    return joined
