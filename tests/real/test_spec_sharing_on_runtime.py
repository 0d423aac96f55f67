"""Specs of configs as real runtimes carry them out: what a container shares with others."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocigrpc.oci.spec.config import Mount, Namespace, NamespaceMode, NamespaceType, Propagation
from tests.bed.bundles.bundle import BUSYBOX
from tests.bed.bundles.shell_container import RUNTIMES, ShellContainers, lines_of


@pytest.fixture(params=RUNTIMES)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> ShellContainers:
    """``run(script, **config)``: a script in a container of each runtime."""
    return ShellContainers(str(request.param), tmp_path)


def test_a_mount_of_the_config(run: ShellContainers, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/file").write_text("from the host\n")
    ended = run(
        "cat /in/deep/file; touch /in/deep/x 2>/dev/null || echo refused;"
        " awk '$2 == \"/in\" {print $3}' /proc/self/mounts",
        mounts=(
            Mount("/in/deep", str(tmp_path / "shared"), readonly=True),
            Mount("/in", type="tmpfs", options=("size=1m",)),
        ),
    )
    assert lines_of(ended) == ["from the host", "refused", "tmpfs"]


def test_a_mount_replaces_the_default(run: ShellContainers) -> None:
    ended = run(
        "grep ' /dev/shm ' /proc/self/mounts",
        mounts=(Mount("/dev/shm", type="tmpfs", options=("size=1m",)),),
    )
    (line,) = lines_of(ended)
    assert "size=1024k" in line


@pytest.fixture
def shared_mount(tmp_path: Path) -> Iterator[Path]:
    """A mount of its own that is shared."""
    place = tmp_path / "peers"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    try:
        subprocess.run(["mount", "--make-shared", place], check=True)
        (place / "inner").mkdir()
        yield place
    finally:
        subprocess.run(["umount", "-R", place], check=True)


def test_a_bidirectional_mount_travels_to_the_host(
    run: ShellContainers, shared_mount: Path
) -> None:
    ended = run(
        "mount -t tmpfs none /peers/inner",
        mounts=(Mount("/peers", str(shared_mount), propagation=Propagation.BIDIRECTIONAL),),
        add_capabilities=("SYS_ADMIN",),
    )
    assert lines_of(ended) == []
    assert os.path.ismount(shared_mount / "inner")


@pytest.mark.parametrize(
    ("propagation", "tag"),
    [
        (Propagation.PRIVATE, ""),
        (Propagation.HOST_TO_CONTAINER, "master:"),
        (Propagation.BIDIRECTIONAL, "shared:"),
    ],
)
def test_propagation_of_a_bind(
    run: ShellContainers, shared_mount: Path, propagation: Propagation, tag: str
) -> None:
    ended = run(
        "grep ' /peers ' /proc/self/mountinfo",
        mounts=(Mount("/peers", str(shared_mount), propagation=propagation),),
    )
    (line,) = lines_of(ended)
    tags = line.split(" - ")[0].split(" ")[6:]
    assert [found for found in tags if found.startswith(("master:", "shared:"))] == (
        [found for found in tags if found.startswith(tag)] if tag else []
    )
    assert bool(tags) == bool(tag)


def test_namespaces_of_the_host(run: ShellContainers) -> None:
    kinds = [
        NamespaceType.PID,
        NamespaceType.NETWORK,
        NamespaceType.IPC,
        NamespaceType.UTS,
        NamespaceType.CGROUP,
    ]
    names = ["pid", "net", "ipc", "uts", "cgroup"]
    ended = run(
        f"for n in {' '.join(names)}; do readlink /proc/self/ns/$n; done",
        namespaces=tuple(Namespace(kind, NamespaceMode.HOST) for kind in kinds),
    )
    assert lines_of(ended) == [os.readlink(f"/proc/self/ns/{name}") for name in names]


@pytest.fixture
def other_process() -> Iterator[int]:
    """A process with network, ipc and uts namespaces of its own."""
    # cat holds until its input ends; its first line says that it runs.
    with subprocess.Popen(
        ["unshare", "--net", "--ipc", "--uts", BUSYBOX, "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"ready\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.stdin.close()


def test_joined_namespaces(run: ShellContainers, other_process: int) -> None:
    kinds = {"net": NamespaceType.NETWORK, "ipc": NamespaceType.IPC, "uts": NamespaceType.UTS}
    ended = run(
        f"for n in {' '.join(kinds)}; do readlink /proc/self/ns/$n; done;"
        " cat /proc/sys/net/ipv4/ip_default_ttl",
        namespaces=tuple(
            Namespace(kind, NamespaceMode.PATH, f"/proc/{other_process}/ns/{name}")
            for name, kind in kinds.items()
        ),
        sysctls={"net.ipv4.ip_default_ttl": "78"},
    )
    assert lines_of(ended) == [*(os.readlink(f"/proc/{other_process}/ns/{n}") for n in kinds), "78"]
