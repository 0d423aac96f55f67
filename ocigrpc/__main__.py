"""The ``ocigrpc`` command, also as ``python -m ocigrpc``."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from ocigrpc.deferred import UNUSED, defer


def main() -> NoReturn:
    """Run the command of this process's arguments, and end with its status."""
    is_raised = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_raised:
        # An interrupted import would end with a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    defer(UNUSED)
    from ocigrpc.cli.main import main as command

    if is_raised:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    status = command()
    with suppress(OSError):
        sys.stderr.flush()
    # The output is written, and connections are closed. To take the interpreter apart as well
    # would be a twentieth of the time of a short command.
    os._exit(status)


if __name__ == "__main__":
    main()
