"""A pull that several calls may wait for; it is given up when the last of them has gone."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Generator
from copy import copy

from ocigrpc.engine.images.pulling.wanted import Wanted
from ocigrpc.engine.images.storage import Image
from ocigrpc.engine.model.pulls import PullProgress
from ocigrpc.errors import OcigrpcError
from ocigrpc.oci.images.progress import LayerProgress
from ocigrpc.waiting import Deadline, Flag, Latch


class Job:
    """What is pulled, for whom, and how far it is.

    ``deadline`` is cancelled when nobody wants it any more. ``ended`` is set when nothing of it
    runs any more, and then ``image`` is what was pulled.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.pull_id = secrets.token_hex(16)
        self.deadline = Deadline()
        self.ended = Latch()
        self.image: Image | None = None
        self._lock = threading.Lock()
        # The names that the callers want to give, by what wakes them.
        self._names: dict[Flag, str] = {}
        self._is_closed = False
        self._progress: PullProgress | None = None
        self._error: BaseException | None = None

    def join(self, name: str) -> Flag | None:
        """Wait for it as well, in order to give a name; None if it is too late for that."""
        with self._lock:
            if self._is_closed:
                return None
            caller = Flag()
            caller.set()
            self._names[caller] = name
            return caller

    def leave(self, caller: Flag) -> None:
        """Wait no more; the last one to leave gives it up."""
        with self._lock:
            self._names.pop(caller, None)
            if not self._names:
                self._is_closed = True
                self.deadline.cancel()

    def close(self) -> Collection[str]:
        """Let nobody join any more; the names of all that wait, without empty ones."""
        with self._lock:
            self._is_closed = True
            return {name for name in self._names.values() if name}

    def report(self, progress: PullProgress) -> None:
        """Wake all that wait for how far it is."""
        self._progress = progress
        self._wake()

    def end(self, error: BaseException | None) -> None:
        """Wake them all for the last time."""
        self._error = error
        self.close()
        self.ended.set()
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            for caller in self._names:
                caller.set()

    def follow(self, caller: Flag, deadline: Deadline) -> Generator[PullProgress, None, Image]:
        """How far it is, and the image when it has ended; raises what it has failed by."""
        shown: tuple[LayerProgress, ...] = ()
        while True:
            deadline.wait(caller)
            caller.clear()
            has_ended, progress = self.ended.is_set(), self._progress
            if progress is not None and progress.layers != shown:
                yield _changed(progress, shown)
                shown = progress.layers
            if has_ended:
                break
        if isinstance(self._error, OcigrpcError):
            # One for each: several threads may raise it.
            raise copy(self._error)
        if self._error is not None:
            raise self._error
        assert self.image is not None, "it has not failed"
        return self.image


def _changed(progress: PullProgress, shown: tuple[LayerProgress, ...]) -> PullProgress:
    """The same with the layers that have changed since others were shown."""
    if not shown:
        return progress
    pairs = zip(progress.layers, shown, strict=True)
    changed = tuple(layer for layer, before in pairs if layer != before)
    return PullProgress(progress.digest, progress.total_bytes, progress.received_bytes, changed)
