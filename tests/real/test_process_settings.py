"""What a program finds that nobody has asked for, whatever the runtime and its service have."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.v1 import runtime_pb2
from tests.bed.bundles.bundle import make_rootfs, spec_json
from tests.bed.clients.exec import exec_sync, shell
from tests.bed.hosts.host import Host, native
from tests.bed.services.service import Service
from tests.bed.services.serving import serving
from tests.real.conftest import crun_host

SOFT, HARD = 1000, 5000
# As an administrator may have it who starts the service by hand.
LAUNCH = ("sh", "-c", f'umask 077 && ulimit -Sn {SOFT} && ulimit -Hn {HARD} && exec "$@"', "sh")

SETTINGS = """
    umask; ulimit -Sn; ulimit -Hn; echo $HOME; echo $HOSTNAME
    cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ping_group_range
"""


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rootfs = make_rootfs(tmp_path_factory.mktemp("settings"))
    accounts = "root:x:0:0::/root:/bin/sh\nalice:x:1001:1002::/home/alice:/bin/sh\n"
    (rootfs / "etc/passwd").write_text(accounts)
    return rootfs


@pytest.fixture(scope="module", params=["runc", "crun"])
def service(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[Service]:
    """A service with a mask and limits of its own."""
    make_host = crun_host if request.param == "crun" else native
    with make_host() as made:
        host = Host(made.name, made.cgroup_roots, (*made.prefix, *LAUNCH))
        with serving(host, rootfs, default_runtime=request.param) as service:
            yield service


def settings(user: str) -> list[str]:
    home = {"": "/root", "root": "/root", "alice": "/home/alice"}[user]
    return ["0022", str(SOFT), str(HARD), home, "box", "0", "0\t0"]


def runc_version() -> tuple[int, ...]:
    text = subprocess.check_output(["runc", "--version"], text=True)
    found = re.match(r"runc version (\d+)\.(\d+)\.(\d+)", text)
    assert found is not None, text
    return tuple(map(int, found.groups()))


@pytest.mark.parametrize("user", ["", "alice"])
def test_a_program_has_the_usual_settings(
    service: Service, user: str, request: pytest.FixtureRequest
) -> None:
    # Before 1.1.13, runc sets the soft limit while a process of its own raises it.
    races = request.node.callspec.params["service"] == "runc" and runc_version() < (1, 1, 13)
    config = service.config(f"{SETTINGS}\nexec sleep 1000")
    config.user, config.hostname = user, "box"
    create = runtime_pb2.CreateContainerRequest(config=config)
    container_id = service.client.create_container(create).container_id
    service.start_container(container_id)
    for other in ("", "root", "alice"):
        result = exec_sync(service, container_id, shell(SETTINGS, user=other))
        found = result.stdout.decode().splitlines()
        if races and found[1] == str(HARD):
            found[1] = str(SOFT)
        assert found == settings(other or user)
    # Written before it could be seen that the others ran.
    assert service.output(container_id) == settings(user)
    service.remove_all()


def test_a_program_of_exec_has_the_umask_of_a_spec(service: Service) -> None:
    spec = json.loads(spec_json(service.rootfs, ["sh", "-c", "umask; exec sleep 1000"]))
    spec["process"]["user"]["umask"] = 0o027
    # Made where more is allowed.
    del spec["process"]["rlimits"]
    request = runtime_pb2.CreateContainerRequest(spec_json=json.dumps(spec))
    container_id = service.client.create_container(request).container_id
    service.start_container(container_id)
    for user in ("", "alice"):
        result = exec_sync(service, container_id, shell("umask", user=user))
        assert result.stdout == b"0027\n"
    assert service.output(container_id) == ["0027"]
    service.remove_all()
