"""The real grpcurl, which knows the service only by reflection, over its unix socket."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from google.protobuf.descriptor import ServiceDescriptor

from ocigrpc.service.methods import SERVICE_NAME
from ocigrpc.v1 import image_pb2, runtime_pb2
from tests.bed.commands.go_program import go_program
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service

RUNTIME = runtime_pb2.DESCRIPTOR.services_by_name["RuntimeService"]
IMAGES = image_pb2.DESCRIPTOR.services_by_name["ImageService"]

_LIMIT_S = 30.0
_STATUS_BASE = 64
"""grpcurl's exit status is this and the number of the gRPC code."""

_INVALID_ARGUMENT, _DEADLINE_EXCEEDED, _NOT_FOUND, _FAILED_PRECONDITION = 3, 4, 5, 9

_MAX_TIME_S = "3"
"""When grpcurl gives up a stream that would not end."""


class Grpcurl:
    """grpcurl without any proto file, on the socket of a service."""

    def __init__(self, service: Service) -> None:
        self._socket = str(service.directory / "socket")

    def run(
        self, *words: str, data: object = None, flags: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """grpcurl with ``words`` behind the address, and ``data`` as the request."""
        request = [] if data is None else ["-d", json.dumps(data)]
        return subprocess.run(
            [
                go_program("grpcurl"),
                "-plaintext",
                "-unix",
                "-format-error",
                *flags,
                *request,
                self._socket,
                *words,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )

    def says(self, *words: str) -> str:
        """What a successful run prints."""
        done = self.run(*words)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    def call(self, rpc: str, **data: object) -> dict[str, object]:
        """The answer of a call that succeeds."""
        done = self.run(f"{SERVICE_NAME}/{rpc}", data=data)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    def stream(self, rpc: str, **data: object) -> list[dict[str, object]]:
        """The messages of a stream that ends well."""
        done = self.run(f"{SERVICE_NAME}/{rpc}", data=data)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return list(_messages(done.stdout))

    def cut_stream(self, rpc: str, **data: object) -> list[dict[str, object]]:
        """The messages of a stream that goes on until grpcurl has enough of it."""
        done = self.run(f"{SERVICE_NAME}/{rpc}", data=data, flags=("-max-time", _MAX_TIME_S))
        assert done.returncode == _STATUS_BASE + _DEADLINE_EXCEEDED, done.stderr
        return list(_messages(done.stdout))

    def refused(self, rpc: str, code: int, **data: object) -> list[dict[str, object]]:
        """The details of the status of a call that fails with ``code``."""
        done = self.run(f"{SERVICE_NAME}/{rpc}", data=data)
        assert (done.returncode, done.stdout) == (_STATUS_BASE + code, "")
        status = json.loads(done.stderr)
        assert status["code"] == code
        details: list[dict[str, object]] = status["details"]
        return details


def _messages(printed: str) -> Iterator[dict[str, object]]:
    """What grpcurl prints of a stream: one JSON text behind the other."""
    decoder, rest = json.JSONDecoder(), printed.lstrip()
    while rest:
        message, end = decoder.raw_decode(rest)
        yield message
        rest = rest[end:].lstrip()


def inside(message: object, *keys: str | int) -> object:
    """What a message has at a path."""
    for key in keys:
        assert isinstance(message, (dict, list))
        message = message[key]  # type: ignore[index]  # a list has numbers, a dict words
    return message


def all_in(messages: list[dict[str, object]], key: str) -> list[dict[str, object]]:
    """The items of a repeated field, of all messages."""
    items: list[dict[str, object]] = []
    for message in messages:
        found = message.get(key, [])
        assert isinstance(found, list)
        items += found
    return items


def written(messages: list[dict[str, object]]) -> list[bytes]:
    """The contents of log lines."""
    return [base64.b64decode(str(line["content"])) for line in all_in(messages, "lines")]


def kinds(messages: list[dict[str, object]]) -> list[str]:
    """The kinds of events."""
    return [str(event["kind"]) for event in all_in(messages, "events")]


@pytest.fixture
def grpcurl(service: Service) -> Grpcurl:
    return Grpcurl(service)


def error_info(reason: str, **metadata: str) -> dict[str, object]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "ocigrpc",
        "metadata": metadata,
    }


def test_it_lists_the_services(grpcurl: Grpcurl) -> None:
    assert grpcurl.says("list").split() == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        IMAGES.full_name,
        SERVICE_NAME,
    ]


@pytest.mark.parametrize("known", [RUNTIME, IMAGES], ids=lambda each: each.name)
def test_it_lists_every_rpc(grpcurl: Grpcurl, known: ServiceDescriptor) -> None:
    listed = grpcurl.says("list", known.full_name).split()
    assert sorted(listed) == sorted(method.full_name for method in known.methods)


