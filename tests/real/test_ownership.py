"""Names prove nothing: what bears a name of ours, and is another's, is left as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from ocigrpc.waiting import Deadline
from tests.bed.checks.strangers import Strangers, stranger
from tests.bed.clients.exec import exec_sync, process
from tests.bed.clients.limits import update
from tests.bed.clients.refusal import refused
from tests.bed.faults.runtimes import Gate
from tests.bed.hosts.leaks import LIMIT_S, pids_in, until
from tests.bed.services.service import Service
from tests.real.conftest import Runtimes, StartService, crun_host, serving
from tests.real.test_recovery import logged, restart_after_death

ID = "web"


@pytest.fixture
def strangers(service: Service, tmp_path: Path) -> Strangers:
    return Strangers(service, tmp_path / "bundle")


@pytest.fixture
def any_strangers(any_service: Service, tmp_path: Path) -> Strangers:
    """With the runtime that is the service's default one."""
    made = any_service.create("true")
    runtime = any_service.status(made.container_id).runtime_handler
    any_service.remove(made.container_id)
    return Strangers(any_service, tmp_path / "bundle", runtime)


@pytest.mark.parametrize("state", ["created", "running", "paused"])
def test_an_id_that_the_runtime_has_for_another_is_refused_and_the_other_lives_on(
    any_service: Service, any_strangers: Strangers, state: str
) -> None:
    with any_strangers.have(ID, state):
        with refused("ALREADY_EXISTS", "RUNTIME_ID_IN_USE") as refusal:
            any_service.create(container_id=ID)
        assert refusal.metadata["container_id"] == ID
        runtime = refusal.metadata["runtime_handler"]
        assert runtime in ("runc", "crun")
        assert refusal.metadata["path"] == str(any_service.directory / runtime / ID)
        assert any_service.ids() == []
        for call in (any_service.start_container, any_service.pause, any_service.kill):
            with refused("NOT_FOUND", "CONTAINER_NOT_FOUND"):
                call(ID)
        any_service.remove(ID, force=True)
        restart_after_death(any_service)
        assert any_service.ids() == []
    any_service.create(container_id=ID)


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_an_id_is_looked_for_where_runtimes_have_them_unless_told(
    rootfs: Path, tmp_path: Path, runtime: str
) -> None:
    handlers = {name: {"path": name, "root": ""} for name in ("runc", "crun")}
    with (
        crun_host() as host,
        serving(host, rootfs, runtimes=handlers, default_runtime=runtime) as service,
    ):
        container_id = service.directory.name
        strangers = Strangers(service, tmp_path / "bundle", runtime, root=f"/run/{runtime}")
        with strangers.have(container_id):
            with refused("ALREADY_EXISTS", "RUNTIME_ID_IN_USE"):
                service.create(container_id=container_id)
            service.run(container_id=f"{container_id}-2")
        service.remove_all()
        assert not Path(f"/run/{runtime}/{container_id}-2").exists()


def test_a_program_of_a_runtimes_name_that_has_its_containers_elsewhere_is_asked(
    start_service: StartService, tmp_path: Path
) -> None:
    wrapper, root = tmp_path / "runc", tmp_path / "elsewhere"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("runc")} --root {root} "$@"\n')
    wrapper.chmod(0o755)
    service = start_service(runtimes={"runc": {"path": str(wrapper), "root": ""}})
    strangers = Strangers(service, tmp_path / "bundle", root=str(root))
    with strangers.have(ID):
        with refused("ALREADY_EXISTS", "RUNTIME_ID_IN_USE"):
            service.create(container_id=ID)
        assert service.leaks() == []
    service.run(container_id=ID)
    strangers.delete(ID)
    with strangers.have(ID):
        service.remove(ID, force=True)
    service.run(container_id=ID)
    service.remove(ID, force=True)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("end", ["refusal", "death"])
