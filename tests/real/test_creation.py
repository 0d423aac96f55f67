"""CreateContainer: its sources, its promises on repetition, and what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ocigrpc.host.cgroups.hierarchy import Hierarchies, Kind
from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.bundles.bundle import make_bundle, spec_json
from tests.bed.clients.refusal import refused
from tests.bed.services.service import Fields, Service

SAY_HELLO = ("/bin/sh", "-c", "echo hello; exit 5")


def life(service: Service, request: CreateContainerRequest) -> tuple[int, list[str]]:
    """The exit code and output of the container of a request."""
    container_id = service.client.create_container(request).container_id
    service.start_container(container_id)
    return service.wait(container_id).exit_code, service.output(container_id)


def snapshot(directory: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in directory.rglob("*"))


def test_a_bundle_is_run_and_not_written_to(service: Service, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", SAY_HELLO)
    before = snapshot(bundle)
    assert life(service, CreateContainerRequest(bundle_path=str(bundle))) == (5, ["hello"])
    assert snapshot(bundle) == before
    (container_id,) = service.ids()
    assert service.status(container_id).bundle_path != str(bundle)


def test_one_bundle_serves_many_containers(service: Service, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", SAY_HELLO)
    request = CreateContainerRequest(bundle_path=str(bundle))
    with ThreadPoolExecutor(3) as pool:
        lives = list(pool.map(lambda _: life(service, request), range(3)))
    assert lives == [(5, ["hello"])] * 3


def test_a_spec_is_run(service: Service) -> None:
    request = CreateContainerRequest(spec_json=spec_json(service.rootfs, SAY_HELLO))
    assert life(service, request) == (5, ["hello"])


def test_a_spec_may_not_choose_its_cgroup(service: Service) -> None:
    spec = json.loads(spec_json(service.rootfs, SAY_HELLO))
    spec["linux"]["cgroupsPath"] = "/somewhere/else"
    request = CreateContainerRequest(spec_json=json.dumps(spec), container_id="mine")
    service.client.create_container(request)
    path = f"{service.cgroup_parent}/ocigrpc-container-mine"
    assert service.status("mine").cgroup_path == path
    assert path in Path(f"/proc/{service.status('mine').pid}/cgroup").read_text()


def test_the_cgroup_parent_of_a_request_is_used_and_kept(service: Service) -> None:
    parent = f"{service.cgroup_parent}/nested"
    directories = [Path(f"{root}{parent}") for root in service.host.cgroup_roots]
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
    container_id = service.create(cgroup_parent=parent).container_id
    pid = service.status(container_id).pid
    assert f"{parent}/ocigrpc-container-{container_id}" in Path(f"/proc/{pid}/cgroup").read_text()
    service.remove(container_id)
    for directory in directories:
        # Which also shows that it is there and empty.
        directory.rmdir()


def test_cgroup_parents_that_were_missing_go_with_the_last_container(service: Service) -> None:
    parent = f"{service.cgroup_parent}/made/nested"
    top = [Path(f"{root}{service.cgroup_parent}/made") for root in service.host.cgroup_roots]
    first = service.create(cgroup_parent=parent).container_id
    second = service.create(cgroup_parent=parent).container_id
    service.remove(first)
    assert any(directory.exists() for directory in top)
    service.remove(second)
    assert not any(directory.exists() for directory in top)


def test_an_id_is_made_when_none_is_given(service: Service) -> None:
    first, second = service.create().container_id, service.create().container_id
    assert len(first) == len(second) == 64
    assert first != second


def test_an_id_that_was_made_is_in_the_line_of_its_request(service: Service) -> None:
    container_id = service.create().container_id
    *_, finished = (line for line in service.events() if line["event"] == "rpc.finished")
    lines = [each for each in service.events() if each.get("request_id") == finished["request_id"]]
    assert [line["event"] for line in lines] == ["container.created", "rpc.finished"]
    assert {line["container_id"] for line in lines} == {container_id}


def test_the_same_request_again_gives_the_same_answer_and_one_container(service: Service) -> None:
    first = service.create(container_id="same", labels={"a": "1"})
    assert service.create(container_id="same", labels={"a": "1"}) == first
    assert service.ids() == ["same"]


def test_many_of_the_same_request_at_once_make_one_container(service: Service) -> None:
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda _: service.create(container_id="same"), range(8)))
    assert {(each.container_id, each.pid) for each in created} == {("same", created[0].pid)}
    assert service.ids() == ["same"]


def test_a_repeated_request_is_answered_after_the_start_too(service: Service) -> None:
    first = service.create(container_id="same")
    service.start_container("same")
    assert service.create(container_id="same") == first
    assert service.state("same") == "running"


def test_a_log_that_is_in_the_way_is_refused_and_kept(service: Service) -> None:
    log = service.directory / "log/one.log"
    log.write_text("of somebody else\n")
    with refused("FAILED_PRECONDITION", "LOG_EXISTS") as refusal:
        service.create(container_id="one")
    assert refusal.metadata["path"] == str(log)
    assert log.read_text() == "of somebody else\n"
    log.unlink()
    service.create(container_id="one")


def test_an_id_that_another_request_has_taken_is_already_exists(service: Service) -> None:
    first = service.create(container_id="same")
    with refused("ALREADY_EXISTS", "CONTAINER_EXISTS") as refusal:
        service.create("true", container_id="same")
    assert refusal.metadata["container_id"] == "same"
    assert service.status("same").pid == first.pid


def test_a_name_that_another_container_has_is_already_exists(service: Service) -> None:
    service.create(container_id="one", name="web")
    with refused("ALREADY_EXISTS", "NAME_IN_USE") as refusal:
        service.create(container_id="two", name="web")
    assert refusal.metadata["name"] == "web"
    assert service.ids() == ["one"]


def test_the_id_and_name_of_a_removed_container_are_free_again(service: Service) -> None:
    service.create(container_id="one", name="web")
    service.remove("one")
    service.create("true", container_id="one", name="web")
    assert service.ids() == ["one"]


def _symlink(bundle: Path) -> None:
    bundle.rename(bundle.with_name("real"))
    bundle.symlink_to(bundle.with_name("real"))


def _config_symlink(bundle: Path) -> None:
    (bundle / "config.json").rename(bundle / "real.json")
    (bundle / "config.json").symlink_to("real.json")


def _config_fifo(bundle: Path) -> None:
    (bundle / "config.json").unlink()
    os.mkfifo(bundle / "config.json")


def _config_huge(bundle: Path) -> None:
    os.truncate(bundle / "config.json", 100_000_000)


def _config_missing(bundle: Path) -> None:
    (bundle / "config.json").unlink()


def _config_cut(bundle: Path) -> None:
    os.truncate(bundle / "config.json", 100)


def _rootfs_missing(bundle: Path) -> None:
    (bundle / "rootfs").rename(bundle / "elsewhere")


def _rootfs_symlink(bundle: Path) -> None:
    _rootfs_missing(bundle)
    (bundle / "rootfs").symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_symlink, "INVALID_BUNDLE"),
        (_config_symlink, "INVALID_BUNDLE"),
        (_config_fifo, "INVALID_BUNDLE"),
        (_config_huge, "INVALID_BUNDLE"),
        (_config_missing, "INVALID_BUNDLE"),
        (_config_cut, "INVALID_SPEC"),
        (_rootfs_missing, "INVALID_SPEC"),
        (_rootfs_symlink, "INVALID_SPEC"),
    ],
)
def test_a_spoiled_bundle_is_refused_and_leaves_nothing(
    service: Service, tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    bundle = make_bundle(tmp_path / "bundle", SAY_HELLO)
    spoil(bundle)
    request = CreateContainerRequest(bundle_path=str(bundle), container_id="one")
    with refused("INVALID_ARGUMENT", reason) as refusal:
        service.client.create_container(request)
    assert refusal.fields == ["bundle_path"]
    assert service.ids() == []
    assert service.leaks() == []


def test_a_config_whose_rootfs_is_missing_is_refused(service: Service) -> None:
    request = CreateContainerRequest()
    request.config.rootfs_path = "/no/such/rootfs"
    request.config.command.append("/bin/true")
    with refused("INVALID_ARGUMENT") as refusal:
        service.client.create_container(request)
    assert refusal.fields == ["config.rootfs_path"]
    assert service.leaks() == []


@pytest.mark.parametrize("container_id", ["a/b", "..", "a\nb", "-a", "x" * 4096, "a b"])
def test_a_hostile_id_is_refused(service: Service, container_id: str) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_CONTAINER_ID") as refusal:
        service.create(container_id=container_id)
    assert refusal.fields == ["container_id"]
    assert service.leaks() == []


def test_an_unknown_runtime_handler_is_refused(service: Service) -> None:
    with refused("INVALID_ARGUMENT", "UNKNOWN_RUNTIME_HANDLER") as refusal:
        service.create(runtime_handler="kata")
    assert refusal.fields == ["runtime_handler"]


def test_no_two_containers_write_to_one_log_by_whatever_name(
    service: Service, tmp_path: Path
) -> None:
    logs, other = tmp_path / "logs", tmp_path / "other"
    logs.mkdir()
    other.symlink_to(logs)
    first = service.create(log_path=f"{logs}/0.log").container_id
    os.link(logs / "0.log", logs / "hard.log")
    spellings = ["0.log", "hard.log", "../logs/0.log", "./0.log", "/0.log"]
    for path in [*(f"{logs}/{name}" for name in spellings), f"{other}/0.log"]:
        with refused("ALREADY_EXISTS", "LOG_PATH_IN_USE") as refusal:
            service.create(log_path=path)
        assert refusal.metadata["container_id"] == first, path
    service.remove(first, force=True)
    service.create(log_path=f"{other}/0.log")


def test_no_container_writes_to_a_log_of_the_services_own_nor_to_what_that_is_rotated_to(
    service: Service,
) -> None:
    first = service.create(container_id="first").container_id
    log_path = service.status(first).log_path
    for path in (log_path, f"{log_path}.1"):
        with refused("ALREADY_EXISTS", "LOG_PATH_IN_USE"):
            service.create(log_path=path)
    chosen = service.create(log_path=f"{Path(log_path).parent}/second.log.2").container_id
    with refused("ALREADY_EXISTS", "LOG_PATH_IN_USE") as refusal:
        service.create(container_id="second")
    assert refusal.metadata["container_id"] == chosen
    service.remove(chosen, force=True)
    Path(log_path).with_name("second.log.2").unlink()


def test_the_logs_of_containers_are_known_after_a_restart(service: Service, tmp_path: Path) -> None:
    service.create(log_path=f"{tmp_path}/0.log")
    service.end()
    service.start()
    with refused("ALREADY_EXISTS", "LOG_PATH_IN_USE"):
        service.create(log_path=f"{tmp_path}/0.log")


def test_files_of_cgroup2_are_refused_where_an_update_refuses_them(service: Service) -> None:
    unified = {"memory.high": "10000000"}
    config = service.config("true")
    config.resources.unified.update(unified)
    spec = json.loads(spec_json(service.rootfs, SAY_HELLO))
    spec["linux"]["resources"] = {"unified": unified}
    for request, field in (
        (CreateContainerRequest(config=config), "config.resources.unified"),
        (CreateContainerRequest(spec_json=json.dumps(spec)), "spec_json"),
    ):
        if Hierarchies.detect().kind is not Kind.V2:
            with refused("INVALID_ARGUMENT", "NOT_APPLICABLE") as refusal:
                service.client.create_container(request)
            assert refusal.fields == [field]
        else:
            service.client.create_container(request)


def test_a_name_stands_for_the_id_in_every_request(any_service: Service) -> None:
    name = "n" * 200
    container_id = any_service.create("exec sleep 1000", name=name, stdin=True).container_id
    any_service.start_container(name)
    any_service.pause(name)
    any_service.resume(name)
    assert any_service.status(name).container_id == container_id
    assert "state" in any_service.info(name)
    assert any_service.client.exec_sync(name, ["echo", "here"]).stdout == b"here\n"
    any_service.stop(name, 0)
    assert any_service.wait(name).exit_code == 137
    any_service.remove(name)
    assert any_service.ids() == []


def test_no_id_or_name_means_two_containers(service: Service) -> None:
    service.create(container_id="one", name="uno")
    for fields, key in (
        (Fields(container_id="uno"), "uno"),
        (Fields(container_id="two", name="one"), "one"),
        (Fields(container_id="two", name="uno"), "uno"),
    ):
        with refused("ALREADY_EXISTS", "NAME_IN_USE") as refusal:
            service.create(**fields)
        assert refusal.metadata["name"] == key
        assert refusal.metadata["container_id"] == "one"
    service.create(container_id="two", name="two")
    assert service.ids() == ["one", "two"]
