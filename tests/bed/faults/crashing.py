"""The service, made to kill itself at a moment of its work, or to wait there.

    python -m tests.bed.faults.crashing FUSE PLACE... serve FLAG...

A PLACE names a function, as ``ocigrpc.engine.store.store:Store.end``. While the file FUSE exists
and holds ``before PLACE`` or ``after PLACE``, the next call of it is the last: the process
gets SIGKILL, from itself, before the call has begun, or when it has just ended well. With
``hold PLACE`` the call waits until the FIFO FUSE.gate is opened for writing.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ocigrpc.cli.main import main


def rig(place: str, fuse: Path) -> None:
    """Make the function at a place deadly."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    setattr(owner, name, deadly(getattr(owner, name), place, fuse))


def deadly(function: Callable[..., Any], place: str, fuse: Path) -> Callable[..., Any]:
    """The function, which kills the process before or after a call if the fuse is lit for that."""

    @functools.wraps(function)
    def rigged(*arguments: Any, **named: Any) -> Any:
        die_if_lit(f"before {place}")
        if is_lit(f"hold {place}"):
            fuse.with_suffix(".gate").open().close()
        answer = function(*arguments, **named)
        die_if_lit(f"after {place}")
        return answer

    def die_if_lit(moment: str) -> None:
        if is_lit(moment):
            os.kill(os.getpid(), signal.SIGKILL)

    def is_lit(moment: str) -> bool:
        return fuse.exists() and fuse.read_text() == moment

    return rigged


if __name__ == "__main__":
    serve = sys.argv.index("serve")
    for place in sys.argv[2:serve]:
        rig(place, Path(sys.argv[1]))
    sys.exit(main(sys.argv[serve:]))
