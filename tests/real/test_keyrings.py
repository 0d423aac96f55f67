"""Session keyrings: each container has one of its own, and none has the service's."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocigrpc.oci.spec.build import spec_of
from ocigrpc.oci.spec.config import ContainerConfig, Mount
from ocigrpc.v1 import runtime_pb2
from tests.bed.clients.exec import exec_sync, process
from tests.bed.hosts import keys
from tests.bed.hosts.host import native
from tests.bed.services.service import Service
from tests.bed.services.serving import serving
from tests.real.conftest import crun_host

SESSION = "of-the-service"
IDENTITY = [{"containerID": 0, "hostID": 0, "size": 65536}]
MINE = ("add", "mine", "a-secret")


@pytest.fixture(scope="module", params=["runc", "crun"])
def service(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[Service]:
    """A service in a session that has a key, as one that is started after a login."""
    keys.join(SESSION)
    keys.add("theirs", "of the host")
    host = crun_host if request.param == "crun" else native
    with host() as made, serving(made, rootfs, default_runtime=request.param) as service:
        yield service


def keys_argv(*words: str) -> list[str]:
    """The command line that handles keys in a container that has the host at /host."""
    # An interpreter of the host's, which needs nothing of the container.
    return ["chroot", "/host", sys.executable, "-I", "-S", str(Path(keys.__file__)), *words]


def spec(service: Service, command: list[str], change: str, **fields: Any) -> dict[str, Any]:
    """The spec of a client that has its own, with nothing that keeps keys away."""
    host = Mount("/host", "/", readonly=True)
    config = ContainerConfig(str(service.rootfs), tuple(command), mounts=(host,), **fields)
    made: dict[str, Any] = spec_of(config, container_id="keys", terminal=False)
    made["linux"].pop("seccomp", None)
    if change == "user namespace":
        made["linux"]["namespaces"].append({"type": "user"})
        made["linux"] |= {"uidMappings": IDENTITY, "gidMappings": IDENTITY}
    return made


def run(service: Service, command: list[str], change: str) -> str:
    privileged = {"privileged": True} if change == "privileged" else {}
    text = json.dumps(spec(service, command, change, **privileged))
    request = runtime_pb2.CreateContainerRequest(spec_json=text)
    container_id = service.client.create_container(request).container_id
    service.start_container(container_id)
    return container_id


KINDS = ["without seccomp", "privileged", "user namespace"]


@pytest.mark.parametrize("kind", KINDS)
def test_containers_find_keys_neither_of_the_service_nor_of_each_other(
    service: Service, kind: str
) -> None:
    names = set()
    for words, found in ((MINE, "a-secret"), (("read", "mine"), ""), (("read", "theirs"), "")):
        container_id = run(service, keys_argv(*words), kind)
        assert service.wait(container_id).exit_code == 0
        seen, session = service.output(container_id)
        assert seen == found
        names.add(session)
    assert len(names) == 3
    assert SESSION not in names


def test_a_program_of_exec_finds_no_keys_of_the_service_nor_of_other_programs(
    service: Service,
) -> None:
    container_id = run(service, ["sleep", "1000"], "without seccomp")
    other = run(service, ["sleep", "1000"], "without seccomp")

    def answered(container_id: str, *words: str) -> list[str]:
        answer = exec_sync(service, container_id, process(*keys_argv(*words)))
        assert answer.exit.exit_code == 0, answer.stderr
        return answer.stdout.decode().splitlines()

    found, session = answered(container_id, *MINE)
    assert (found, session != SESSION) == ("a-secret", True)
    assert answered(other, "read", "mine")[0] == ""
    assert answered(container_id, "read", "theirs")[0] == ""
    service.remove_all()
