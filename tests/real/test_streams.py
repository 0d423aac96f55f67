"""What a container reads and writes: terminal, standard input, log."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.bundles.bundle import spec_json
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service

WHICH = "for fd in 0 1 2; do [ -t $fd ] && echo terminal || echo none; done; stty size; true"


def test_a_terminal_is_one_on_all_three(service: Service) -> None:
    lines = service.output_of(WHICH, terminal=True)
    assert [line.rstrip("\r") for line in lines[:3]] == ["terminal"] * 3


def test_without_a_terminal_there_is_none(service: Service) -> None:
    assert service.output_of(WHICH) == ["none"] * 3


def test_a_spec_that_asks_for_a_terminal_gets_one(service: Service) -> None:
    command = ("/bin/sh", "-c", WHICH)
    spec = spec_json(service.rootfs, command, terminal=True)
    request = CreateContainerRequest(spec_json=spec, container_id="one")
    service.client.create_container(request)
    service.start_container("one")
    assert service.wait("one").exit_code == 0
    assert service.output("one")[0].rstrip("\r") == "terminal"
    assert service.status("one").terminal


def test_standard_input_is_empty_unless_asked_for(service: Service) -> None:
    assert service.output_of("readlink /proc/self/fd/0; cat; echo end") == ["/dev/null", "end"]


def test_standard_input_stays_open_when_asked_for(service: Service) -> None:
    container_id = service.run("echo begun; cat; echo end", stdin=True)
    until(lambda: service.output(container_id) == ["begun"])
    pid = service.status(container_id).pid
    assert str(Path(f"/proc/{pid}/fd/0").readlink()).startswith("pipe:")
    assert service.status(container_id).stdin
    service.stop(container_id, 0)
    assert service.output(container_id) == ["begun"]


def test_a_log_path_of_the_clients_choice_is_kept(service: Service, tmp_path: Path) -> None:
    log = tmp_path / "mine.log"
    container_id = service.run("echo hello", log_path=str(log))
    service.wait(container_id)
    assert service.status(container_id).log_path == str(log)
    service.remove(container_id)
    assert log.read_text().endswith(" stdout F hello\n")


def test_a_log_path_of_the_services_choice_is_removed(service: Service) -> None:
    container_id = service.run("echo hello")
    service.wait(container_id)
    log = Path(service.status(container_id).log_path)
    assert log.exists()
    service.remove(container_id)
    assert not log.exists()


@pytest.mark.parametrize("path", ["/no/such/directory/log", "relative.log", "/var/tmp/a:b"])
def test_a_log_path_that_conmon_could_not_use_is_refused(service: Service, path: str) -> None:
    with refused("INVALID_ARGUMENT") as refusal:
        service.create(log_path=path)
    assert refusal.fields == ["log_path"]
    assert service.leaks() == []


def test_a_log_is_bounded_by_its_maximum_size(service: Service) -> None:
    script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"
    container_id = service.run(script, log_size_max_bytes=10_000)
    service.wait(container_id)
    log = Path(service.status(container_id).log_path)
    assert 0 < log.stat().st_size <= 10_000
    assert service.output(container_id)[-1] == "line 1999"


def test_a_line_without_an_end_is_partial(service: Service) -> None:
    container_id = service.run("printf 'no end'")
    service.wait(container_id)
    assert Path(service.status(container_id).log_path).read_text().endswith(" stdout P no end\n")


def test_half_a_megabyte_of_output_is_all_there(service: Service) -> None:
    lines = service.output_of("head -c 500000 /dev/zero | tr '\\0' x | fold -w 100")
    assert lines == ["x" * 100] * 5000