@pytest.mark.parametrize("known", [RUNTIME, IMAGES], ids=lambda each: each.name)
def test_it_describes_every_rpc(grpcurl: Grpcurl, known: ServiceDescriptor) -> None:
    described = grpcurl.says("describe", known.full_name)
    for method in known.methods:
        asks = "stream " * method.client_streaming + f".{method.input_type.full_name}"
        answers = "stream " * method.server_streaming + f".{method.output_type.full_name}"
        assert f"rpc {method.name} ( {asks} ) returns ( {answers} );" in described


def test_it_describes_every_message(grpcurl: Grpcurl) -> None:
    request = grpcurl.says("describe", "ocigrpc.v1.CreateContainerRequest")
    for field in runtime_pb2.CreateContainerRequest.DESCRIPTOR.fields:
        assert f" {field.name} = {field.number};" in request


def test_it_sees_that_the_service_is_healthy(grpcurl: Grpcurl) -> None:
    assert json.loads(grpcurl.says("grpc.health.v1.Health/Check")) == {"status": "SERVING"}


def test_a_whole_life_by_grpcurl_alone(grpcurl: Grpcurl, service: Service) -> None:
    config = {"rootfs_path": str(service.rootfs), "command": ["/bin/sleep", "1000"]}
    created = grpcurl.call("CreateContainer", config=config)
    this = created["container_id"]

    def status() -> object:
        return grpcurl.call("ContainerStatus", container_id=this)["status"]

    def state() -> object:
        found = status()
        assert isinstance(found, dict)
        return found["state"]

    assert state() == "CONTAINER_STATE_CREATED"
    for rpc, after in (
        ("StartContainer", "RUNNING"),
        ("PauseContainer", "PAUSED"),
        ("ResumeContainer", "RUNNING"),
    ):
        assert grpcurl.call(rpc, container_id=this) == {}
        assert state() == f"CONTAINER_STATE_{after}"
    listed = grpcurl.call("ListContainers", filter={"states": ["CONTAINER_STATE_RUNNING"]})
    assert isinstance(listed["containers"], list)
    (short,) = listed["containers"]
    assert short.pop("command_line")
    full = status()
    assert isinstance(full, dict)
    assert short.items() <= full.items()
    assert grpcurl.call("StopContainer", container_id=this, timeout="0s") == {}
    ended = grpcurl.call("WaitContainer", container_id=this)["exit_status"]
    assert isinstance(ended, dict)
    assert (ended["exit_code"], ended["signal"]) == (137, 9)
    assert ended["provenance"] == "EXIT_PROVENANCE_EXIT_FILE"
    assert grpcurl.call("RemoveContainer", container_id=this) == {}
    assert grpcurl.call("ListContainers") == {}


def test_an_error_shows_its_error_info(grpcurl: Grpcurl) -> None:
    details = grpcurl.refused("ContainerStatus", _NOT_FOUND, container_id="nobody")
    assert details == [error_info("CONTAINER_NOT_FOUND", container_id="nobody")]


def test_a_wrong_state_is_in_the_error_info(grpcurl: Grpcurl, service: Service) -> None:
    this = service.create().container_id
    assert grpcurl.refused("PauseContainer", _FAILED_PRECONDITION, container_id=this) == [
        error_info("WRONG_STATE", container_id=this, state="created", wanted="running")
    ]


def test_a_wrong_field_is_in_the_bad_request(grpcurl: Grpcurl) -> None:
    details = grpcurl.refused("CreateContainer", _INVALID_ARGUMENT, container_id="../x")
    (bad,) = (each for each in details if "BadRequest" in str(each["@type"]))
    violations = bad["field_violations"]
    assert isinstance(violations, list)
    assert "container_id" in [each["field"] for each in violations]


def test_exec_sync_answers_output_and_exit_code(grpcurl: Grpcurl, service: Service) -> None:
    process = {"command": ["/bin/sh", "-c", "echo good; echo bad >&2; exit 3"]}
    answer = grpcurl.call("ExecSync", container_id=service.run(), process=process)
    assert answer == {
        "stdout": base64.b64encode(b"good\n").decode(),
        "stderr": base64.b64encode(b"bad\n").decode(),
        "exit": {"exit_code": 3},
    }


def test_an_exec_timeout_is_in_the_error_info(grpcurl: Grpcurl, service: Service) -> None:
    this = service.run()
    process = {"command": ["/bin/sleep", "1000"]}
    details = grpcurl.refused(
        "ExecSync", _DEADLINE_EXCEEDED, container_id=this, process=process, timeout="0.5s"
    )
    assert details == [error_info("EXEC_TIMEOUT", container_id=this, timeout_s="0.5")]


def test_exec_in_a_paused_container_is_failed_precondition(
    grpcurl: Grpcurl, service: Service
) -> None:
    this = service.run()
    service.pause(this)
    process = {"command": ["/bin/true"]}
    details = grpcurl.refused("ExecSync", _FAILED_PRECONDITION, container_id=this, process=process)
    assert details == [
        error_info("WRONG_STATE", container_id=this, state="paused", wanted="running")
    ]


