"""A sign of life for people who wait longer than a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE_S = 1.0


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """Show on the terminal of standard error what is being done, once it takes over a second."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    ended = threading.Event()
    watcher = threading.Thread(target=_show, args=(doing, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        # It ends at once, unless nobody reads the terminal.
        watcher.join(_PATIENCE_S)


def _show(doing: str, ended: threading.Event) -> None:
    if ended.wait(_PATIENCE_S):
        return
    # Imported here, since most commands end sooner.
    from rich.console import Console

    with Console(stderr=True).status(f"{doing} ..."):
        ended.wait()
