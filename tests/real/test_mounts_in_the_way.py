"""No removal crosses a mount point: what is behind it stays, and the rest can go later."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from ocigrpc.errors import PreconditionFailed
from ocigrpc.host.files.tree import mounts_at, remove_tree
from ocigrpc.v1.runtime_pb2 import CreateContainerRequest, RemoveContainerRequest
from ocigrpc.waiting import Deadline
from tests.bed.clients.exec import exec_sync, process
from tests.bed.clients.refusal import refused
from tests.bed.faults.mounting import write_killed
from tests.bed.faults.runtimes import Gate
from tests.bed.hosts.leaks import LIMIT_S, until
from tests.bed.hosts.mounted import mounted
from tests.bed.services.service import Service
from tests.real.conftest import Runtimes, StartService
from tests.real.test_recovery import logged, restart_after_death

ID = "web"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A directory that somebody wants to keep, as it is."""
    directory = tmp_path / "kept"
    (directory / "below").mkdir(parents=True)
    (directory / "file").write_text("kept")
    (directory / "below/file").write_text("kept")
    return directory


def expect_kept(directory: Path) -> None:
    assert (directory / "file").read_text() == "kept"
    assert (directory / "below/file").read_text() == "kept"


Way = Callable[[Path], Path]


def _on(name: str) -> Way:
    """A mount on a directory, which is made if need be; the path of the mount point."""

    def make(base: Path) -> Path:
        (base / name).mkdir(parents=True, exist_ok=True)
        return base / name

    return make


def _on_file(name: str) -> Way:
    def make(base: Path) -> Path:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).touch()
        return base / name

    return make


BUNDLE = f"run/containers/{ID}"
DIRECTORIES = {
    "in the bundle": _on(f"{BUNDLE}/mounted"),
    "deep in the bundle": _on(f"{BUNDLE}/a/b/c"),
    "over the bundle": _on(BUNDLE),
    "over all bundles": _on("run/containers"),
    "over all exit files": _on("run/exits"),
}
FILES = {
    "a file in the bundle": _on_file(f"{BUNDLE}/mounted"),
    "the spec": _on_file(f"{BUNDLE}/config.json"),
    "the exit file": _on_file(f"run/exits/{ID}"),
    "the link of the socket": _on_file(f"run/sockets/{ID}"),
    "the log": _on_file(f"log/{ID}.log"),
    "a log that was rotated": _on_file(f"log/{ID}.log.1"),
}


def expect_refused(service: Service, path: Path, *, force: bool) -> None:
    for _ in range(2):
        with refused("FAILED_PRECONDITION", "MOUNT_IN_THE_WAY") as refusal:
            service.remove(ID, force=force)
        assert refusal.metadata["path"] == str(path)
        assert service.ids() == [ID]


@pytest.mark.parametrize("where", DIRECTORIES)
@pytest.mark.parametrize("is_running", [False, True])
def test_a_removal_leaves_a_mounted_directory_and_the_container_until_it_is_unmounted(
    service: Service, kept: Path, where: str, is_running: bool
) -> None:
    service.run(container_id=ID)
    if not is_running:
        service.stop(ID, 0)
    path = DIRECTORIES[where](service.directory)
    with mounted(path, "--bind", str(kept)):
        expect_refused(service, path, force=is_running)
        assert service.state(ID) == ("running" if is_running else "stopped")
    expect_kept(kept)
    service.remove(ID, force=True)
    assert service.ids() == []
    assert service.leaks() == []


@pytest.mark.parametrize("where", FILES)
def test_a_removal_leaves_a_mounted_file_and_the_container_until_it_is_unmounted(
    service: Service, kept: Path, where: str
) -> None:
    service.run(container_id=ID)
    service.stop(ID, 0)
    path = FILES[where](service.directory)
    with mounted(path, "--bind", str(kept / "file")):
        expect_refused(service, path, force=False)
        assert path.read_text() == "kept"
    expect_kept(kept)
    service.remove(ID)
    assert service.leaks() == []


