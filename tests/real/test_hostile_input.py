"""Requests that mean harm: thousands, to every RPC, made from the contract itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, Phase, given, settings

from ocigrpc.v1.config_pb2 import ContainerConfig
from ocigrpc.v1.exec_pb2 import ExecProcess, ExecSyncRequest
from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.clients.refusal import refused
from tests.bed.faults.hostile import SERVICE, Case, cases
from tests.bed.faults.hostile_places import make_places
from tests.bed.faults.hostile_run import HostileRun
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service

CASES = 2000

NEVER_GRANTED: Mapping[str, str] = {
    'command: "a\\000b"': "command[3]",
    'working_dir: "relative"': "working_dir",
    'user: "1:2:3"': "user",
    'hostname: "a b"': "hostname",
    'env { key: "a=b" value: "" }': 'env["a=b"]',
    'add_capabilities: "FLY"': "add_capabilities[0]",
    'add_ambient_capabilities: "FLY"': "add_ambient_capabilities[0]",
    'mounts { container_path: "relative" type: "tmpfs" }': "mounts[0].container_path",
    'mounts { container_path: "/x/../.." type: "tmpfs" }': "mounts[0].container_path",
    'mounts { container_path: "/x" type: "bind" host_path: "/no/such" }': "mounts[0].host_path",
    'mounts { container_path: "/x" type: "tmpfs" options: "a,b" }': "mounts[0].options[0]",
    'devices { container_path: "/dev/x" host_path: "/etc/passwd" }': "devices[0].host_path",
    'devices { container_path: "relative" host_path: "/dev/null" }': "devices[0].container_path",
    'masked_paths { paths: "relative" }': "masked_paths.paths[0]",
    'readonly_paths { paths: "relative" }': "readonly_paths.paths[0]",
    'rlimits { type: "RLIMIT_FLY" soft: 1 hard: 1 }': "rlimits[0].type",
    'rlimits { type: "RLIMIT_NOFILE" soft: 2 hard: 1 }': "rlimits[0].soft",
    'sysctls { key: "kernel.panic" value: "1" }': 'sysctls["kernel.panic"]',
    "namespaces { type: NAMESPACE_TYPE_NETWORK mode: NAMESPACE_MODE_PATH "
    'path: "/dev/null" }': "namespaces[0].path",
    'seccomp { type: SECCOMP_TYPE_LOCALHOST localhost_ref: "relative" }': "seccomp.localhost_ref",
    # Whoever reads it waits for the kernel to say something.
    'seccomp { type: SECCOMP_TYPE_LOCALHOST localhost_ref: "/proc/kmsg" }': "seccomp.localhost_ref",
    "resources { cpu_shares: -2 }": "resources.cpu_shares",
    "resources { memory_limit_in_bytes: -2 }": "resources.memory_limit_in_bytes",
    'resources { cpuset_cpus: "2-1" }': "resources.cpuset_cpus",
    "resources { oom_score_adj: 1001 }": "resources.oom_score_adj",
}
"""Parts of a config, and the field that is wrong. A runtime would refuse most of them in words
of its own, about the container; some it would grant."""


@pytest.mark.timeout(3600)
def test_hostile_requests_are_refused_for_their_fields_and_change_nothing(
    service: Service, tmp_path: Path
) -> None:
    places = make_places(tmp_path)
    run = HostileRun(service.channel, places, service.directory, service.leaks)
    run.prepare()

    @settings(
        max_examples=CASES,
        derandomize=True,
        database=None,
        deadline=None,
        # The first that fails is printed as it is: to make it smaller takes as long again.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(places, service.cgroup_parent))
    def send(case: Case) -> None:
        run.send(case)

    send()
    assert run.changes() == []
    asked = {answer.split()[0] for answer in run.answers}
    assert asked == {method.name for method in SERVICE.methods}
    # As a key, which no text of a client's can be.
    assert '"exception":' not in (service.directory / "events").read_text()


@pytest.mark.parametrize("part", NEVER_GRANTED)
def test_what_the_service_can_judge_itself_is_not_left_to_the_runtime(
    service: Service, part: str
) -> None:
    config = service.config("exec sleep 1000")
    config.MergeFrom(text_format.Parse(part, ContainerConfig()))
    with refused("INVALID_ARGUMENT") as refusal:
        service.client.create_container(CreateContainerRequest(config=config))
    assert refusal.fields == [f"config.{NEVER_GRANTED[part]}"]


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("", "process.command"),
        ('command: ""', "process.command[0]"),
        ('command: "/bin/cat" working_dir: "relative"', "process.working_dir"),
        ('command: "/bin/cat" user: "1:2:3"', "process.user"),
    ],
)
def test_nor_is_what_can_be_judged_of_a_program(service: Service, part: str, field: str) -> None:
    process = text_format.Parse(part, ExecProcess())
    request = ExecSyncRequest(container_id=service.run(), process=process)
    with refused("INVALID_ARGUMENT") as refusal:
        service.wire.ExecSync(request, timeout=LIMIT_S)
    assert refusal.fields == [field]
