"""What somebody types by hand, beside the service, shows up in the next status."""

from __future__ import annotations

import subprocess

from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service


def runc(service: Service, *words: str) -> None:
    root = str(service.directory / "runc")
    subprocess.run(["runc", "--root", root, *words], check=True, stdin=subprocess.DEVNULL)


def test_a_pause_by_hand_shows_up(service: Service) -> None:
    container_id = service.run()
    runc(service, "pause", container_id)
    assert service.state(container_id) == "paused"
    service.resume(container_id)
    assert service.state(container_id) == "running"


def test_a_resume_by_hand_shows_up(service: Service) -> None:
    container_id = service.run()
    service.pause(container_id)
    runc(service, "resume", container_id)
    assert service.state(container_id) == "running"
    with refused("FAILED_PRECONDITION", "WRONG_STATE"):
        service.resume(container_id)


def test_a_start_by_hand_shows_up(service: Service) -> None:
    container_id = service.create("echo hello; exec sleep 1000").container_id
    runc(service, "start", container_id)
    # runc does not wait until it has become the program.
    until(lambda: service.state(container_id) == "running")
    with refused("FAILED_PRECONDITION", "WRONG_STATE") as refusal:
        service.start_container(container_id)
    assert refusal.metadata["state"] == "running"


def test_a_kill_by_hand_shows_up_with_the_exit_code(service: Service) -> None:
    container_id = service.run()
    runc(service, "kill", container_id, "KILL")
    exit_status = service.wait(container_id)
    assert (exit_status.exit_code, exit_status.signal) == (137, 9)
    assert service.state(container_id) == "stopped"


def test_a_delete_by_hand_shows_up_with_the_exit_code(service: Service) -> None:
    container_id = service.run()
    runc(service, "delete", "--force", container_id)
    assert service.state(container_id) == "stopped"
    assert service.wait(container_id).exit_code == 137
    service.remove(container_id)
    assert service.leaks() == []


def test_a_filter_by_state_sees_what_was_done_by_hand(service: Service) -> None:
    container_id = service.run()
    runc(service, "pause", container_id)
    assert service.ids(states=[4]) == [container_id]
    assert service.ids(states=[3]) == []
