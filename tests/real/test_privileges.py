"""Groups and capabilities of programs: no more than their user has, and no less than was added."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ocigrpc.oci.spec.capabilities import CAPABILITIES, DEFAULT_CAPABILITIES
from ocigrpc.v1 import config_pb2, runtime_pb2
from tests.bed.bundles.bundle import make_rootfs
from tests.bed.clients.exec import exec_sync, process, shell
from tests.bed.hosts.host import native
from tests.bed.services.service import Service
from tests.bed.services.serving import serving
from tests.real.conftest import crun_host

GUESTS = 2000
"""The group of a program that whoever runs it is put into."""

SHOW = ("/bin/show", "/kept")
SETS = "grep -e ^Cap /proc/self/status"


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has the account alice, and a file that its primary group alone is kept from.

    ``/bin/show`` is a set-group-ID cat of another group.
    """
    rootfs = make_rootfs(tmp_path_factory.mktemp("privileges"))
    kept = rootfs / "kept"
    kept.write_text("a secret\n")
    os.chown(kept, 0, 1002)
    kept.chmod(0o604)
    # Not busybox's, which lets go of a group that it is not to have.
    shutil.copy("/bin/cat", rootfs / "bin/show")
    os.chown(rootfs / "bin/show", 0, GUESTS)
    (rootfs / "bin/show").chmod(0o2755)
    listed = subprocess.run(["ldd", "/bin/cat"], capture_output=True, text=True, check=True)
    for word in listed.stdout.split():
        if word.startswith("/"):
            place = rootfs / word.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, place)
    return rootfs


@pytest.fixture(scope="module", params=["runc", "crun"])
def service(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[Service]:
    host = crun_host if request.param == "crun" else native
    with host() as made, serving(made, rootfs, default_runtime=request.param) as service:
        yield service


def run(service: Service, command: Sequence[str], **fields: object) -> str:
    config = config_pb2.ContainerConfig(
        rootfs_path=str(service.rootfs),
        command=command,
        **fields,  # type: ignore[arg-type]  # as in the message
    )
    request = runtime_pb2.CreateContainerRequest(config=config)
    container_id = service.client.create_container(request).container_id
    service.start_container(container_id)
    return container_id


def sets_in(lines: Sequence[str]) -> dict[str, set[str]]:
    """The capability sets of /proc/PID/status."""
    pairs = (line.split(":") for line in lines)
    return {
        key: {name for bit, name in enumerate(CAPABILITIES) if int(bits, 16) >> bit & 1}
        for key, bits in pairs
    }


@pytest.mark.parametrize("user", ["alice", "1001", "1001:1002", "alice:staff"])
def test_the_primary_group_is_kept_where_another_group_is_put_in_its_place(
    service: Service, user: str
) -> None:
    script = f"grep ^Groups /proc/self/status; {' '.join(SHOW)}"
    container_id = run(service, ("sh", "-c", script), user=user, no_new_privileges=False)
    assert service.wait(container_id).exit_code == 1
    (groups,) = service.output(container_id)
    assert "1002" in groups.split()
    assert "Permission denied" in service.output(container_id, "stderr")[0]


@pytest.mark.parametrize("user", ["alice", "1001", "1001:1002"])
def test_so_it_is_for_a_program_of_exec(service: Service, user: str) -> None:
    container_id = run(service, ("sleep", "1000"), no_new_privileges=False)
    result = exec_sync(service, container_id, process("cat", "/proc/self/status", user=user))
    (groups,) = [line for line in result.stdout.decode().splitlines() if line.startswith("Groups")]
    assert "1002" in groups.split()
    result = exec_sync(service, container_id, process(*SHOW, user=user))
    assert (result.stdout, result.exit.exit_code) == (b"", 1)
    # Nobody else is kept from it.
    result = exec_sync(service, container_id, process(*SHOW, user="5:5"))
    assert result.stdout == b"a secret\n"


@pytest.mark.parametrize("field", ["add_capabilities", "add_ambient_capabilities"])
def test_an_added_capability_works_for_a_user_that_is_not_root(
    service: Service, field: str
) -> None:
    # A port below the limit of its own network namespace is for the capability alone.
    listen = ("sh", "-c", f"{SETS}; nc -l -p 80 -w 1; exit 0")
    sysctls = {"net.ipv4.ip_unprivileged_port_start": "1024"}
    for added, usable in (({}, set()), ({field: ["NET_BIND_SERVICE"]}, {"CAP_NET_BIND_SERVICE"})):
        fields = {"drop_capabilities": ["ALL"], **added}
        container_id = run(service, listen, user="alice", sysctls=sysctls, **fields)
        assert service.wait(container_id).exit_code == 0
        sets = sets_in(service.output(container_id))
        assert all(found == usable for found in sets.values())
        refused = "Permission denied" in "".join(service.output(container_id, "stderr"))
        assert refused == (not added)


def test_an_ambient_capability_of_root_is_passed_on(service: Service) -> None:
    container_id = run(service, ("sh", "-c", SETS), add_ambient_capabilities=["sys_time"])
    assert service.wait(container_id).exit_code == 0
    found = sets_in(service.output(container_id))
    everything = DEFAULT_CAPABILITIES | {"CAP_SYS_TIME"}
    assert found["CapEff"] == found["CapPrm"] == found["CapBnd"] == everything
    assert found["CapInh"] == found["CapAmb"] == {"CAP_SYS_TIME"}


def test_a_program_of_exec_has_what_is_its_users(service: Service) -> None:
    added = ["NET_BIND_SERVICE"]
    container_id = run(service, ("sleep", "1000"), user="alice", add_capabilities=added)

    def usable(user: str) -> set[str]:
        result = exec_sync(service, container_id, shell(SETS, user=user))
        found = sets_in(result.stdout.decode().splitlines())
        assert found["CapBnd"] == DEFAULT_CAPABILITIES | {"CAP_NET_BIND_SERVICE"}
        assert found["CapEff"] == found["CapPrm"]
        return found["CapEff"]

    assert usable("") == usable("1001:5") == {"CAP_NET_BIND_SERVICE"}
    assert usable("root") == DEFAULT_CAPABILITIES
    assert usable("7") == set()
