"""A backup of the store is made while the service runs, and a service starts with it."""

from __future__ import annotations

import gzip
import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from ocigrpc.errors import LimitReached
from ocigrpc.v1.runtime_pb2 import BackupStoreRequest
from tests.bed.checks.integrity import expect_integrity
from tests.bed.clients.command import Command
from tests.bed.hosts.leaks import LIMIT_S, suspend, until
from tests.bed.services.service import Service

# So that a copy has more pieces than gRPC takes from the service before the client reads them.
NOTES = {"note": "x" * (250 << 10)}
MANY = 8


def fill(service: Service) -> None:
    """Have a store of several MiB."""
    for number in range(MANY):
        service.create(container_id=f"c{number}", annotations=NOTES, labels=NOTES)


def held(service: Service) -> list[str]:
    """The files in the store's directory that the service has open."""
    root = str(service.directory / "root/ocigrpc.db")
    found = []
    for fd in Path(f"/proc/{service.pid}/fd").iterdir():
        try:
            target = os.readlink(fd)
        except FileNotFoundError:
            continue
        if target.startswith(root):
            found.append(target)
    return sorted(found)


def test_a_service_starts_with_a_backup_and_has_all_its_containers(
    service: Service, tmp_path: Path
) -> None:
    lives = service.run(labels={"tier": "front"})
    ended = service.run("exit 3")
    assert service.wait(ended).exit_code == 3
    file = tmp_path / "backup.db"
    done = Command(service)("backup", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    service.end()
    store = service.directory / "root/ocigrpc.db"
    store.unlink()
    file.rename(store)
    service.start()
    assert set(service.ids()) == {lives, ended}
    assert service.status(lives).labels == {"tier": "front"}
    assert (service.state(lives), service.state(ended)) == ("running", "stopped")
    assert service.status(ended).exit_status.exit_code == 3
    expect_integrity(service)


def test_a_backup_goes_to_standard_output(service: Service, tmp_path: Path) -> None:
    service.create()
    command = Command(service)
    argv = command.argv("backup", "-")
    script = 'set -o pipefail; "$@" | gzip'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *argv], capture_output=True, timeout=LIMIT_S, check=True
    )
    assert command("backup", str(tmp_path / "file")).returncode == 0
    assert gzip.decompress(done.stdout) == (tmp_path / "file").read_bytes()


def test_a_backup_is_not_written_to_a_terminal(service: Service) -> None:
    ours, theirs = os.openpty()
    argv = Command(service).argv("backup", "-")
    done = subprocess.run(argv, stdout=theirs, stderr=subprocess.PIPE, timeout=LIMIT_S, check=False)
    os.close(theirs)
    # Nothing was written: the end, as a terminal reports it.
    with pytest.raises(OSError, match="Input/output error"):
        os.read(ours, 1)
    os.close(ours)
    assert done.returncode == 2
    assert b"terminal" in done.stderr


def test_a_file_is_replaced_only_by_force_and_only_when_the_backup_is_whole(
    service: Service, tmp_path: Path
) -> None:
    command = Command(service)
    file, link = tmp_path / "backup.db", tmp_path / "link"
    file.write_text("older")
    link.symlink_to(file)
    assert "--force" in command.refusal("backup", str(file))
    assert file.read_text() == "older"
    command.lines("backup", "--force", str(link))
    assert link.is_symlink()
    assert file.read_bytes().startswith(b"SQLite format 3\0")
    assert "regular file" in command.refusal("backup", "--force", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert set(tmp_path.iterdir()) == {file, link}


def test_the_store_itself_is_not_replaced_by_its_backup(service: Service) -> None:
    service.create()
    store = service.directory / "root/ocigrpc.db"
    inode = store.stat().st_ino
    assert "in use" in Command(service).refusal("backup", "--force", str(store))
    assert store.stat().st_ino == inode


def test_a_disk_without_room_for_the_file_has_nothing_of_it_afterwards(
    service: Service, tmp_path: Path
) -> None:
    fill(service)
    before = held(service)
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", full], check=True)
    try:
        assert "No space left" in Command(service).refusal("backup", str(full / "backup.db"))
        assert list(full.iterdir()) == []
    finally:
        subprocess.run(["umount", full], check=True)
    until(lambda: "BackupStore" not in service.client.status().streams)
    assert held(service) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_interrupted_leaves_nothing(
    service: Service, tmp_path: Path, number: signal.Signals
) -> None:
    # It waits for a service that does not answer, until it is interrupted.
    suspend(service.pid)
    try:
        with Command(service).start("backup", str(tmp_path / "backup.db")) as command:
            until(lambda: any(tmp_path.iterdir()))
            command.send_signal(number)
            assert command.wait(LIMIT_S) == 128 + number
    finally:
        os.kill(service.pid, signal.SIGCONT)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_a_client_that_goes_leaves_nothing_in_the_service(service: Service, pieces: int) -> None:
    fill(service)
    before = held(service)
    call = service.wire.BackupStore(BackupStoreRequest(), timeout=LIMIT_S)
    for _ in range(pieces):
        next(call)
    call.cancel()
    until(lambda: "BackupStore" not in service.client.status().streams)
    assert held(service) == before


def test_while_one_backup_is_made_another_is_refused_and_containers_change(
    service: Service,
) -> None:
    fill(service)
    first = service.client.backup_store()
    begin = next(first)
    with pytest.raises(LimitReached) as caught:
        next(service.client.backup_store())
    assert caught.value.reason == "TOO_MANY_STREAMS"
    assert caught.value.metadata == {"limit": "1", "rpc": "BackupStore"}
    container_id = service.run()
    service.pause(container_id)
    assert len(begin + b"".join(first)) > MANY * (500 << 10)
    assert next(service.client.backup_store()).startswith(b"SQLite format 3\0")
