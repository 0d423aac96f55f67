"""A program of Exec has the settings of the container's first process, unless asked otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.bundles.bundle import spec_json
from tests.bed.clients.exec import exec_sync, shell
from tests.bed.hosts.host import cgroup2_host, native
from tests.bed.services.service import Service
from tests.bed.services.serving import serving
from tests.real.conftest import crun_host

LOOK = """pwd; env | grep -v '^_=' | grep -v '^SHLVL=' | grep -v '^PWD=' | sort
grep -E '^(Uid|Gid|Groups|Umask|Cap...|NoNewPrivs|Seccomp)' /proc/self/status
grep -E '^(Cpus_allowed|Mems_allowed):' /proc/self/status
cat /proc/self/oom_score_adj
grep -v 'pending signals' /proc/self/limits
cut -d' ' -f18,19,40,41 /proc/self/stat
ls -l /proc/self/ns | sed 's/.* //' | sort"""


@pytest.fixture(
    scope="module",
    params=[(native, "runc"), (crun_host, "crun"), (cgroup2_host, "runc")],
    ids=["native-runc", "native-crun", "cgroup2-runc"],
)
def settings_service(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[Service]:
    make_host, runtime = request.param
    with make_host() as host, serving(host, rootfs, default_runtime=runtime) as service:
        yield service
        service.remove_all()


@pytest.mark.parametrize("uid", [0, 1234])
@pytest.mark.parametrize("plain", [True, False])
def test_a_program_has_what_the_first_process_has(
    settings_service: Service, uid: int, plain: bool
) -> None:
    service = settings_service
    spec = json.loads(spec_json(service.rootfs, ["/bin/sh", "-c", f"{LOOK}; exec sleep 1000"]))
    spec["process"]["user"] = {"uid": uid, "gid": uid, "additionalGids": [uid, 77]}
    if not plain:
        spec["process"] |= {
            "cwd": "/tmp",
            "env": ["PATH=/bin", "A=b c", "HOME=/nowhere"],
            "noNewPrivileges": True,
            "oomScoreAdj": 321,
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 11, "hard": 22}],
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"]},
        }
        spec["process"]["capabilities"]["permitted"] = ["CAP_KILL"]
        spec["process"]["user"]["umask"] = 0o27
    request = CreateContainerRequest(spec_json=json.dumps(spec))
    container_id = service.client.create_container(request).container_id
    service.start_container(container_id)
    result = exec_sync(service, container_id, shell(LOOK))
    shown = result.stdout.decode().splitlines()
    assert len(shown) > 40
    # The first process has written all before it sleeps; ask once it has as many.
    first = service.output(container_id)
    while len(first) < len(shown):
        exec_sync(service, container_id, shell("sleep 0.1"))
        first = service.output(container_id)
    assert shown == first
    service.remove(container_id, force=True)
