"""The Python client against a real service: its methods, its errors, its examples."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import ocigrpc.client.client
from ocigrpc import Client
from ocigrpc.client import Unreachable
from ocigrpc.errors import ContainerNotFound, InvalidArgument, Timeout, WrongState
from ocigrpc.v1 import attach_pb2, event_pb2, exec_pb2, runtime_pb2, terminal_pb2
from tests.bed.services.service import Service


@pytest.fixture
def client(service: Service) -> Client:
    return Client(str(service.directory / "socket"))


def test_a_life(service: Service, client: Client) -> None:
    with client:
        request = runtime_pb2.CreateContainerRequest(
            config=service.config("echo one; echo two >&2; exit 3"), name="web", start=True
        )
        container_id = client.create_container(request).container_id
        assert client.wait_container("web", timeout_s=30).exit_code == 3
        lines = [line for page in client.container_logs("web") for line in page.lines]
        assert {line.content for line in lines} == {b"one", b"two"}
        assert [each.name for each in client.list_containers()] == ["web"]
        client.remove_container(container_id)
        assert list(client.list_containers()) == []


def test_every_page_of_a_list_is_read(service: Service, client: Client) -> None:
    with client:
        wanted = [service.create().container_id for _ in range(3)]
        assert [each.container_id for each in client.list_containers()] == wanted
        assert list(client.list_container_stats())


def test_errors_are_those_of_the_service(service: Service, client: Client) -> None:
    with client:
        service.create(container_id="web")
        with pytest.raises(WrongState) as state:
            client.pause_container("web")
        assert state.value.metadata["state"] == "created"
        with pytest.raises(ContainerNotFound) as unknown:
            client.start_container("nobody")
        assert unknown.value.metadata == {"container_id": "nobody"}
        with pytest.raises(InvalidArgument) as invalid:
            client.create_container(runtime_pb2.CreateContainerRequest(container_id="a b"))
        assert {each.field for each in invalid.value.violations} >= {"container_id"}
        with pytest.raises(Timeout):
            client.wait_container("web", timeout_s=0.1)


def test_a_stream_s_error_is_raised_while_it_is_read(client: Client) -> None:
    with client, pytest.raises(ContainerNotFound):
        list(client.container_logs("nobody"))


def test_exec_and_attach_take_what_they_send(service: Service, client: Client) -> None:
    with client:
        service.run("read line; echo got $line", container_id="web", stdin=True)
        start = attach_pb2.AttachStart(container_id="web", stdin=True, stdout=True)
        sent = [
            attach_pb2.AttachRequest(start=start),
            attach_pb2.AttachRequest(stdin=b"it\n"),
        ]
        assert b"".join(each.stdout for each in client.attach(sent)) == b"got it\n"
        service.run(container_id="other")
        process = exec_pb2.ExecProcess(command=["cat"])
        begin = exec_pb2.ExecStart(container_id="other", process=process, stdin=True)
        answers = list(
            client.exec(
                [
                    exec_pb2.ExecRequest(start=begin),
                    exec_pb2.ExecRequest(stdin=b"bytes"),
                    exec_pb2.ExecRequest(close_stdin=terminal_pb2.CloseStdin()),
                ]
            )
        )
        assert b"".join(each.stdout for each in answers) == b"bytes"
        assert answers[-1].exit.exit_code == 0


def test_events_are_watched_from_the_call_on(service: Service, client: Client) -> None:
    with client:
        messages = client.watch_events()
        first = next(messages)
        service.create(container_id="web")
        events = (event for message in messages for event in message.events)
        assert next(events).kind == event_pb2.EVENT_KIND_CREATED
        again = client.watch_events(after=first.cursor)
        (resumed,) = next(message.events for message in again if message.events)
        assert resumed.container_id == "web"


def test_nobody_at_the_address_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as unreachable:
        Client(f"unix://{tmp_path}/socket")
    assert unreachable.value.reason == "NOT_RUNNING"


@pytest.mark.parametrize("address", ["socket", "tcp://host:1", "host:99999", "host", "unix:", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        Client(address)


@pytest.mark.parametrize("form", ["{}", "unix:{}", "unix://{}"])
def test_a_path_is_taken_as_it_is(service: Service, tmp_path: Path, form: str) -> None:
    path = tmp_path / "%41#ü ?"
    path.symlink_to(service.directory / "socket")
    with Client(form.format(path)) as client:
        assert client.version().runtime_name == "ocigrpc"


def test_a_service_that_has_gone_is_unreachable(service: Service, client: Client) -> None:
    with client:
        client.version()
        service.end()
        with pytest.raises(Unreachable) as unreachable:
            client.kill_container("web")
        assert unreachable.value.reason == "NOT_RUNNING"
        service.start()


def test_reads_are_repeated_while_the_service_starts_again(
    service: Service, client: Client
) -> None:
    with client:
        service.run(container_id="web")
        for _ in range(3):
            service.die()
            service.launch()
            assert client.container_status("web").status.container_id == "web"
            service.wait_for_word("READY=1")
            service.connect()


def test_examples_of_the_docstrings(service: Service) -> None:
    finder = doctest.DocTestFinder()
    runner = doctest.DocTestRunner()
    names = {"address": str(service.directory / "socket"), "rootfs": str(service.rootfs)}
    for example in finder.find(ocigrpc.client.client, extraglobs=names):
        runner.run(example)
    assert runner.summarize().failed == 0
    assert runner.tries > 5
