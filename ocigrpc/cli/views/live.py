"""Tables that change: in their place on a terminal, one after the other elsewhere."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable

from ocigrpc.cli.failures import EXIT_BY_SIGNAL
from ocigrpc.cli.views.table import Table


def show(tables: Iterable[Table]) -> None:
    """Print each table as it comes, on a terminal in place of the one before."""
    if not sys.stdout.isatty():
        for table in tables:
            table.write()
        return
    # Imported here, since nothing else needs it.
    from rich.live import Live
    from rich.text import Text

    # As SIGINT does, so that the terminal gets its cursor back.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(EXIT_BY_SIGNAL + number))
    with Live(auto_refresh=False, redirect_stderr=False, redirect_stdout=False) as live:
        for table in tables:
            live.update(Text.from_ansi("\n".join(table.lines()), no_wrap=True), refresh=True)
