"""The caller's credentials for registries, as options and files of podman and docker have them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ocigrpc.cli.failures import Failed
from ocigrpc.cli.session import session

if TYPE_CHECKING:
    from ocigrpc.v1.image_pb2 import RegistryAuth


def auth_of(creds: str | None, authfile: str | None) -> RegistryAuth | None:
    """What the options ask for, else the caller's own file; None leaves it to the service.

    The caller's own file stays on this machine: it is for a service at a unix socket alone. Raises
    ``Failed``, and a usage error.
    """
    # Imported here, since it loads protobuf.
    from ocigrpc.v1.image_pb2 import RegistryAuth

    if creds is not None:
        if authfile is not None:
            raise click.UsageError("--creds and --authfile exclude each other.")
        username, separator, password = creds.partition(":")
        return RegistryAuth(
            username=username, password=password if separator else _asked_password(username)
        )
    path = Path(authfile) if authfile is not None else _own_file()
    return RegistryAuth(auth_json=_logins(path)) if path is not None else None


def _asked_password(username: str) -> str:
    if not sys.stdin.isatty():
        raise click.UsageError("--creds needs USER:PASSWORD where there is no terminal to ask.")
    password: str = click.prompt(f"Password of {username}", hide_input=True, err=True)
    return password


def _own_file() -> Path | None:
    if not session().is_local:
        return None
    return next((path for path in _own_places() if path.is_file()), None)


def _own_places() -> Iterator[Path]:
    """Where containers-auth.json(5) and docker have it."""
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
        return
    if session_directory := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(session_directory, "containers/auth.json")
    else:
        yield Path(f"/run/containers/{os.getuid()}/auth.json")
    yield Path(os.environ.get("HOME") or "/", ".docker/config.json")


def _logins(path: Path) -> str:
    """The logins of a file, without the programs that it names for others."""
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = None
    logins = found.get("auths", {}) if isinstance(found, dict) else None
    if not isinstance(logins, dict):
        raise Failed(f"{path} has no logins as podman and docker write them")
    return json.dumps({"auths": logins})
