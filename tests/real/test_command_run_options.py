"""What options of ``run`` give a program: file systems, namespaces, limits and the like."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.bed.clients.command import Command
from tests.bed.services.service import Service


@pytest.fixture
def command(service: Service) -> Command:
    return Command(service)


@pytest.fixture
def run(service: Service) -> list[str]:
    """The words with which each run begins."""
    return ["run", "--rm", "--rootfs", str(service.rootfs)]


def options_of(mount_point: str, mounts: list[str]) -> set[str]:
    """The options of a mount, in lines of /proc/mounts; with its type."""
    found = [line.split() for line in mounts]
    _, _, kind, options, *_ = next(each for each in found if each[1] == mount_point)
    return {kind, *options.split(",")}


@pytest.mark.parametrize(
    ("words", "mount_point", "some", "none"),
    [
        (
            ["--tmpfs", "/mnt"],
            "/mnt",
            {"tmpfs", "rw", "nosuid", "nodev", "noexec"},
            set(),
        ),
        (
            ["--tmpfs", "/mnt:size=64k,mode=700,exec"],
            "/mnt",
            {"tmpfs", "nosuid", "nodev", "size=64k", "mode=700"},
            {"noexec"},
        ),
        (
            ["--mount", "type=tmpfs,target=/mnt,tmpfs-size=64k,tmpfs-mode=700,ro"],
            "/mnt",
            {"tmpfs", "ro", "noexec", "size=64k", "mode=700"},
            set(),
        ),
        (["--shm-size", "2m"], "/dev/shm", {"tmpfs", "size=2048k", "noexec"}, set()),
    ],
)
def test_a_file_system_in_memory(
    command: Command,
    run: list[str],
    words: list[str],
    mount_point: str,
    some: set[str],
    none: set[str],
) -> None:
    found = options_of(mount_point, command.lines(*run, *words, "cat", "/proc/mounts"))
    assert some <= found
    assert not none & found


def test_a_bind_mount_in_pairs(command: Command, run: list[str], tmp_path: Path) -> None:
    # A comma is the only character that pairs can't have.
    source = tmp_path / "a:b=c"
    source.mkdir()
    (source / "it").write_text("here\n")
    pairs = f"type=bind,src={source},dst=/mnt"
    script = "cat /mnt/it; echo more 2>/dev/null >/mnt/more && echo written"
    assert command.lines(*run, "--mount", pairs, "sh", "-c", script) == ["here", "written"]
    done = command(*run, "--mount", f"{pairs},readonly", "sh", "-c", script)
    assert done.stdout == "here\n"
    refused = command.refusal(*run, "--mount", f"{pairs},colour=red", "true", status=125)
    assert "colour" in refused


@pytest.mark.parametrize("kind", ["pid", "ipc", "uts", "cgroup", "net"])
def test_a_namespace_is_the_hosts_or_one_at_a_path(
    command: Command, run: list[str], kind: str
) -> None:
    option = {"cgroup": "--cgroupns", "net": "--network"}.get(kind, f"--{kind}")
    look = ["readlink", f"/proc/self/ns/{kind}"]
    ours = os.readlink(f"/proc/self/ns/{kind}")
    assert command.lines(*run, *look) != [ours]
    assert command.lines(*run, option, "host", *look) == [ours]
    path = f"ns:/proc/{os.getpid()}/ns/{kind}"
    assert command.lines(*run, option, path, *look) == [ours]


def test_limits_groups_and_parameters_are_the_programs(command: Command, run: list[str]) -> None:
    words = [
        *("--ulimit", "nofile=100:200", "--ulimit", "core=0"),
        *("--group-add", "4321", "--group-add", "4322", "--oom-score-adj", "123"),
        *("--sysctl", "kernel.msgmax=4096"),
    ]
    script = (
        "ulimit -Sn; ulimit -Hn; ulimit -c; id -G; cat /proc/self/oom_score_adj"
        " /proc/sys/kernel/msgmax"
    )
    soft, hard, core, groups, score, size = command.lines(*run, *words, "sh", "-c", script)
    assert (soft, hard, core, score, size) == ("100", "200", "0", "123", "4096")
    assert {"4321", "4322"} <= set(groups.split())


def test_a_rule_allows_devices_that_the_program_makes(command: Command, run: list[str]) -> None:
    words = ["--tmpfs", "/mnt:dev", "--cap-add", "mknod"]
    # A number for experiments, which has no driver: the cgroup is asked before the driver is.
    script = "mknod /mnt/it c 240 77 && (: </mnt/it) 2>&1"
    rule = ["--device-cgroup-rule", "c 240:* rwm"]
    assert "No such device" in command(*run, *words, *rule, "sh", "-c", script).stdout
    assert "not permitted" in command(*run, *words, "sh", "-c", script).stdout


def test_annotations_and_the_parent_of_its_cgroup_are_the_containers(
    service: Service, command: Command
) -> None:
    parent = f"{service.cgroup_parent}/nested"
    words = ["create", "--name", "web", "--annotation", "a=b", "--annotation", "empty="]
    words += ["--cgroup-parent", parent]
    command.lines(*words, "--rootfs", str(service.rootfs), "true")
    [found] = json.loads("".join(command.lines("inspect", "web")))
    assert found["status"]["annotations"] == {"a": "b", "empty": ""}
    assert found["status"]["cgroup_path"].startswith(f"{parent}/")


def test_without_options_all_is_as_before(command: Command, run: list[str]) -> None:
    mounts = command.lines(*run, "cat", "/proc/mounts")
    assert {"size=65536k", "noexec"} <= options_of("/dev/shm", mounts)
    assert command.lines(*run, "cat", "/proc/self/oom_score_adj") == ["0"]
