"""The picture of the command in README: a session on a real terminal, with real containers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bed import REPOSITORY
from tests.bed.clients.terminal import on_terminal
from tests.bed.commands.outcome import exit_status
from tests.bed.commands.picture import PROMPT, picture
from tests.bed.services.service import Service
from tests.bed.services.serving import sandbox

PATH = REPOSITORY / "scripts/session.svg"
_COLUMNS = 100

# Lines for a shell in which $files is a root filesystem.
COMMANDS = (
    "ocigrpc run --rm --rootfs $files echo hello",
    "ocigrpc run -d --name web --rootfs $files sh -c 'while :; do sleep 1; done'",
    "ocigrpc run -d --name queue --memory 64m --pids 20 --rootfs $files sleep 1000",
    "ocigrpc run -d --name batch --rootfs $files sh -c 'exit 3'",
    "ocigrpc pause queue",
    "ocigrpc ps -a",
    "ocigrpc top --no-stream web",
    "ocigrpc events --no-stream --filter event=exited --filter event=paused",
)


def main() -> int:
    return exit_status(_work)


def _work() -> None:
    with sandbox() as service:
        PATH.write_text(picture("A session with ocigrpc", "\n".join(session(service))))
    print(PATH.relative_to(REPOSITORY))


def session(service: Service) -> Iterator[str]:
    """What a terminal shows of the commands. Raises ``AssertionError`` if one fails."""
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for command in COMMANDS:
        with on_terminal(
            ["sh", "-c", command],
            _COLUMNS,
            PATH=programs,
            OCIGRPC_ADDRESS=str(service.directory / "socket"),
            files=str(service.rootfs),
        ) as terminal:
            output = terminal.read_all()
        assert terminal.process.returncode == 0, (command, output)
        yield f"{PROMPT}{command}"
        yield from output.splitlines()


if __name__ == "__main__":
    sys.exit(main())
