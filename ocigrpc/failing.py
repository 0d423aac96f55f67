"""What the host refuses, as the errors that a caller gets."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ocigrpc.errors import HostFailed, LimitReached, OcigrpcError


def host_failure(error: OSError | OcigrpcError) -> OcigrpcError:
    """The error that a caller gets for an ``OSError``; any other is its own.

    ``LimitReached`` (TOO_MANY_OPEN_FILES), else ``HostFailed`` with the ``path``, if any.
    """
    if isinstance(error, OcigrpcError):
        return error
    text = error.strerror or str(error)
    path = error.filename
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return LimitReached(text, reason="TOO_MANY_OPEN_FILES", error=text)
    if not isinstance(path, str | bytes):
        return HostFailed(f"the host refuses: {text}", error=text)
    name = path if isinstance(path, str) else path.decode(errors="replace")
    return HostFailed(f"the host refuses {name}: {text}", path=name, error=text)


@contextmanager
def host_failing(verb: str, path: object = "") -> Iterator[None]:
    """Raise an ``OSError`` of the block as ``HostFailed``: what can't be done, to what ``path``."""
    try:
        yield
    except OSError as error:
        text = error.strerror or str(error)
        failure = HostFailed(f"can't {verb} {path}".rstrip() + f": {text}", error=text)
        if path:
            failure.metadata["path"] = str(path)
        raise failure from error