@pytest.mark.parametrize("options", [("-t", "tmpfs", "tmpfs"), ("--bind",)])
def test_a_mount_of_any_kind_and_one_in_another_are_left(
    service: Service, kept: Path, options: tuple[str, ...]
) -> None:
    service.run(container_id=ID)
    outer = service.directory / BUNDLE / "outer"
    outer.mkdir()
    # A directory on itself is of the same file system, and the same file.
    words = (*options, str(outer)) if options == ("--bind",) else options
    with mounted(outer, *words):
        inner = outer / "inner"
        inner.mkdir()
        with mounted(inner, "--bind", str(kept)):
            expect_refused(service, outer, force=True)
        (outer / "file").write_text("kept")
        expect_refused(service, outer, force=True)
        assert (outer / "file").read_text() == "kept"
    expect_kept(kept)
    service.remove(ID, force=True)
    assert service.leaks() == []


def test_a_mount_that_comes_during_a_removal_is_left(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate, kept: Path
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    service.run(container_id=ID, runtime_handler="gated-delete")
    path = service.directory / BUNDLE / "mounted"
    path.mkdir()
    request = RemoveContainerRequest(container_id=ID, force=True)
    call = service.wire.RemoveContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    with mounted(path, "--bind", str(kept)):
        gate.open()
        with refused("FAILED_PRECONDITION", "MOUNT_IN_THE_WAY"):
            call.result()
        assert (service.directory / BUNDLE / "config.json").exists()
        expect_kept(kept)
    expect_kept(kept)
    service.remove(ID)
    assert service.leaks() == []


def test_a_mount_in_the_runtimes_directory_of_a_container_is_left(
    any_service: Service, kept: Path
) -> None:
    service = any_service
    service.run(container_id=ID)
    runtime = service.status(ID).runtime_handler
    path = service.directory / runtime / ID / "mounted"
    path.mkdir()
    # Where the service and its runtimes see it.
    there = ["nsenter", "--target", str(service.pid), "--mount"]
    subprocess.run([*there, "mount", "--bind", str(kept), str(path)], check=True)
    expect_refused(service, path, force=True)
    assert service.state(ID) == "running"
    subprocess.run([*there, "umount", str(path)], check=True)
    expect_kept(kept)
    service.remove(ID, force=True)
    assert service.leaks() == []


def test_a_create_that_fails_leaves_a_mount_and_is_undone_once_it_is_unmounted(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate, kept: Path
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    request = CreateContainerRequest(
        config=service.config("true"), runtime_handler="hangs", container_id=ID
    )
    call = service.wire.CreateContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    path = service.directory / BUNDLE / "mounted"
    path.mkdir()
    with mounted(path, "--bind", str(kept)):
        call.cancel()
        until(lambda: service.ids() == [])
        restart_after_death(service)
        until(lambda: logged(service, "container.create_undone", "whole") == [False])
        with refused("FAILED_PRECONDITION", "BUNDLE_EXISTS"):
            service.create(container_id=ID)
        expect_kept(kept)
    restart_after_death(service)
    until(lambda: service.ids() == service.leaks() == [])
    expect_kept(kept)
    service.create(container_id=ID)


def test_a_program_of_exec_leaves_a_mount_in_its_directory(service: Service, kept: Path) -> None:
    service.run(container_id=ID)
    bundle = service.directory / BUNDLE
    with ExitStack() as mounts:

        def mount() -> bool:
            for directory in bundle.glob("exec-*"):
                (directory / "mounted").mkdir()
                mounts.enter_context(mounted(directory / "mounted", "--bind", str(kept)))
                return True
            return False

        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(exec_sync, service, ID, process("sleep", "0.5"))
            until(mount)
            assert ended.result(LIMIT_S).exit.exit_code == 0
        expect_kept(kept)
        with refused("FAILED_PRECONDITION", "MOUNT_IN_THE_WAY"):
            service.remove(ID, force=True)
    expect_kept(kept)
    service.remove(ID, force=True)
    assert service.leaks() == []


@pytest.fixture
def killed(faults_directory: Path, gate: Gate) -> dict[str, dict[str, str]]:
    """Runtimes that are killed over a mount of theirs."""
    scripts = {
        "killed-create": write_killed(faults_directory, "killed-create", "runc", "create"),
        "killed-exec": write_killed(faults_directory, "killed-exec", "runc", "exec"),
        "killed-hangs": write_killed(
            faults_directory, "killed-hangs", "runc", "create", hangs=True
        ),
    }
    return {name: {"path": str(path)} for name, path in scripts.items()}


def own_mounts(service: Service) -> list[str]:
    """Where runc has its own program mounted, and has not lived to unmount it."""
    return [each for each in service.leaks() if each.startswith("mount") and "/runc." in each]


def test_a_runtime_that_is_killed_in_a_create_leaves_nothing(
    start_service: StartService, killed: Runtimes
) -> None:
    service = start_service(runtimes=killed)
    with refused("INTERNAL", "RUNTIME_FAILED"):
        service.create(container_id=ID, runtime_handler="killed-create")
    assert service.leaks() == []
    service.run(container_id=ID)


@pytest.mark.parametrize("end", ["cancel", "death"])
def test_what_a_killed_runtime_has_left_is_undone_with_its_create(
    start_service: StartService, killed: Runtimes, gate: Gate, end: str
) -> None:
    service = start_service(runtimes=killed)
    request = CreateContainerRequest(
        config=service.config("true"), runtime_handler="killed-hangs", container_id=ID
    )
    call = service.wire.CreateContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    assert own_mounts(service)
    if end == "cancel":
        call.cancel()
    else:
        restart_after_death(service)
    until(lambda: service.ids() == service.leaks() == [])
    service.run(container_id=ID)


def test_what_a_runtime_killed_in_an_exec_has_left_is_removed_with_its_container(
    start_service: StartService, killed: Runtimes
) -> None:
    service = start_service(runtimes=killed)
    service.run(container_id=ID, runtime_handler="killed-exec")
    with refused("INTERNAL", "EXEC_FAILED"):
        exec_sync(service, ID, process("true"))
    assert own_mounts(service)
    service.remove(ID, force=True)
    assert service.leaks() == []
    service.run(container_id=ID)


def test_anothers_mount_beside_that_of_a_killed_runtime_is_left(
    start_service: StartService, killed: Runtimes, gate: Gate, kept: Path
) -> None:
    service = start_service(runtimes=killed)
    request = CreateContainerRequest(
        config=service.config("true"), runtime_handler="killed-hangs", container_id=ID
    )
    call = service.wire.CreateContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    path = service.directory / "runc" / ID / "mounted"
    path.mkdir()
    with mounted(path, "--bind", str(kept)):
        call.cancel()
        until(lambda: service.ids() == [])
        with refused("ALREADY_EXISTS", "RUNTIME_ID_IN_USE"):
            service.create(container_id=ID)
        expect_kept(kept)
    restart_after_death(service)
    until(lambda: service.ids() == service.leaks() == [])
    expect_kept(kept)
    service.run(container_id=ID)


def test_a_tree_is_removed_with_all_kinds_of_files(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").touch()
    (tree / "link").symlink_to(tmp_path)
    (tree / "to nowhere").symlink_to("nowhere")
    remove_tree(str(tmp_path), str(tree))
    assert not tree.exists()
    remove_tree(str(tmp_path), str(tree))
    remove_tree(str(tmp_path / "missing"), str(tmp_path / "missing/tree"))
    tree.symlink_to(tmp_path)
    remove_tree(str(tmp_path), str(tree))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_removed_of_a_tree_with_a_mount(tmp_path: Path, kept: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "file").touch()
    with mounted(tree / "a/b", "--bind", str(kept)):
        assert mounts_at(str(tmp_path), str(tree)) == [str(tree / "a/b")]
        with pytest.raises(PreconditionFailed) as caught:
            remove_tree(str(tmp_path), str(tree))
        assert caught.value.reason == "MOUNT_IN_THE_WAY"
        assert (tree / "file").exists()
        with pytest.raises(PreconditionFailed):
            remove_tree(str(tmp_path), str(tree / "a/b/below"))
    expect_kept(kept)
    remove_tree(str(tmp_path), str(tree))
    assert not tree.exists()


def test_a_mount_is_found_at_any_depth(tmp_path: Path, kept: Path) -> None:
    tree = tmp_path / "tree"
    deep = Path(tree, *["a"] * 300)
    deep.mkdir(parents=True)
    with mounted(deep, "--bind", str(kept)):
        with pytest.raises(PreconditionFailed) as caught:
            remove_tree(str(tmp_path), str(tree))
        assert caught.value.metadata["path"] == str(deep)
    expect_kept(kept)
    remove_tree(str(tmp_path), str(tree))
    assert not tree.exists()
