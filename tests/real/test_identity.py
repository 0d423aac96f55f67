"""No signal goes to a process that is not provably the recorded one."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest

from ocigrpc.engine.containers import kill as killing
from ocigrpc.engine.containers.container import Container
from ocigrpc.engine.containers.context import Context
from ocigrpc.engine.store.database import add_seal
from ocigrpc.engine.store.store import Store
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.host.processes.process import Process
from ocigrpc.settings.values import Settings
from ocigrpc.v1.container_pb2 import MONITOR_LOST_POLICY_KILL, ExitProvenance
from ocigrpc.waiting import Deadline
from tests.bed.checks.strangers import stranger
from tests.bed.checks.unknown_exit import expect_unknown_exit
from tests.bed.clients.events import Events
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service
from tests.real.conftest import StartService
from tests.unit.test_store import RECORD

Identity = Mapping[str, object]
ANOTHER_BOOT: Identity = {"boot_id": "another"}


def rewrite(service: Service, **identities: Identity) -> None:
    """Change ``init`` and ``monitor`` in the records of a service that is down."""
    with closing(sqlite3.connect(service.directory / "root/ocigrpc.db")) as store, store:
        add_seal(store)
        rows = store.execute("SELECT kind, id, record FROM records WHERE kind = 'container'")
        for kind, name, blob in rows.fetchall():
            record = json.loads(blob)
            for key, identity in identities.items():
                record[key] |= identity
            changed = json.dumps(record).encode()
            store.execute(
                "INSERT OR REPLACE INTO records VALUES (?1, ?2, ?3, seal(?1, ?2, ?3))",
                (kind, name, changed),
            )


def reused(pid: int) -> Identity:
    """The stranger's pid, with the start time that was the container's."""
    return {"pid": pid}


def of_another_boot(pid: int) -> Identity:
    """All of the stranger's identity but the boot."""
    return {"pid": pid, "start_ticks": Process(pid).identity.start_ticks, **ANOTHER_BOOT}


def kill(*pids: int) -> None:
    """Kill processes, and wait until they have ended."""
    for pid in pids:
        pidfd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        Deadline(LIMIT_S).wait(pidfd)
        os.close(pidfd)


@pytest.mark.parametrize(
    ("identity", "why"), [(reused, "MONITOR_LOST"), (of_another_boot, "REBOOT")]
)
def test_a_stranger_with_the_pids_of_a_container_is_not_touched(
    start_service: StartService, identity: Callable[[int], Identity], why: str
) -> None:
    service = start_service()
    container_id = service.run(monitor_lost_policy=MONITOR_LOST_POLICY_KILL)
    monitor_pid, pid = service.monitor_pid(container_id), service.status(container_id).pid
    service.end()
    # The monitor first, or it would tell of the other's end.
    kill(monitor_pid, pid)
    with stranger() as strangers_pid:
        theirs = identity(strangers_pid)
        rewrite(service, init=theirs, monitor=theirs)
        service.start()
        expect_unknown_exit(service, container_id, why)
        assert service.status(container_id).pid == 0
        with refused("FAILED_PRECONDITION", "WRONG_STATE"):
            service.kill(container_id)
        with refused("FAILED_PRECONDITION", "WRONG_STATE"):
            service.kill(container_id, everyone=True)
        service.stop(container_id, 0)
        service.remove(container_id, force=True)
        assert service.leaks() == []


def test_a_stranger_with_the_pid_of_a_lost_monitor_is_not_touched(
    start_service: StartService,
) -> None:
    service = start_service()
    left, killed = service.run(), service.run(monitor_lost_policy=MONITOR_LOST_POLICY_KILL)
    monitor_pids = [service.monitor_pid(each) for each in (left, killed)]
    service.end()
    kill(*monitor_pids)
    with stranger() as strangers_pid:
        rewrite(service, monitor=reused(strangers_pid))
        service.start()
        assert service.wait(killed).provenance == ExitProvenance.EXIT_PROVENANCE_MONITOR_LOST
        assert service.status(left).monitor_lost
        assert "monitor_pid" not in service.info(left)
        service.stop(left, 0)
        for container_id in (left, killed):
            expect_unknown_exit(service, container_id, "MONITOR_LOST")
            service.remove(container_id)
        assert service.leaks() == []


@pytest.mark.parametrize("state", ["created", "running", "paused"])
def test_what_lived_before_a_reboot_is_stopped_and_says_why(
    start_service: StartService, state: str
) -> None:
    service = start_service()
    container_id = service.create(monitor_lost_policy=MONITOR_LOST_POLICY_KILL).container_id
    if state != "created":
        service.start_container(container_id)
    if state == "paused":
        service.pause(container_id)
    pid, cursor = service.status(container_id).pid, Events(service).cursor
    service.end()
    rewrite(service, init=ANOTHER_BOOT, monitor=ANOTHER_BOOT)
    service.start()
    expect_unknown_exit(service, container_id, "REBOOT")
    # Nothing is known of its monitor's end, so that no policy applies.
    events = Events(service, after=cursor, container_id=container_id)
    assert events.words_until("exited") == ["exited"]
    # The node was not really started anew, so that there is something left: not ours to
    # signal by its number, and to be removed by its cgroup.
    assert Process(pid).alive()
    service.remove(container_id)
    assert service.leaks() == []


@pytest.mark.parametrize("kill", [killing.kill, killing.kill_rest])
def test_who_kills_late_does_not_touch_the_next_container_of_the_same_id(
    tmp_path: Path, kill: Callable[[Container, Deadline], None]
) -> None:
    context = Context(Settings(), Hierarchies.detect())
    record = msgspec.structs.replace(RECORD, cgroup_parent=f"/{tmp_path.name}")
    with closing(Store(tmp_path / "store", 100)) as store, ExitStack() as undo:
        removed = Container(record, store, context)
        cgroups = removed.cgroups
        removed.removed.set()
        cgroups.container.create()
        undo.callback(context.hierarchies.group(cgroups.parent).remove, Deadline(LIMIT_S))
        cgroups.container.add(undo.enter_context(stranger()))
        kill(removed, Deadline(LIMIT_S))
