"""Notifies the init system of the state of the service; sd_notify(3)."""

from __future__ import annotations

import os
import socket

from ocigrpc.log import get_logger

log = get_logger()


def notify(state: str) -> None:
    """Send ``state``, such as ``READY=1``, to the init system if it has asked for it."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    # The manual page writes the NUL of an abstract address as "@".
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            # An init system that does not listen must not hold the service up.
            sender.settimeout(1.0)
            sender.sendto(state.encode(), address)
    except OSError as error:
        log.warning("notify.failed", state=state, path=path, error=str(error))
