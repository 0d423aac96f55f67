"""Copies of trees that containers change to do harm, or that are larger than anybody wants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ocigrpc.errors import OcigrpcError
from ocigrpc.host.archives.reading import Archive
from ocigrpc.v1 import runtime_pb2 as pb
from tests.bed.bundles.archives import archive, member
from tests.bed.bundles.bundle import make_rootfs, spec_json
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service

FILES = 10_000
MEMORY_BYTES = 64 << 20

# What is a file is nothing, a FIFO that nobody writes to, a device, a link, and a file again.
CHANGE = """
while :; do
    rm -f /work/it; mkfifo /work/it
    rm -f /work/it; mknod /work/it c 5 0
    rm -f /work/it; ln -s /dev/zero /work/it
    rm -f /work/it; echo content > /work/it
done
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root filesystem of this test's own."""
    root = make_rootfs(tmp_path)
    (root / "work").mkdir()
    return root


def started(service: Service, root: Path, script: str = "exec sleep 1000") -> str:
    """A container whose files are at ``root``."""
    spec = json.loads(spec_json(root, ("/bin/sh", "-c", script)))
    spec["root"]["readonly"] = False
    request = pb.CreateContainerRequest(spec_json=json.dumps(spec))
    container_id = service.client.create_container(request).container_id
    service.start_container(container_id)
    return container_id


@contextmanager
def bounded_memory(service: Service) -> Iterator[None]:
    """The service never takes much more memory in the block."""
    status, refs = (Path(f"/proc/{service.pid}/{name}") for name in ("status", "clear_refs"))

    def peak_bytes() -> int:
        (line,) = (each for each in status.read_text().splitlines() if each.startswith("VmHWM:"))
        return int(line.split()[1]) << 10

    refs.write_text("5")
    before_bytes = peak_bytes()
    yield
    assert peak_bytes() - before_bytes < MEMORY_BYTES


def test_very_many_files_go_out_and_in_in_bounded_memory(service: Service, root: Path) -> None:
    container_id = started(service, root)
    (root / "work/many").mkdir()
    for number in range(FILES):
        (root / f"work/many/{number}\n").touch()
    (root / "work/copy").mkdir()
    client = service.client
    with bounded_memory(service):
        written = client.copy_into(
            container_id, "/work/copy", client.copy_out(container_id, "/work/many")
        )
    assert written.entries == FILES + 1
    assert len(list((root / "work/copy/many").iterdir())) == FILES


def test_what_a_file_becomes_while_it_is_copied_is_never_opened(
    service: Service, root: Path
) -> None:
    client = service.client
    container_id = started(service, root, CHANGE)
    made = archive((member("it"), b"copied in"))
    contents = set[bytes]()
    for turn in range(200):
        # It can only be gone, or another one, at that moment.
        with suppress(OcigrpcError):
            if turn % 2:
                client.copy_into(container_id, "/work", [made], timeout_s=10)
            else:
                read = Archive(client.copy_out(container_id, "/work", timeout_s=10))
                contents |= {b"".join(read.content()) for _ in read}
    assert contents <= {b"", b"content\n", b"copied in"}
    assert b"content\n" in contents


def test_clients_that_read_no_more_hold_up_nobody_else(service: Service, root: Path) -> None:
    client = service.client
    container_id = started(service, root)
    (root / "work/large").write_bytes(bytes(8 << 20))
    (root / "work/small").write_bytes(b"content")
    with bounded_memory(service), ThreadPoolExecutor(1) as pool:
        waiting = [client.copy_out(container_id, "/work/large") for _ in range(16)]
        for pieces in waiting:
            next(pieces)
        for _ in range(3):
            read = Archive(client.copy_out(container_id, "/work/small", timeout_s=20))
            assert [b"".join(read.content()) for _ in read] == [b"content"]
        service.pause(container_id)
        service.resume(container_id)
        pool.submit(service.remove, container_id, force=True).result(60)
    for pieces in waiting:
        with suppress(OcigrpcError):
            for _ in pieces:
                pass
    until(lambda: service.ids() == [])
