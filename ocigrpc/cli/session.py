"""What every client command has: the service's address, and a client of it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, Self, TypeVar

import click

if TYPE_CHECKING:
    from ocigrpc.client import Client

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Session(NamedTuple):
    """The options before the name of a command."""

    address: str
    debug: bool
    tls_paths: tuple[str, str, str] | None
    """Of the certificate, its key and the authorities."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """The session of the options by their names. Raises a usage error."""
        tls = [options[name] for name in ("tls_cert", "tls_key", "tls_ca")]
        if any(tls) and not all(tls):
            raise click.UsageError("--tls-cert, --tls-key and --tls-ca belong together.")
        cert, key, authorities = tls
        return cls(
            address=options["address"],
            debug=options["debug"],
            tls_paths=(cert, key, authorities) if cert else None,
        )

    @property
    def is_local(self) -> bool:
        """Whether the service is at a unix socket, and so on this machine."""
        return self.address.startswith(("unix:", "/"))

    def connect(self, timeout_s: float = 120.0) -> Client:
        """A client of the service, for calls that take no longer.

        Raises ``Unreachable``, at once if nothing listens, and a usage error for the address.
        """
        # What is imported stays. To look for garbage in it, now and at the end of the process,
        # would take a sixth of the time of a short command.
        gc.disable()
        # What gRPC has to say is in its errors, which are told in a line.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        # Imported here, since it loads gRPC, which completion and help should not wait for.
        from ocigrpc.client import Client, Tls

        gc.freeze()
        gc.enable()
        tls = Tls(*self.tls_paths) if self.tls_paths else None
        try:
            return Client(self.address, tls=tls, timeout_s=timeout_s)
        except ValueError as error:
            raise click.UsageError(f"--address: {error}.") from None


def session() -> Session:
    """The session of the command that runs."""
    found = click.get_current_context().find_object(Session)
    assert found is not None, "main makes it before any command runs"
    return found


def with_client(
    command: Callable[Concatenate[Client, _P], _R],
) -> Callable[_P, _R]:
    """A command that is given a client, for as long as it runs."""

    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with session().connect() as client:
            return command(client, *args, **kwargs)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run
