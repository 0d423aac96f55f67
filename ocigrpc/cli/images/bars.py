"""How far a pull is, on standard error: a line for each layer that is done, and bars meanwhile."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ocigrpc.cli.container_names import SHORT_ID
from ocigrpc.cli.failures import EXIT_BY_SIGNAL
from ocigrpc.cli.views.filters import ALGORITHM
from ocigrpc.cli.views.words import size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ocigrpc.v1.image_pb2 import LayerProgress, PullProgress


class Shown:
    """Shows nothing of a pull; the others show a line for each layer, once it is done."""

    def show(self, report: PullProgress) -> None:
        """Show what has changed."""

    def end(self) -> None:
        """Show that the image is there, and so all of its layers."""


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[Shown]:
    """What shows a pull: bars on a terminal, lines elsewhere, nothing if quiet."""
    if quiet:
        yield Shown()
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        with _bars() as bars:
            yield bars


class _Lines(Shown):
    def __init__(self) -> None:
        self._pending: dict[str, LayerProgress] = {}

    def show(self, report: PullProgress) -> None:
        for layer in report.layers:
            if words := _end_of(layer):
                self._done(layer, words)
            else:
                self._pending[layer.digest] = layer
                self._goes_on(layer)

    def end(self) -> None:
        for layer in list(self._pending.values()):
            self._done(layer, _done_words(layer))

    def _done(self, layer: LayerProgress, words: str) -> None:
        self._pending.pop(layer.digest, None)
        self._write(f"{_name_of(layer)} {words}")

    def _goes_on(self, layer: LayerProgress) -> None:
        """A layer is not done yet."""

    def _write(self, line: str) -> None:
        click.echo(line, err=True)


class _Bars(_Lines):
    """A bar for each layer in work; of one that is done, the line above them is left."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def _done(self, layer: LayerProgress, words: str) -> None:
        if layer.digest in self._tasks:
            self._progress.remove_task(self._tasks.pop(layer.digest))
        super()._done(layer, words)

    def _goes_on(self, layer: LayerProgress) -> None:
        from ocigrpc.v1.image_pb2 import LAYER_STATE_UNPACKING

        received, whole = layer.received_bytes, layer.size_bytes
        if not received:
            return
        unpacking = layer.state == LAYER_STATE_UNPACKING
        words = "unpacking" if unpacking else f"{size(received)} / {size(whole)}"
        if layer.digest not in self._tasks:
            self._tasks[layer.digest] = self._progress.add_task(_name_of(layer), words=words)
        task = self._tasks[layer.digest]
        self._progress.update(task, completed=received, total=whole, words=words)

    def _write(self, line: str) -> None:
        self._progress.console.print(line, markup=False)


@contextmanager
def _bars() -> Iterator[_Bars]:
    # Imported here, since nothing else needs it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    # As SIGINT does, so that the terminal gets its cursor back.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(EXIT_BY_SIGNAL + number))
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"))
    console = Console(stderr=True, highlight=False)
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress)


def _name_of(layer: LayerProgress) -> str:
    return f"Copying blob {layer.digest.removeprefix(ALGORITHM)[:SHORT_ID]}"


def _end_of(layer: LayerProgress) -> str:
    """What is said of a layer that is done; "" for another."""
    from ocigrpc.v1 import image_pb2 as pb

    if layer.state == pb.LAYER_STATE_STORED:
        return _done_words(layer)
    return "skipped: already exists" if layer.state == pb.LAYER_STATE_PRESENT else ""


def _done_words(layer: LayerProgress) -> str:
    return f"done ({size(layer.size_bytes)})"
