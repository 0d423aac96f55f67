"""How commands fail: one line on standard error, and the exit status that users know."""

from __future__ import annotations

import select
import sys
import traceback
from contextlib import suppress
from typing import TextIO

import click

from ocigrpc.errors import OcigrpcError

EXIT_FAILED = 1
EXIT_USAGE = 2
# Of commands whose exit status is otherwise that of a program, as podman and docker have them.
EXIT_OURS = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
# Added to the number of a signal, as shells do.
EXIT_BY_SIGNAL = 128

# How long a line waits for a terminal that nobody reads, which must not keep us from ending.
_TERMINAL_LIMIT_S = 1.0

_REMEDIES = {
    "NOT_RUNNING": "start it with 'systemctl start ocigrpc' or 'ocigrpc serve', or name its"
    " address with --address",
    "UNREACHABLE": "check --address, and --tls-cert, --tls-key and --tls-ca, which a service with"
    " TLS needs",
    "SOCKET_DENIED": "ask for the group, or use sudo",
    "WRONG_STATE": "'ocigrpc ps -a' shows the states",
    "NAME_IN_USE": "choose another name, or remove that container with 'ocigrpc rm'",
    "RECOVERING": "try again soon",
    "ATTACH_TOO_SLOW": "read faster, or read 'ocigrpc logs', which nobody has to keep up with",
    "CONTAINER_NOT_FOUND": "'ocigrpc ps -a' shows all containers",
    "IMAGE_NOT_FOUND": "'ocigrpc images' shows all images",
    "REGISTRY_UNAUTHORIZED": "log in with --creds or --authfile",
    "IMAGE_HAS_NAMES": "remove the names one by one, or all with --force",
}


class Failed(Exception):
    """A command can't do what it was asked to; ``status`` is its exit status."""

    def __init__(self, message: str, status: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


def complain(message: str) -> None:
    """Print a line for people on standard error."""
    line = " ".join(message.split())
    # What standard error does not take has no other place, and is no other failure.
    if _is_read(sys.stderr):
        with suppress(OSError):
            click.echo(f"ocigrpc: {line}", err=True)


def _is_read(stream: TextIO | None) -> bool:
    """Whether a stream takes a line soon; a terminal that is held, as by Ctrl-S, does not."""
    if stream is None or not stream.isatty():
        return True
    _, writable, _ = select.select([], [stream], [], _TERMINAL_LIMIT_S)
    return bool(writable)


def explain(error: OcigrpcError, *, debug: bool) -> None:
    """Print what went wrong and what to do, in a line; with ``debug`` all that is known of it."""
    complain(said(error))
    if debug:
        traceback.print_exception(error, file=sys.stderr)
        click.echo(f"reason: {error.reason}", err=True)
        for key, value in error.metadata.items():
            click.echo(f"{key}: {value}", err=True)


def said(error: OcigrpcError) -> str:
    """An error in a line, with what to do about it where that is known.

    A container has the name in it that the user has given; see :func:`call_it`.
    """
    message = error.message
    for container_id, name in _names().items():
        # In its quotes, since an id may be a word of the message.
        message = message.replace(repr(container_id), repr(name))
    # What a registry lacks is nowhere here either.
    is_elsewhere = error.reason == "IMAGE_NOT_FOUND" and "registry" in error.metadata
    remedy = None if is_elsewhere else _REMEDIES.get(error.reason)
    return f"{message}; {remedy}" if remedy else message


def call_it(container_id: str, name: str) -> None:
    """Have failures of this command call a container by a name."""
    _names()[container_id] = name


def _names() -> dict[str, str]:
    names: dict[str, str] = click.get_current_context().find_root().meta.setdefault(__name__, {})
    return names


def program_status(error: OcigrpcError) -> int:
    """The exit status for a program that could not be run, as shells and podman have it."""
    return {
        "PROGRAM_NOT_FOUND": EXIT_NOT_FOUND,
        "PROGRAM_NOT_EXECUTABLE": EXIT_NOT_EXECUTABLE,
    }.get(error.reason, EXIT_OURS)
