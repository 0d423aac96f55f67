"""The service, able to kill itself at a moment of its work.

    python -m tests.real.crashing FUSE PLACE... serve FLAG...

A PLACE names a function, as ``ocigrpc.engine.store:Store.end``. While the file FUSE exists
and says ``before PLACE`` or ``after PLACE``, the next call of it is the last: the process
gets SIGKILL, from itself, before the call has begun, or when it has just ended well.
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
    """The function, with an end before and after it for when the fuse says so."""

    @functools.wraps(function)
    def rigged(*arguments: Any, **named: Any) -> Any:
        die_if_told(f"before {place}")
        answer = function(*arguments, **named)
        die_if_told(f"after {place}")
        return answer

    def die_if_told(moment: str) -> None:
        if fuse.exists() and fuse.read_text() == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    return rigged


if __name__ == "__main__":
    serve = sys.argv.index("serve")
    for place in sys.argv[2:serve]:
        rig(place, Path(sys.argv[1]))
    sys.exit(main(sys.argv[serve:]))