def test_an_id_that_another_takes_during_a_create_is_refused_and_the_other_lives_on(
    start_service: StartService,
    faulty_runtimes: Runtimes,
    gate: Gate,
    tmp_path: Path,
    end: str,
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    strangers = Strangers(service, tmp_path / "bundle")
    request = CreateContainerRequest(
        config=service.config("exec sleep 1000"), runtime_handler="gated", container_id=ID
    )
    call = service.wire.CreateContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    with strangers.have(ID):
        if end == "death":
            restart_after_death(service)
            until(lambda: logged(service, "container.create_undone") == [ID])
        else:
            gate.open()
            with refused("ALREADY_EXISTS", "RUNTIME_ID_IN_USE"):
                call.result()
        assert service.ids() == []
    assert service.leaks() == []


def test_an_id_that_another_takes_while_a_create_hangs_is_left_to_the_other(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate, tmp_path: Path
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    strangers = Strangers(service, tmp_path / "bundle")
    request = CreateContainerRequest(
        config=service.config("true"), runtime_handler="hangs", container_id=ID
    )
    call = service.wire.CreateContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    with strangers.have(ID):
        call.cancel()
        until(lambda: service.ids() == [])
        until(lambda: len(service.leaks()) == 1)
    assert service.leaks() == []


def test_an_entry_of_a_runtime_that_was_killed_over_it_is_anothers(service: Service) -> None:
    entry = service.directory / "runc" / ID
    entry.mkdir(parents=True)
    (entry / "kept").touch()
    with refused("ALREADY_EXISTS", "RUNTIME_ID_IN_USE"):
        service.create(container_id=ID)
    assert (entry / "kept").exists()
    shutil.rmtree(entry)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_container_deleted_by_hand_whose_id_another_has_is_removed_alone(
    any_service: Service, any_strangers: Strangers, restarted: bool
) -> None:
    service = any_service
    service.run(container_id=ID)
    any_strangers.delete(ID)
    service.wait(ID)
    with any_strangers.have(ID):
        if restarted:
            restart_after_death(service)
        assert service.state(ID) == "stopped"
        for verb in (service.start_container, service.pause, service.resume, service.kill):
            with refused("FAILED_PRECONDITION", "WRONG_STATE"):
                verb(ID)
        service.stop(ID, 0)
        service.remove(ID, force=True)
        assert service.ids() == []


VERBS: dict[str, Callable[[Service], object]] = {
    "pause": lambda service: service.pause(ID),
    "exec": lambda service: exec_sync(service, ID, process("touch", "/here")),
    "update": lambda service: update(service, ID, pids_limit=50),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_does_nothing_to_another_that_has_the_id_of_a_container_that_lives(
    service: Service, strangers: Strangers, verb: str
) -> None:
    service.run(container_id=ID)
    shutil.rmtree(service.directory / "runc" / ID)
    with strangers.have(ID):
        with refused("FAILED_PRECONDITION", "RUNTIME_CONTAINER_REPLACED") as refusal:
            VERBS[verb](service)
        assert refusal.metadata["path"] == str(service.directory / "runc" / ID)
        assert service.state(ID) == "running"
        service.stop(ID, 0)
        service.remove(ID)
    assert not (service.rootfs / "here").exists()
    assert service.leaks() == []


def test_another_that_has_the_id_of_a_created_container_is_not_started(
    service: Service, strangers: Strangers
) -> None:
    service.create(container_id=ID)
    shutil.rmtree(service.directory / "runc" / ID)
    with strangers.have(ID, "created"):
        with refused("FAILED_PRECONDITION", "RUNTIME_CONTAINER_REPLACED"):
            service.start_container(ID)
        service.remove(ID)


def test_another_that_has_the_id_of_a_paused_container_is_not_resumed_and_is_not_asked(
    service: Service, strangers: Strangers
) -> None:
    service.run(container_id=ID)
    service.pause(ID)
    shutil.rmtree(service.directory / "runc" / ID)
    with strangers.have(ID, "paused"):
        with refused("FAILED_PRECONDITION", "RUNTIME_CONTAINER_REPLACED"):
            service.resume(ID)
        Hierarchies.detect().group(service.status(ID).cgroup_path).thaw()
        # Memory says paused, the kernel running, and the runtime speaks of another.
        assert service.state(ID) == "unknown"
        service.remove(ID, force=True)


@contextmanager
def kept_process(service: Service, path: str) -> Iterator[None]:
    """A process in a cgroup of this path, made by hand; it lives on in the block."""
    with stranger() as pid:
        directories = [Path(f"{root}{path}") for root in service.host.cgroup_roots]
        for directory in directories:
            directory.mkdir(parents=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                above = directory.parent / name
                if above.exists() and not above.read_text().strip():
                    above.write_text((directory.parents[1] / name).read_text())
                if above.exists() and (directory / name).exists():
                    (directory / name).write_text(above.read_text())
            (directory / "cgroup.procs").write_text(str(pid))
        try:
            yield
        finally:
            for root, directory in zip(service.host.cgroup_roots, directories, strict=True):
                Path(root, "cgroup.procs").write_text(str(pid))
                directory.rmdir()


def stopped(service: Service) -> str:
    """The cgroup of a container that has stopped; there is none of this path any more."""
    service.run(container_id=ID)
    service.stop(ID, 0)
    path = service.status(ID).cgroup_path
    Hierarchies.detect().group(path).remove(Deadline(LIMIT_S))
    return path


@pytest.mark.parametrize("restarted", [False, True])
def test_a_process_in_a_cgroup_that_has_the_name_of_a_containers_lives_on(
    service: Service, strangers: Strangers, restarted: bool
) -> None:
    path = stopped(service)
    with kept_process(service, path):
        if restarted:
            restart_after_death(service)
        service.stop(ID, 0)
        with refused("FAILED_PRECONDITION", "CGROUP_NOT_OURS") as refusal:
            service.remove(ID, force=True)
        assert refusal.metadata["path"] == path
        assert refusal.metadata["pids"]
        # Without the runtime, which would kill it, the removal can go on.
        shutil.rmtree(service.directory / "runc" / ID)
        service.remove(ID)
        assert service.ids() == []
    assert service.leaks() == []


def test_a_container_is_removed_once_the_process_in_a_cgroup_of_its_name_is_gone(
    service: Service,
) -> None:
    with (
        kept_process(service, stopped(service)),
        refused("FAILED_PRECONDITION", "CGROUP_NOT_OURS"),
    ):
        service.remove(ID)
    service.remove(ID)
    assert service.leaks() == []


@pytest.mark.parametrize("name", ["container", "conmon"])
def test_a_process_where_a_container_would_be_made_lives_on(service: Service, name: str) -> None:
    service.run(container_id="other")
    path = service.status("other").cgroup_path.removesuffix("container-other")
    with kept_process(service, f"{path}{name}-{ID}"):
        with refused("ALREADY_EXISTS", "CGROUP_IN_USE"):
            service.create(container_id=ID)
        restart_after_death(service)
        assert service.ids() == ["other"]


def test_a_process_that_comes_where_a_container_is_being_made_lives_on_after_a_crash(
    start_service: StartService, faulty_runtimes: Runtimes, gate: Gate
) -> None:
    service = start_service(runtimes=faulty_runtimes)
    service.run(container_id="other")
    path = service.status("other").cgroup_path.removesuffix("other")
    request = CreateContainerRequest(
        config=service.config("true"), runtime_handler="gated", container_id=ID
    )
    call = service.wire.CreateContainer.future(request, timeout=LIMIT_S)
    gate.wait(Deadline(LIMIT_S))
    with kept_process(service, f"{path}{ID}"):
        restart_after_death(service)
        assert call.exception() is not None
        until(lambda: logged(service, "container.create_undone") == [ID])
        assert service.ids() == ["other"]
    until(lambda: not [each for each in service.leaks() if ID in each])


def test_a_directory_that_no_service_has_made_is_no_container(
    service: Service, strangers: Strangers
) -> None:
    directory = service.directory / "run/containers" / ID
    with strangers.have(ID):
        for content in (None, '{"linux": {"cgroupsPath": "/a/b"}}', '{"linux": []}', "{"):
            directory.mkdir()
            (directory / "kept").touch()
            if content is not None:
                (directory / "config.json").write_text(content)
            restart_after_death(service)
            assert logged(service, "directory.of_another", "name")[-1] == ID
            assert (directory / "kept").exists()
            assert service.ids() == []
            shutil.rmtree(directory)
    directory.mkdir()
    os.mkfifo(directory / "config.json")
    with refused("FAILED_PRECONDITION", "BUNDLE_EXISTS") as refusal:
        service.create(container_id=ID)
    assert refusal.metadata["path"] == str(directory)
    restart_after_death(service)
    assert directory.exists()
    shutil.rmtree(directory)


def test_what_the_store_has_lost_is_removed_but_not_another_of_its_id(
    service: Service, strangers: Strangers
) -> None:
    service.run(container_id=ID)
    bundle = service.directory / "run/containers" / ID
    spec = (bundle / "config.json").read_text()
    service.remove(ID, force=True)
    with (
        strangers.have(ID),
        kept_process(service, f"{service.cgroup_parent}/ocigrpc-container-{ID}"),
    ):
        bundle.mkdir()
        (bundle / "config.json").write_text(spec)
        restart_after_death(service)
        until(lambda: not bundle.exists())
        assert logged(service, "container.orphan_found") == [ID]
        until(lambda: service.ids() == [])


def test_a_frozen_process_in_a_cgroup_of_the_name_of_what_the_store_has_lost_stays_frozen(
    start_service: StartService,
) -> None:
    service = start_service()
    service.run(container_id=ID)
    bundle = service.directory / "run/containers" / ID
    spec = (bundle / "config.json").read_text()
    path = service.status(ID).cgroup_path
    service.remove(ID, force=True)
    group = Hierarchies.detect().group(path)
    with kept_process(service, path):
        group.freeze(Deadline(LIMIT_S))
        try:
            bundle.mkdir()
            (bundle / "config.json").write_text(spec)
            restart_after_death(service)
            until(lambda: not bundle.exists())
            assert logged(service, "cgroup.of_another", "path") == [path]
            assert group.frozen()
        finally:
            group.thaw()


def start_scope(service: Service, unit: str, slice_name: str) -> subprocess.Popen[bytes]:
    argv = ["systemd-run", "--scope", f"--unit={unit}", f"--slice={slice_name}", "sleep", "1000"]
    return subprocess.Popen(
        service.host.command(argv), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.mark.parametrize("name", ["container", "conmon"])
@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("_service_of_kind", ["systemd-runc"], indirect=True)
def test_a_scope_that_has_the_name_of_a_containers_lives_on(
    any_service: Service, name: str, beside: bool
) -> None:
    service = any_service
    unit = f"ocigrpc-{name}-{ID}.scope"
    slice_name = service.cgroup_parent if beside else "strangers.slice"
    with start_scope(service, unit, slice_name) as scope:
        (root,) = service.host.cgroup_roots
        directory = root / slice_name / unit
        until(lambda: bool(pids_in(directory)))
        with refused("ALREADY_EXISTS", "CGROUP_IN_USE"):
            service.create(container_id=ID)
        restart_after_death(service)
        assert service.ids() == []
        assert scope.poll() is None
        assert pids_in(directory)
        scope.terminate()
    until(lambda: not directory.exists())


@pytest.mark.parametrize("_service_of_kind", ["systemd-runc"], indirect=True)
def test_a_scope_that_has_taken_the_name_of_one_that_has_ended_lives_on(
    any_service: Service,
) -> None:
    service = any_service
    service.run(container_id=ID)
    service.stop(ID, 0)
    path = service.status(ID).cgroup_path
    (root,) = service.host.cgroup_roots
    directory = Path(f"{root}{path}")
    until(lambda: not directory.exists())
    with start_scope(service, directory.name, service.cgroup_parent) as scope:
        until(lambda: bool(pids_in(directory)))
        service.stop(ID, 0)
        with refused("FAILED_PRECONDITION", "CGROUP_NOT_OURS"):
            service.remove(ID)
        assert scope.poll() is None
        scope.terminate()
    until(lambda: not directory.exists())
    service.remove(ID)
