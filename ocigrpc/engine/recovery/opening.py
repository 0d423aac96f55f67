"""Opens the store, unless there are containers that it does not know.

A service stores what it makes before it makes it. So those are of a service that had another
store: this one is gone, was restored from a backup, or is another node's. They are in good order,
and would be ended as remnants.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.model.record import Record
from ocigrpc.engine.model.values import State
from ocigrpc.engine.recovery.orphans import bundled_ids, has_made
from ocigrpc.engine.store.last_number import LastNumber, noted
from ocigrpc.engine.store.store import Store, outdated_records
from ocigrpc.errors import StoreFailed

# Most ids in an error.
_SHOWN = 64


@contextmanager
def open_store(context: Context) -> Iterator[Store]:
    """The store of these settings, in a ``with``.

    Raises ``StoreFailed``; then nothing has changed. STORE_MISSING: it is gone, but not its
    containers. STORE_OUTDATED: it is older than some of them.
    """
    settings, path = context.settings, store_path(context)
    _refuse_lost_store(path, context)

    def admit(records: Sequence[Record]) -> None:
        _refuse_outdated_store(path, context, records)

    with (
        closing(LastNumber(_last_number_path(context))) as last_number,
        closing(Store(path, settings.event_history, last_number, admit)) as store,
    ):
        yield store


def is_outdated(context: Context) -> bool:
    """Whether the store, which nobody has open, lacks what has happened since; changes nothing.

    Raises what :func:`open_store` would raise; a service that is started does so, too.
    """
    path = store_path(context)
    _refuse_lost_store(path, context)
    if not os.path.lexists(path):
        return False
    records = outdated_records(path, noted(_last_number_path(context)))
    if records is not None:
        _refuse_outdated_store(path, context, records)
    return records is not None


def store_path(context: Context) -> Path:
    """Where the store is."""
    return Path(context.settings.root_dir) / "ocigrpc.db"


def _last_number_path(context: Context) -> Path:
    return Path(context.settings.run_dir) / "last-event"


def _refuse_lost_store(path: Path, context: Context) -> None:
    if os.path.lexists(path):
        return
    if found := _unknown_ids(context, []):
        run_dir = context.settings.run_dir
        raise StoreFailed(
            f"store {path}: it is gone, but there are {len(found)} containers in {run_dir}",
            reason="STORE_MISSING",
            path=path,
            containers=len(found),
            run_dir=run_dir,
        )


def _refuse_outdated_store(path: Path, context: Context, records: Sequence[Record]) -> None:
    if found := _unknown_ids(context, records):
        ids = " ".join(found[:_SHOWN])
        raise StoreFailed(
            f"store {path}: it does not know {len(found)} containers, which are newer: {ids}",
            reason="STORE_OUTDATED",
            path=path,
            containers=len(found),
            ids=ids,
        )


def _unknown_ids(context: Context, records: Sequence[Record]) -> Sequence[str]:
    """The containers that were made after all of these records."""
    if not os.path.isdir(context.paths("").bundle):
        # No service has been here since the node was started.
        return []
    # One that was being created then has been made since, if it is there.
    known = {each.container_id: each for each in records if each.state is not State.CREATING}
    return [
        each
        for each in bundled_ids(context)
        if has_made(context, each) and not (each in known and _is_of(context, known[each]))
    ]


def _is_of(context: Context, record: Record) -> bool:
    """Whether what has the container's id is it, and was not made after its removal."""
    try:
        pid = Path(context.paths(record.container_id).monitor_pid_file).read_text()
    except OSError:
        return True
    return record.monitor is None or pid.strip() == str(record.monitor.pid)
