"""The spec of a container, and its processes, as messages."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import pytest

from ocigrpc.engine.containers.inspect import ContainerProcess, Inspection
from ocigrpc.host.processes.usage import ProcessUsage
from ocigrpc.oci.bundle import SpecFile
from ocigrpc.service import inspect
from ocigrpc.v1 import config_pb2, container_pb2, process_pb2

SPEC = {
    "ociVersion": "1.0.2",
    "process": {
        "args": ["sh", "-c", "echo"],
        "cwd": "/work",
        "terminal": True,
        "env": ["A=1", "B=x=y", "A=2", "C"],
        "user": {"uid": 1, "gid": 2, "additionalGids": [3]},
        "noNewPrivileges": True,
        "capabilities": {
            "bounding": ["CAP_KILL"],
            "effective": ["CAP_CHOWN"],
            "permitted": ["CAP_FOWNER"],
            "inheritable": ["CAP_SETUID"],
            "ambient": ["CAP_SETGID"],
        },
    },
    "root": {"path": "/root", "readonly": True},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "/data", "source": "/srv", "options": ["rbind", "ro", "rslave"]},
    ],
    "linux": {
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}],
        },
        "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}],
        "gidMappings": [{"containerID": 3, "hostID": 4, "size": 5}],
    },
}


def message(spec: object = SPEC, profile: str = "/p.json") -> container_pb2.ContainerSpec:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(msgspec.json.encode(spec))
        found = inspect.container_spec(Inspection(SpecFile.at(file.name), profile, True))
    assert found is not None
    return found


def test_everything_has_its_place() -> None:
    assert message() == container_pb2.ContainerSpec(
        command=["sh", "-c", "echo"],
        env={"A": "2", "B": "x=y", "C": ""},
        working_dir="/work",
        user=container_pb2.ContainerUser(uid=1, gid=2, supplemental_groups=[3]),
        rootfs_path="/root",
        readonly_rootfs=True,
        mounts=[
            config_pb2.Mount(
                container_path="/proc",
                host_path="proc",
                type="proc",
                propagation=config_pb2.MOUNT_PROPAGATION_PRIVATE,
                options=["nosuid"],
            ),
            config_pb2.Mount(
                container_path="/data",
                host_path="/srv",
                type="bind",
                readonly=True,
                propagation=config_pb2.MOUNT_PROPAGATION_HOST_TO_CONTAINER,
                options=["rbind"],
            ),
        ],
        terminal=True,
        capabilities=container_pb2.Capabilities(
            bounding=["CAP_KILL"],
            effective=["CAP_CHOWN"],
            permitted=["CAP_FOWNER"],
            inheritable=["CAP_SETUID"],
            ambient=["CAP_SETGID"],
        ),
        no_new_privileges=True,
        seccomp=container_pb2.SeccompFilter(
            default_action="SCMP_ACT_ERRNO", rules=1, profile_path="/p.json"
        ),
        user_namespace=config_pb2.UserNamespace(
            uid_mappings=[{"container_id": 0, "host_id": 1, "size": 2}],
            gid_mappings=[{"container_id": 3, "host_id": 4, "size": 5}],
        ),
    )


def test_the_least_that_a_spec_can_say_is_enough() -> None:
    least = {"ociVersion": "1.0.2", "process": {"args": ["sh"], "cwd": "/"}, "root": {"path": "/r"}}
    found = message(least)
    assert (list(found.command), found.rootfs_path) == (["sh"], "/r")
    assert not found.HasField("seccomp")
    assert not found.HasField("user_namespace")


def test_a_spec_that_nobody_can_read_is_absent(tmp_path: Path) -> None:
    assert inspect.container_spec(Inspection(None, "", True)) is None
    assert SpecFile.at(str(tmp_path / "missing")) is None
    path = tmp_path / "config.json"
    path.touch()
    assert inspect.container_spec(Inspection(SpecFile.at(str(path)), "", True)) is None


def test_a_spec_is_read_again_once_its_file_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(msgspec.json.encode(SPEC))
    before = Inspection(SpecFile.at(str(path)), "", True)
    assert inspect.container_spec(before) is inspect.container_spec(before)
    path.write_bytes(msgspec.json.encode({**SPEC, "root": {"path": "/other"}}))
    after = inspect.container_spec(Inspection(SpecFile.at(str(path)), "", True))
    assert after is not None
    assert after.rootfs_path == "/other"


def test_a_spec_that_is_too_large_is_answered_without_what_may_be_large() -> None:
    process = {**SPEC["process"], "env": [f"V{n}={'x' * 1000}" for n in range(3000)]}  # type: ignore[dict-item]
    found = message({**SPEC, "process": process})
    assert found.truncated
    assert found.command
    assert not found.env
    assert not found.mounts
    assert found.ByteSize() < inspect.SPEC_LIMIT_BYTES


@pytest.mark.parametrize(("asked", "size"), [(0, 1000), (7, 7), (5000, 1000)])
def test_a_page_of_processes_is_bounded(asked: int, size: int) -> None:
    request = process_pb2.ListProcessesRequest(container_id="c1", page_size=asked)
    container_id, page = inspect.processes_request(request)
    assert (container_id, page.after, page.size) == ("c1", None, size)


def test_a_process_has_its_place() -> None:
    usage = ProcessUsage(7, 1, 6, 1000, 1_500_000_000, 4096, ("sh", "-c"))
    answer = process_pb2.ListProcessesResponse()
    position, size_bytes = inspect.add_process(answer.processes, ContainerProcess(usage, "dev"))
    (process,) = answer.processes
    assert position == (7, "")
    assert size_bytes >= answer.ByteSize()
    assert process == process_pb2.Process(
        pid=7,
        container_pid=1,
        parent_pid=6,
        uid=1000,
        cpu_time={"seconds": 1, "nanos": 500_000_000},
        rss_bytes=4096,
        command=["sh", "-c"],
        user="dev",
    )
