"""The service itself: what it reports, and the whole life of a container of its own."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ocigrpc.cli.doctor.findings import Finding, Host, failed, fine, warning
from ocigrpc.cli.failures import said
from ocigrpc.cli.session import session
from ocigrpc.errors import OcigrpcError
from ocigrpc.host.processes.programs import find_program
from ocigrpc.oci.executable import interpreter_of

if TYPE_CHECKING:
    from ocigrpc.client import Client

_CALL_S = 30.0
_HEAD_BYTES = 4096
# What a shell returns for a program that SIGKILL has ended.
_KILLED = 137


def check_service(host: Host) -> Iterator[Finding]:
    """The conditions of its Status, and a container from create to remove."""
    if not (host.is_answering or host.is_address_given):
        yield warning("no service answers, so no container was tried", "systemctl start ocigrpc")
        return
    with session()._replace(address=host.address).connect(_CALL_S) as client:
        yield from _conditions(client)
        yield from _life(client)


def _conditions(client: Client) -> Iterator[Finding]:
    from ocigrpc.v1.runtime_pb2 import CONDITION_STATUS_TRUE

    yield fine(f"version {client.version().runtime_version} answers")
    for each in client.status().conditions:
        if each.status != CONDITION_STATUS_TRUE:
            yield failed(f"{each.type}: {each.message}", "see OPERATING.md, Health checks")
        elif each.message:
            yield warning(f"{each.type}: {each.message}", "see OPERATING.md, Health checks")
        else:
            yield fine(each.type)


def _life(client: Client) -> Iterator[Finding]:
    busybox = _static_busybox()
    if busybox is None:
        problem = "no container was tried, as there is no static busybox"
        yield warning(problem, "apt-get install busybox-static")
        return
    with tempfile.TemporaryDirectory(prefix="ocigrpc-doctor-") as rootfs, ExitStack() as undo:
        program = Path(rootfs) / "bin/busybox"
        program.parent.mkdir()
        shutil.copy(busybox, program)
        # Another user's service program has to get there as well.
        Path(rootfs).chmod(0o755)
        began_s, step = time.monotonic(), "create"
        container_id = f"doctor-{secrets.token_hex(4)}"
        try:
            for step, do in _steps(client, container_id, rootfs):
                if step == "create":
                    undo.callback(_remove, client, container_id)
                do()
        except OcigrpcError as error:
            yield failed(f"a container: {step} failed: {said(error)}", "see the log of the service")
        else:
            yield fine(f"a container lived from create to remove: {_ms_since(began_s)} ms")


def _steps(
    client: Client, container_id: str, rootfs: str
) -> Iterator[tuple[str, Callable[[], object]]]:
    """The life of a container, step by step."""
    from ocigrpc.v1.config_pb2 import ContainerConfig
    from ocigrpc.v1.runtime_pb2 import CreateContainerRequest

    config = ContainerConfig(rootfs_path=rootfs, command=["/bin/busybox", "sleep", "600"])
    request = CreateContainerRequest(container_id=container_id, config=config)
    yield "create", lambda: client.create_container(request)
    yield "start", lambda: client.start_container(container_id)
    yield "exec", lambda: _expect(0, _exec(client, container_id))
    yield "pause", lambda: client.pause_container(container_id)
    yield "resume", lambda: client.resume_container(container_id)
    yield "kill", lambda: client.kill_container(container_id)
    yield "wait", lambda: _expect(_KILLED, client.wait_container(container_id, _CALL_S).exit_code)
    yield "remove", lambda: client.remove_container(container_id)


def _exec(client: Client, container_id: str) -> int:
    command = ["/bin/busybox", "true"]
    return client.exec_sync(container_id, command, timeout_s=_CALL_S).exit.exit_code


def _expect(wanted: int, exit_code: int) -> None:
    if exit_code != wanted:
        raise OcigrpcError(f"the exit code is {exit_code}, not {wanted}")


def _remove(client: Client, container_id: str) -> None:
    """Remove what is left of the container, if anything."""
    # If this fails, so has a step before it, which says why.
    with suppress(OcigrpcError):
        client.remove_container(container_id, force=True)


def _static_busybox() -> str | None:
    """The path of one that needs no other file."""
    path = find_program("busybox")
    if path is None:
        return None
    with open(path, "rb") as file:
        return path if interpreter_of(file.read(_HEAD_BYTES)) is None else None


def _ms_since(began_s: float) -> int:
    return round((time.monotonic() - began_s) * 1000)
