"""A container from its making to its removal, on every kind of host."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import below, until
from tests.bed.services.service import Service


def read_on_host(service: Service, path: str) -> str:
    return subprocess.check_output(service.host.command(["cat", path]), text=True)


def frozen(service: Service, cgroup_path: str) -> bool:
    """Whether the kernel says so, in whichever group the runtime froze."""
    groups = [Path(f"{root}{cgroup_path}") for root in service.host.cgroup_roots]
    v1 = [file.read_text() for group in groups for file in below(group, "freezer.state")]
    events = [file.read_text() for group in groups for file in below(group, "cgroup.events")]
    return "FROZEN\n" in v1 or any("frozen 1" in text for text in events)


def monitor_groups(service: Service, container_id: str) -> list[Path]:
    return [
        group
        for parent in service.parents()
        for group in below(parent, f"ocigrpc-conmon-{container_id}*")
    ]


def test_a_container_lives_its_whole_life(any_service: Service) -> None:
    service = any_service
    created = service.create(
        "trap 'echo asked; exit 7' TERM; echo begun; echo bad >&2; while :; do sleep 0.05; done",
        name="one",
        labels={"app": "web"},
        annotations={"note": "x"},
    )
    container_id = created.container_id
    status = service.status(container_id)
    assert service.state(container_id) == "created"
    assert status.pid == created.pid > 0
    assert (status.name, dict(status.labels)) == ("one", {"app": "web"})
    assert status.annotations["note"] == "x"
    assert status.HasField("created_at")
    assert not status.HasField("started_at")
    assert not status.HasField("exit_status")

    service.start_container(container_id)
    status = service.status(container_id)
    assert service.state(container_id) == "running"
    assert status.started_at.ToNanoseconds() > status.created_at.ToNanoseconds()
    assert not frozen(service, status.cgroup_path)
    # Its last line.
    until(lambda: service.output(container_id, "stderr") == ["bad"])
    assert service.output(container_id) == ["begun"]

    service.pause(container_id)
    assert service.state(container_id) == "paused"
    assert frozen(service, status.cgroup_path)

    service.resume(container_id)
    assert service.state(container_id) == "running"
    assert not frozen(service, status.cgroup_path)

    service.stop(container_id, 10)
    exit_status = service.wait(container_id)
    assert exit_status.exit_code == 7
    assert not exit_status.HasField("signal")
    assert not exit_status.oom_killed
    assert exit_status.finished_at.ToNanoseconds() > status.started_at.ToNanoseconds()
    assert service.state(container_id) == "stopped"
    assert service.status(container_id).pid == 0
    assert service.output(container_id) == ["begun", "asked"]
    assert service.ids() == [container_id]

    service.remove(container_id)
    assert service.ids() == []
    assert service.leaks() == []


def test_conmon_has_a_cgroup_of_its_own_for_as_long_as_it_lives(any_service: Service) -> None:
    service = any_service
    container_id = service.run()
    pid = service.monitor_pid(container_id)
    lines = read_on_host(service, f"/proc/{pid}/cgroup").splitlines()
    groups = {line.split(":", 2)[2].rsplit("/", 1)[1] for line in lines if "ocigrpc" in line}
    suffix = ".scope" if service.host.name == "systemd" else ""
    assert groups == {f"ocigrpc-conmon-{container_id}{suffix}"}
    assert monitor_groups(service, container_id)
    service.kill(container_id)
    service.wait(container_id)
    until(lambda: not monitor_groups(service, container_id))


def test_a_container_is_in_the_cgroup_that_its_status_names(any_service: Service) -> None:
    status = any_service.status(any_service.run())
    lines = read_on_host(any_service, f"/proc/{status.pid}/cgroup").splitlines()
    assert any(f":{status.cgroup_path}" in line for line in lines)


def test_a_paused_container_is_stopped_within_its_timeout(any_service: Service) -> None:
    script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    container_id = any_service.run(script)
    until(lambda: any_service.output(container_id) == ["ready"])
    any_service.pause(container_id)
    any_service.stop(container_id, 10)
    assert any_service.wait(container_id).exit_code in (3, 128 + 15)


def test_a_paused_container_is_removed_by_force(any_service: Service) -> None:
    container_id = any_service.run()
    any_service.pause(container_id)
    any_service.remove(container_id, force=True)
    assert any_service.leaks() == []


def test_a_program_that_is_not_there_is_refused_and_leaves_nothing(any_service: Service) -> None:
    with refused("FAILED_PRECONDITION", "PROGRAM_NOT_FOUND") as refusal:
        any_service.create_command("/no/such/program")
    assert "/no/such/program" in refusal.metadata["output"]
    assert any_service.leaks() == []


def test_containers_are_found_again_after_a_restart(any_service: Service) -> None:
    running, paused, ended = any_service.run(), any_service.run(), any_service.run("exit 9")
    any_service.pause(paused)
    any_service.wait(ended)
    any_service.end()
    any_service.start()
    states = {each: any_service.state(each) for each in (running, paused, ended)}
    assert states == {running: "running", paused: "paused", ended: "stopped"}
    assert any_service.wait(ended).exit_code == 9
    any_service.stop(paused, 0)
    assert any_service.wait(paused).exit_code == 137


def test_twenty_stops_of_many_containers_at_once_all_succeed(any_service: Service) -> None:
    container_ids = [any_service.run() for _ in range(6)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda each: any_service.stop(each, 0), container_ids * 4))
    assert {any_service.wait(each).exit_code for each in container_ids} == {137}
