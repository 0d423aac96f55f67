"""Hooks of a client's bundle: what they see, where they run, and what is left of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.bundles.bundle import make_bundle
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service
from tests.real.conftest import StartService

SCRIPT = """#!/bin/sh
# What it is called, where it is, and what it is told; all of it beside the bundle.
cat > "state.$1"
pwd > "cwd.$1"
cat config.json > "config.$1"
# Only by the first one: the last ones run while the program reads it.
[ -e rootfs/made-by-hook ] || echo "made by the hook" > rootfs/made-by-hook
"""
OF_THE_RUNTIME = ("prestart", "createRuntime", "poststart", "poststop")
ALL = (*OF_THE_RUNTIME, "createContainer")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with a program ``hook.sh``, and hooks of every kind that run it."""
    bundle = make_bundle(tmp_path / "bundle", ["/bin/sh", "-c", "cat /made-by-hook; sleep 1000"])
    (bundle / "hook.sh").write_text(SCRIPT)
    (bundle / "hook.sh").chmod(0o755)
    spec = read(bundle / "config.json")
    spec["hooks"] = {
        "prestart": [{"path": "./hook.sh", "args": ["hook", "prestart"]}],
        "createRuntime": [{"path": "hook.sh", "args": ["hook", "createRuntime"]}],
        "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "cat > ../state.inside"]}],
        "poststart": [{"path": "/bin/sh", "args": ["sh", "./hook.sh", "poststart"]}],
        "poststop": [{"path": "/bin/sh", "args": ["sh", "./hook.sh", "poststop"]}],
    }
    (bundle / "config.json").write_text(json.dumps(spec))
    return bundle


def read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


def create(service: Service, bundle: Path, container_id: str = "") -> str:
    request = CreateContainerRequest(bundle_path=str(bundle), container_id=container_id)
    return service.client.create_container(request).container_id


def is_mounted(bundle: Path) -> bool:
    """Whether it is shown anywhere; what is mounted in other namespaces, the fixtures see."""
    return "/".join(bundle.parts[-3:]) in Path("/proc/self/mountinfo").read_text()


def test_hooks_run_beside_the_bundle_and_see_it_with_its_root(
    any_service: Service, bundle: Path
) -> None:
    service = any_service
    config = (bundle / "config.json").read_bytes()
    container_id = create(service, bundle)
    service.start_container(container_id)
    until(lambda: service.output(container_id) == ["made by the hook"])
    service.remove(container_id, force=True)
    for kind in OF_THE_RUNTIME:
        state = read(bundle / f"state.{kind}")
        assert state["id"] == container_id
        # What is there is the bundle itself, at a place of the service's own.
        cwd = (bundle / f"cwd.{kind}").read_text().strip()
        assert cwd == state["bundle"]
        assert container_id in cwd
        # But for the spec, which is the one that the runtime was given.
        assert read(bundle / f"config.{kind}")["linux"]["cgroupsPath"]
    assert (bundle / "config.json").read_bytes() == config
    assert not is_mounted(bundle)


def test_one_bundle_with_hooks_serves_many_containers(service: Service, bundle: Path) -> None:
    ids = [create(service, bundle) for _ in range(3)]
    assert len({read(bundle / "state.createRuntime")["id"], *ids}) == 3
    for container_id in ids:
        service.remove(container_id)
        assert read(bundle / "state.poststop")["id"] == container_id
    assert (bundle / "rootfs/bin/sh").exists()
    assert not is_mounted(bundle)


def test_a_failing_hook_leaves_nothing_mounted(service: Service, bundle: Path) -> None:
    (bundle / "hook.sh").write_text("#!/bin/sh\nexit 7\n")
    with refused("FAILED_PRECONDITION", "HOOK_FAILED"):
        create(service, bundle)
    assert (bundle / "hook.sh").exists()
    assert not is_mounted(bundle)


@pytest.mark.parametrize("alive", [False, True])
def test_a_service_that_was_killed_still_shows_the_bundle(
    start_service: StartService, bundle: Path, alive: bool
) -> None:
    service = start_service()
    container_id = create(service, bundle, container_id="shown")
    service.start_container(container_id)
    if not alive:
        service.kill(container_id)
        service.wait(container_id)
    service.die()
    service.start()
    service.remove(container_id, force=True)
    assert read(bundle / "state.poststop")["id"] == container_id
    assert (bundle / "rootfs/bin/sh").exists()
    assert not is_mounted(bundle)


def test_a_create_that_was_cut_off_in_a_hook_leaves_nothing_mounted(
    start_service: StartService, bundle: Path
) -> None:
    service = start_service()
    (bundle / "hook.sh").write_text("#!/bin/sh\ntouch began\nexec sleep 1000\n")
    request = CreateContainerRequest(bundle_path=str(bundle), container_id="cut")
    call = service.wire.CreateContainer.future(request)
    until(lambda: (bundle / "began").exists())
    service.die()
    assert call.exception() is not None
    service.start()
    until(lambda: not service.leaks())
    assert service.ids() == []
    assert (bundle / "rootfs/bin/sh").exists()
    assert not is_mounted(bundle)


def test_what_somebody_mounts_over_the_bundle_is_left(service: Service, bundle: Path) -> None:
    container_id = create(service, bundle)
    shown = Path(service.status(container_id).bundle_path) / "bundle"
    subprocess.run(["mount", "-t", "tmpfs", "theirs", str(shown)], check=True)
    try:
        (shown / "file").touch()
        with refused("FAILED_PRECONDITION", "MOUNT_IN_THE_WAY") as refusal:
            service.remove(container_id)
        assert refusal.metadata["path"] == str(shown)
        assert (shown / "file").exists()
    finally:
        subprocess.run(["umount", str(shown)], check=True)
    service.remove(container_id)
    assert (bundle / "rootfs/bin/sh").exists()
    assert not is_mounted(bundle)


def test_the_bundle_is_apart_from_the_files_of_the_service(service: Service, bundle: Path) -> None:
    container_id = create(service, bundle)
    directory = Path(service.status(container_id).bundle_path)
    assert (directory / "bundle/rootfs/bin/sh").exists()
    assert (directory / "bundle/hook.sh").exists()
    assert not (directory / "hook.sh").exists()
    service.remove(container_id)
    assert not directory.exists()


def test_a_relative_hook_of_a_spec_without_a_bundle_is_refused(
    service: Service, bundle: Path
) -> None:
    spec = read(bundle / "config.json")
    spec["root"]["path"] = str(service.rootfs)
    with refused("INVALID_ARGUMENT", "INVALID_SPEC"):
        service.client.create_container(CreateContainerRequest(spec_json=json.dumps(spec)))