def test_limits_are_changed_and_are_in_the_stats(grpcurl: Grpcurl, service: Service) -> None:
    this = service.run()
    resources = {"memory_limit_in_bytes": 64 << 20, "pids_limit": 44}
    answer = grpcurl.call("UpdateContainerResources", container_id=this, resources=resources)
    assert inside(answer, "resources", "memory_limit_in_bytes") == str(64 << 20)
    assert inside(answer, "resources", "pids_limit") == "44"
    stats = grpcurl.call("ContainerStats", container_id=this)
    assert inside(stats, "stats", "container_id") == this
    assert inside(stats, "stats", "memory", "limit_bytes") == str(64 << 20)
    assert inside(stats, "stats", "pids") == {"current": "1", "limit": "44"}


def test_a_wrong_limit_is_in_the_bad_request(grpcurl: Grpcurl, service: Service) -> None:
    details = grpcurl.refused(
        "UpdateContainerResources",
        _INVALID_ARGUMENT,
        container_id=service.run(),
        resources={"cpu_shares": 1, "pids_limit": 44},
    )
    (bad,) = (each for each in details if "BadRequest" in str(each["@type"]))
    assert inside(bad, "field_violations", 0, "field") == "resources.cpu_shares"


def test_stats_of_those_that_match_are_listed(grpcurl: Grpcurl, service: Service) -> None:
    one, two = service.run(labels={"app": "web"}), service.run()
    listed = all_in([grpcurl.call("ListContainerStats")], "stats")
    assert [each["container_id"] for each in listed] == [one, two]
    some = grpcurl.call("ListContainerStats", filter={"label_selector": {"app": "web"}})
    assert [each["container_id"] for each in all_in([some], "stats")] == [one]
    service.stop(one, 0)
    assert grpcurl.refused("ContainerStats", _FAILED_PRECONDITION, container_id=one) == [
        error_info(
            "WRONG_STATE", container_id=one, state="stopped", wanted="created, running or paused"
        )
    ]


def test_a_log_is_reopened_only_when_it_was_renamed(
    grpcurl: Grpcurl, service: Service, tmp_path: Path
) -> None:
    log = tmp_path / "mine.log"
    this = service.run(log_path=str(log))
    assert grpcurl.refused("ReopenContainerLog", _FAILED_PRECONDITION, container_id=this) == [
        error_info("LOG_NOT_ROTATED", path=str(log))
    ]
    log.rename(tmp_path / "mine.log.old")
    assert grpcurl.call("ReopenContainerLog", container_id=this) == {}
    assert log.exists()


def test_logs_are_a_stream_that_ends(grpcurl: Grpcurl, service: Service) -> None:
    this = service.run("echo one; echo two; echo three >&2")
    service.wait(this)
    assert sorted(written(grpcurl.stream("ContainerLogs", container_id=this, follow=True))) == [
        b"one",
        b"three",
        b"two",
    ]
    last = grpcurl.stream(
        "ContainerLogs", container_id=this, tail_lines=1, streams=["LOG_STREAM_STDOUT"]
    )
    assert written(last) == [b"two"]
    assert inside(last, 0, "lines", 0, "stream") == "LOG_STREAM_STDOUT"


def test_followed_logs_go_on_while_the_container_runs(grpcurl: Grpcurl, service: Service) -> None:
    this = service.run("echo begun; exec sleep 1000")
    until(lambda: service.output(this) == ["begun"])
    cut = grpcurl.cut_stream("ContainerLogs", container_id=this, follow=True)
    assert written(cut) == [b"begun"]


def test_watched_events_go_on_behind_the_last_ones(grpcurl: Grpcurl, service: Service) -> None:
    this = service.run()
    wanted = {"container_id": this}
    first = grpcurl.cut_stream("WatchEvents", after=0, filter=wanted)
    assert kinds(first) == ["EVENT_KIND_CREATED", "EVENT_KIND_STARTED"]
    service.pause(this)
    then = grpcurl.cut_stream("WatchEvents", after=first[-1]["cursor"], filter=wanted)
    assert kinds(then) == ["EVENT_KIND_PAUSED"]


def test_watched_stats_come_at_an_interval(grpcurl: Grpcurl, service: Service) -> None:
    this = service.run()
    messages = grpcurl.cut_stream("WatchStats", interval="0.1s")
    assert len(messages) > 2
    assert {str(each["container_id"]) for each in all_in(messages, "stats")} == {this}


def test_an_error_for_people_names_the_reason(grpcurl: Grpcurl, service: Service) -> None:
    socket = str(service.directory / "socket")
    argv = [
        str(go_program("grpcurl")),
        "-plaintext",
        "-unix",
        "-d",
        '{"container_id": "nobody"}',
        socket,
    ]
    done = subprocess.run(
        [*argv, f"{SERVICE_NAME}/ContainerStatus"],
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert done.returncode == _STATUS_BASE + _NOT_FOUND
    assert "Code: NotFound" in done.stderr
    assert '"reason": "CONTAINER_NOT_FOUND"' in done.stderr
