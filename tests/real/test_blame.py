"""What a request asks for in vain is the request's fault, and typed; with real runtimes."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ocigrpc.v1 import config_pb2
from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.bundles.bundle import make_rootfs, spec_json
from tests.bed.clients.exec import exec_sync, process
from tests.bed.clients.refusal import Refusal, refused
from tests.bed.services.service import Service

TRUE = ("/bin/sh", "-c", "true")
NOT_FOUND, NOT_EXECUTABLE = ("PROGRAM_NOT_FOUND", "127"), ("PROGRAM_NOT_EXECUTABLE", "126")

REFUSED_AT_CREATE = {
    "/no/such/program": NOT_FOUND,
    "no-such-program": NOT_FOUND,
    "/a-file/below": NOT_FOUND,
    "/etc": NOT_EXECUTABLE,
    "/bin/no-x": NOT_EXECUTABLE,
    "/bin/loop": NOT_EXECUTABLE,
}
"""Programs, and what comes of them."""

REFUSED_AT_START = {
    "/bin/no-interpreter": NOT_FOUND,
    "no-interpreter": NOT_FOUND,
    "/bin/alias-of-it": NOT_FOUND,
    "/bin/no-interpreter-either": NOT_FOUND,
    "/bin/no-loader": NOT_FOUND,
    "/bin/garbage": NOT_EXECUTABLE,
    "/bin/empty": NOT_EXECUTABLE,
    "/bin/no-shebang": NOT_EXECUTABLE,
}


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A root filesystem with programs that can't be executed; where every host sees it."""
    with tempfile.TemporaryDirectory(prefix="ocigrpc-blame-", dir="/var/tmp") as directory:
        yield _with_programs(make_rootfs(Path(directory)))


def _with_programs(root: Path) -> Path:
    root.joinpath("a-file").write_text("")
    scripts = {
        "no-interpreter": "#!/no/such/interpreter -x\n",
        "no-interpreter-either": "#!/bin/no-interpreter\n",
        "no-shebang": "echo here\n",
        "garbage": "\0\1\2\3",
        "empty": "",
        "no-x": "#!/bin/sh\n",
        "works": "#!/bin/sh\nexit 7\n",
    }
    for name, text in scripts.items():
        script = root / "bin" / name
        script.write_text(text)
        script.chmod(0o644 if name == "no-x" else 0o755)
    (root / "bin/loop").symlink_to("loop")
    (root / "bin/alias-of-it").symlink_to("/bin/no-interpreter")
    shutil.copy("/bin/ls", root / "bin/no-loader")
    return root


def request_of(root: Path, *command: str, **fields: Any) -> CreateContainerRequest:
    config = config_pb2.ContainerConfig(rootfs_path=str(root), command=command, **fields)
    return CreateContainerRequest(config=config)


def create(service: Service, request: CreateContainerRequest) -> str:
    return service.client.create_container(request).container_id


@contextmanager
def refused_for(reason: str, exit_code: str | None = None) -> Iterator[Refusal]:
    with refused("FAILED_PRECONDITION", reason) as refusal:
        yield refusal
    assert refusal.metadata.get("exit_code") == exit_code


def test_a_program_that_can_not_be_executed_is_typed(any_service: Service, root: Path) -> None:
    for program, (reason, exit_code) in REFUSED_AT_CREATE.items():
        with refused_for(reason, exit_code):
            create(any_service, request_of(root, program))
    assert any_service.leaks() == []


def test_a_program_whose_interpreter_or_format_is_missing_is_refused_before_it_is_started(
    any_service: Service, root: Path
) -> None:
    for program, (reason, exit_code) in REFUSED_AT_START.items():
        container_id = create(any_service, request_of(root, program))
        with refused_for(reason, exit_code):
            any_service.start_container(container_id)
        assert any_service.state(container_id) == "created"


def test_exec_tells_the_same_of_a_program(any_service: Service, root: Path) -> None:
    container_id = create(any_service, request_of(root, "/bin/sh", "-c", "exec sleep 1000"))
    any_service.start_container(container_id)
    for program, (reason, exit_code) in {**REFUSED_AT_CREATE, **REFUSED_AT_START}.items():
        with refused_for(reason, exit_code):
            exec_sync(any_service, container_id, process(program))
    assert exec_sync(any_service, container_id, process("works")).exit.exit_code == 7
    with refused_for("WORKING_DIR_UNUSABLE"):
        exec_sync(any_service, container_id, process("works", working_dir="/a-file"))


def test_an_interpreter_that_is_mounted_is_found(service: Service, root: Path) -> None:
    mount = config_pb2.Mount(container_path="/no/such", host_path=str(root / "bin"))
    (root / "bin/interpreter").unlink(missing_ok=True)
    (root / "bin/interpreter").symlink_to("busybox")
    request = request_of(root, "/bin/no-interpreter", mounts=[mount])
    container_id = create(service, request)
    service.start_container(container_id)
    service.wait(container_id)


def test_other_things_that_can_not_be_had_are_typed(any_service: Service, root: Path) -> None:
    huge = config_pb2.Rlimit(type="RLIMIT_NOFILE", soft=1, hard=1 << 40)
    inside = config_pb2.Mount(container_path="/a-file/inside", host_path="/etc")
    unknown = config_pb2.Mount(container_path="/m", type="no-such-type")
    for request, reason in (
        (request_of(root, *TRUE, working_dir="/a-file"), "WORKING_DIR_UNUSABLE"),
        (request_of(root, *TRUE, rlimits=[huge]), "RLIMIT_REFUSED"),
        (request_of(root, *TRUE, mounts=[inside]), "MOUNT_FAILED"),
        (request_of(root, *TRUE, mounts=[unknown]), "MOUNT_FAILED"),
        (request_of(root, *TRUE, sysctls={"net.ipv4.no_such": "1"}), "SYSCTL_REFUSED"),
    ):
        with refused_for(reason):
            create(any_service, request)
    assert any_service.leaks() == []


@pytest.mark.parametrize(
    "hook",
    [
        {"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]},
        {"path": "/no/such/hook"},
        {"path": "/bin/sh", "args": ["sh", "-c", "exec sleep 1000"], "timeout": 1},
    ],
)
@pytest.mark.parametrize("point", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_is_typed(
    any_service: Service, root: Path, point: str, hook: dict[str, object]
) -> None:
    spec = json.loads(spec_json(root, TRUE))
    spec["hooks"] = {point: [hook]}
    with refused("FAILED_PRECONDITION") as refusal:
        create(any_service, CreateContainerRequest(spec_json=json.dumps(spec)))
    # crun now and then loses what went wrong, when its process in the container is gone at once.
    is_lost = refusal.metadata["output"] == "writing to pipe: Broken pipe"
    assert refusal.reason == ("PROGRAM_KILLED" if is_lost else "HOOK_FAILED")
    assert any_service.leaks() == []
