"""The real grpcurl, which knows the service only by reflection, over its unix socket."""

from __future__ import annotations

import json
import subprocess

import pytest

from ocigrpc.service.interceptor import SERVICE_NAME
from ocigrpc.v1 import runtime_pb2
from tests.real.grpcurl import grpcurl_path
from tests.real.service import Service

_LIMIT_S = 30.0
_STATUS_BASE = 64
"""grpcurl's exit status is this and the number of the gRPC code."""

_FAILED_PRECONDITION, _INVALID_ARGUMENT, _NOT_FOUND = 9, 3, 5


class Grpcurl:
    """grpcurl without any proto file, on the socket of a service."""

    def __init__(self, service: Service) -> None:
        self._socket = str(service.directory / "socket")

    def run(self, *words: str, data: object = None) -> subprocess.CompletedProcess[str]:
        """grpcurl with ``words`` behind the address, and ``data`` as the request."""
        request = [] if data is None else ["-d", json.dumps(data)]
        return subprocess.run(
            [
                grpcurl_path(),
                "-plaintext",
                "-unix",
                "-format-error",
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

    def refused(self, rpc: str, code: int, **data: object) -> list[dict[str, object]]:
        """The details of the status of a call that fails with ``code``."""
        done = self.run(f"{SERVICE_NAME}/{rpc}", data=data)
        assert (done.returncode, done.stdout) == (_STATUS_BASE + code, "")
        status = json.loads(done.stderr)
        assert status["code"] == code
        details: list[dict[str, object]] = status["details"]
        return details


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
        SERVICE_NAME,
    ]


def test_it_lists_every_rpc(grpcurl: Grpcurl) -> None:
    service = runtime_pb2.DESCRIPTOR.services_by_name["RuntimeService"]
    listed = grpcurl.says("list", SERVICE_NAME).split()
    assert sorted(listed) == sorted(method.full_name for method in service.methods)


def test_it_describes_every_rpc_and_every_message(grpcurl: Grpcurl) -> None:
    described = grpcurl.says("describe", SERVICE_NAME)
    for method in runtime_pb2.DESCRIPTOR.services_by_name["RuntimeService"].methods:
        assert f"rpc {method.name} ( .{method.input_type.full_name} )" in described
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
    assert listed == {"containers": [status()]}
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


def test_an_error_for_people_names_the_reason(grpcurl: Grpcurl, service: Service) -> None:
    socket = str(service.directory / "socket")
    argv = [str(grpcurl_path()), "-plaintext", "-unix", "-d", '{"container_id": "nobody"}', socket]
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
