"""Cgroups of the kernel: as this host has them, and on a cgroup v2 host."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from ocigrpc.errors import Cancelled, CgroupFailed, Timeout
from ocigrpc.host.cgroups import kill as cgroup_kill
from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.hierarchy import Hierarchies, Kind
from ocigrpc.waiting import Deadline
from tests.bed.hosts.host import Host, cgroup2_host, native

LIMIT_S = 20.0
SLEEP = ["sleep", "1000"]


@pytest.fixture(scope="module", params=[native, cgroup2_host])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with request.param() as host:
        yield host


@pytest.fixture(scope="module")
def hierarchies(host: Host) -> Hierarchies:
    """What the host detects, by names that are good here."""
    if host.name == "native":
        return Hierarchies.detect()
    (root,) = host.cgroup_roots
    mountinfo = host.command(["cat", "/proc/self/mountinfo"])
    found = Hierarchies.parse(subprocess.check_output(mountinfo, text=True))
    (only,) = found.all
    seen = msgspec.structs.replace(only, mount_point=str(root))
    return msgspec.structs.replace(found, all=(seen,))


@pytest.fixture
def group(hierarchies: Hierarchies) -> Iterator[Cgroup]:
    """A group that does not exist yet, below a parent that does not either."""
    parent = hierarchies.group(f"/ocigrpc-test-{secrets.token_hex(4)}")
    yield hierarchies.group(f"{parent.path}/group")
    parent.thaw()
    parent.kill(Deadline(LIMIT_S))
    parent.remove(Deadline(LIMIT_S))
    assert not parent.exists()


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a program in groups; it is reaped at the end, and killed if need be."""
    with ExitStack() as stack:

        def start(argv: list[str], *groups: Cgroup, ready: bytes = b"") -> subprocess.Popen[bytes]:
            # It waits for a line, so that nothing of it happens before it is in its group.
            gate = ["sh", "-c", 'read go && exec "$@"', "sh", *argv]
            process = subprocess.Popen(gate, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.callback(_end, process)
            for group in groups:
                group.add(process.pid)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
            if ready:
                Deadline(LIMIT_S).wait(process.stdout.fileno())
                assert process.stdout.readline().strip() == ready
            return process

        yield start


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()
    # Not for ever: one that is frozen does not end.
    process.wait(LIMIT_S)


def directories(hierarchies: Hierarchies, group: Cgroup) -> list[Path]:
    return [Path(hierarchy.mount_point + group.path) for hierarchy in hierarchies.all]


def freezer(hierarchies: Hierarchies, group: Cgroup) -> tuple[Path, str]:
    """The file that freezes the group, and what to write there."""
    for hierarchy in hierarchies.all:
        if "freezer" in hierarchy.controllers:
            return Path(hierarchy.mount_point + group.path) / "freezer.state", "FROZEN"
    (unified,) = (hierarchy for hierarchy in hierarchies.all if hierarchy.unified)
    return Path(unified.mount_point + group.path) / "cgroup.freeze", "1"


def freeze(hierarchies: Hierarchies, group: Cgroup) -> None:
    file, word = freezer(hierarchies, group)
    file.write_text(word)


def test_the_host_detects_its_own_kind(host: Host) -> None:
    module = "ocigrpc.host.cgroups.hierarchy"
    code = f"from {module} import Hierarchies; print(Hierarchies.detect().kind)"
    output = subprocess.check_output(host.command([sys.executable, "-c", code]), text=True)
    if host.name == "cgroup2":
        assert output.strip() == Kind.V2
    else:
        mounted = Path("/proc/self/mounts").read_text()
        assert (output.strip() == Kind.V2) == (" cgroup " not in mounted)


def test_create_makes_the_group_in_every_hierarchy(hierarchies: Hierarchies, group: Cgroup) -> None:
    assert group.create() is True
    assert all(directory.is_dir() for directory in directories(hierarchies, group))
    assert group.exists()


def test_create_of_what_is_there_says_so(group: Cgroup) -> None:
    group.create()
    assert group.create() is False


def test_create_that_fails_leaves_nothing(hierarchies: Hierarchies, group: Cgroup) -> None:
    parent = hierarchies.group(os.path.dirname(group.path))
    parent.create()
    (unified,) = (hierarchy for hierarchy in hierarchies.all if hierarchy.unified)
    limit = Path(unified.mount_point + parent.path) / "cgroup.max.descendants"
    limit.write_text("0")
    with pytest.raises(CgroupFailed) as caught:
        group.create()
    assert caught.value.metadata["path"] == unified.mount_point + group.path
    assert caught.value.metadata["error"] == os.strerror(11)
    assert not group.exists()


def test_add_moves_the_process_in_every_hierarchy(
    hierarchies: Hierarchies, group: Cgroup, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    group.create()
    process = start(SLEEP, group)
    for directory in directories(hierarchies, group):
        assert (directory / "cgroup.procs").read_text().split() == [str(process.pid)]
    assert hierarchies.group_of(process.pid) == group.path


def test_add_of_a_process_that_ended_names_the_file(group: Cgroup) -> None:
    group.create()
    with subprocess.Popen(["true"]) as ended:
        pass
    with pytest.raises(CgroupFailed) as caught:
        group.add(ended.pid)
    assert caught.value.metadata["path"].endswith(f"{group.path}/cgroup.procs")
    assert caught.value.metadata["error"] == os.strerror(3)


def test_group_of_a_process_that_ended(hierarchies: Hierarchies) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    with pytest.raises(ProcessLookupError):
        hierarchies.group_of(ended.pid)


def test_members_are_those_of_nested_groups_too(
    hierarchies: Hierarchies, group: Cgroup, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    nested = hierarchies.group(f"{group.path}/a/b")
    nested.create()
    assert group.members() == []
    assert not group.populated()
    processes = [start(SLEEP, group), start(SLEEP, nested)]
    assert group.members() == sorted(process.pid for process in processes)
    assert nested.members() == [processes[1].pid]
    assert group.populated()


def test_frozen_follows_what_is_written_by_hand(
    hierarchies: Hierarchies, group: Cgroup, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    assert group.frozen() is None
    group.create()
    start(SLEEP, group)
    assert group.frozen() is False
    freeze(hierarchies, group)
    assert group.frozen() is True
    group.thaw()
    assert group.frozen() is False


def test_a_group_in_a_frozen_one_is_frozen(hierarchies: Hierarchies, group: Cgroup) -> None:
    nested = hierarchies.group(f"{group.path}/nested")
    nested.create()
    assert nested.frozen() is False
    freeze(hierarchies, group)
    assert nested.frozen() is True


def test_frozen_is_what_the_group_is_that_was_made_in_the_place_of_another(
    hierarchies: Hierarchies, group: Cgroup
) -> None:
    group.create()
    assert group.frozen() is False
    group.remove(Deadline(LIMIT_S))
    assert group.frozen() is None
    group.create()
    freeze(hierarchies, group)
    assert group.frozen() is True
    group.remove(Deadline(LIMIT_S))
    group.create()
    assert group.frozen() is False


def test_frozen_holds_two_descriptors_at_most_from_when_it_is_told_to_until_it_is_let_go(
    group: Cgroup,
) -> None:
    group.create()
    before = os.listdir("/proc/self/fd")
    assert group.frozen() is False
    assert os.listdir("/proc/self/fd") == before
    group.hold()
    assert [group.frozen() for _ in range(9)] == [False] * 9
    assert 1 <= len(os.listdir("/proc/self/fd")) - len(before) <= 2
    group.remove(Deadline(LIMIT_S))
    assert group.frozen() is None
    group.create()
    assert [group.frozen() for _ in range(9)] == [False] * 9
    assert 1 <= len(os.listdir("/proc/self/fd")) - len(before) <= 2
    group.release()
    assert os.listdir("/proc/self/fd") == before
    assert group.frozen() is False
    assert os.listdir("/proc/self/fd") == before


def test_thaw_reaches_nested_groups(hierarchies: Hierarchies, group: Cgroup) -> None:
    nested = hierarchies.group(f"{group.path}/nested")
    nested.create()
    freeze(hierarchies, nested)
    freeze(hierarchies, group)
    group.thaw()
    assert nested.frozen() is False


def test_thaw_of_a_group_that_is_gone_is_fine(group: Cgroup) -> None:
    group.thaw()
    assert not group.exists()


def test_kill_of_an_empty_or_missing_group_is_fine(group: Cgroup) -> None:
    group.kill(Deadline(0))
    group.create()
    group.kill(Deadline(0))
    assert group.exists()


SETSID = """
trap '' TERM INT HUP
for i in 1 2 3; do setsid sh -c 'sleep 1000 & setsid sleep 1000' & done
echo ready
wait
"""


def test_kill_takes_children_in_sessions_of_their_own(
    group: Cgroup, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    group.create()
    process = start(["sh", "-c", SETSID], group, ready=b"ready")
    group.kill(Deadline(LIMIT_S))
    assert group.members() == []
    assert process.wait(LIMIT_S) == -signal.SIGKILL


BOMB = """
import os, random, resource
# Bounded by the kernel, for a user that is not root; and for one that nobody else is, since
# the processes of a user are counted on the whole host.
resource.setrlimit(resource.RLIMIT_NPROC, (64, 64))
os.setuid((1 << 30) + os.getpid())
print("ready", flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
    # Pids come and go faster than anybody can read them.
    if random.random() < 0.4:
        os._exit(0)
    random.seed()
"""


@pytest.fixture
def _bomb(group: Cgroup, start: Callable[..., subprocess.Popen[bytes]]) -> None:
    """Processes that never stop forking and ending, in the group."""
    group.create()
    start([sys.executable, "-I", "-S", "-c", BOMB], group, ready=b"ready")
    assert group.populated()


@pytest.mark.usefixtures("_bomb")
def test_kill_ends_what_never_stops_forking(group: Cgroup) -> None:
    group.kill(Deadline(LIMIT_S))
    assert group.members() == []


@pytest.mark.usefixtures("_bomb")
def test_kill_by_pidfd_ends_what_never_stops_forking(group: Cgroup) -> None:
    cgroup_kill.kill_by_pidfd(group.groups, Deadline(LIMIT_S))
    assert group.members() == []


MANY = """
import os, signal, sys
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        break
else:
    print("ready", flush=True)
signal.pause()
"""


def test_kill_of_more_processes_than_pidfds_are_held_for(
    group: Cgroup, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    group.create()
    count = 300
    start([sys.executable, "-I", "-S", "-c", MANY, str(count)], group, ready=b"ready")
    assert len(group.members()) == count + 1
    cgroup_kill.kill_by_pidfd(group.groups, Deadline(LIMIT_S))
    assert group.members() == []


@pytest.mark.parametrize("kill", [cgroup_kill.kill, cgroup_kill.kill_by_pidfd])
def test_kill_of_frozen_groups_nested_in_a_frozen_one(
    hierarchies: Hierarchies,
    group: Cgroup,
    start: Callable[..., subprocess.Popen[bytes]],
    kill: Callable[..., None],
) -> None:
    nested = hierarchies.group(f"{group.path}/nested")
    nested.create()
    processes = [start(SLEEP, group), start(SLEEP, nested)]
    freeze(hierarchies, nested)
    freeze(hierarchies, group)
    kill(group.groups, Deadline(LIMIT_S))
    assert [process.wait(LIMIT_S) for process in processes] == [-signal.SIGKILL] * 2
    assert group.members() == []


@pytest.mark.parametrize("host", [native], indirect=True)
def test_kill_says_timeout_when_a_member_outlives_the_deadline(
    hierarchies: Hierarchies, group: Cgroup, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    if hierarchies.kind == Kind.V2:
        pytest.skip("needs a cgroup v1 freezer: v2 has no way to make an unkillable process")
    group.create()
    process = start(SLEEP, group)
    # The parent is not the group's to thaw, and a frozen v1 process takes no signal.
    parent = hierarchies.group(os.path.dirname(group.path))
    freeze(hierarchies, parent)
    with pytest.raises(Timeout) as caught:
        group.kill(Deadline(0.3))
    assert caught.value.metadata == {"path": group.path, "pids": str(process.pid)}
    assert process.poll() is None
    parent.thaw()


def test_kill_refuses_to_kill_the_service_itself(host: Host, group: Cgroup) -> None:
    code = """
import os, sys
from ocigrpc.waiting import Deadline
from ocigrpc.errors import CgroupFailed
from ocigrpc.host.cgroups.hierarchy import Hierarchies
group = Hierarchies.detect().group(sys.argv[1])
group.create()
group.add(os.getpid())
try:
    group.kill(Deadline(1))
except CgroupFailed as error:
    print(error.reason)
"""
    argv = host.command([sys.executable, "-c", code, group.path])
    assert subprocess.check_output(argv, text=True).strip() == "CGROUP_OWN"


def test_remove_takes_nested_groups_everywhere(hierarchies: Hierarchies, group: Cgroup) -> None:
    hierarchies.group(f"{group.path}/a/b").create()
    hierarchies.group(f"{group.path}/c").create()
    group.remove(Deadline(LIMIT_S))
    assert not group.exists()


def test_remove_of_a_missing_group_is_fine(group: Cgroup) -> None:
    group.remove(Deadline(0))
    assert not group.exists()


def test_remove_follows_no_symbolic_link(tmp_path: Path) -> None:
    mountinfo = f"29 22 0:26 / {tmp_path}/top rw - cgroup2 cgroup2 rw\n"
    (tmp_path / "top/group/nested").mkdir(parents=True)
    (tmp_path / "other/kept").mkdir(parents=True)
    (tmp_path / "top/group/link").symlink_to(tmp_path / "other")
    with pytest.raises(Timeout):
        Hierarchies.parse(mountinfo).group("/group").remove(Deadline(0))
    assert (tmp_path / "other/kept").is_dir()


def test_remove_of_a_group_with_a_live_member_says_timeout(
    group: Cgroup, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    group.create()
    process = start(SLEEP, group)
    with pytest.raises(Timeout) as caught:
        group.remove(Deadline(0.1))
    assert caught.value.metadata == {"path": group.path, "pids": str(process.pid)}


def test_remove_waits_for_the_last_member_to_end(
    group: Cgroup, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    group.create()
    process = start(["cat"], group)
    assert process.stdin is not None
    # By the end of its input, which comes some time after remove has begun.
    timer = threading.Timer(0.05, process.stdin.close)
    timer.start()
    group.remove(Deadline(LIMIT_S))
    timer.join()
    assert not group.exists()
    assert process.wait(LIMIT_S) == 0


def test_remove_ends_when_the_caller_goes(
    group: Cgroup, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    group.create()
    start(SLEEP, group)
    deadline = Deadline(LIMIT_S)
    deadline.cancel()
    with pytest.raises(Cancelled):
        group.remove(deadline)
    assert group.exists()


def test_a_hundred_short_lives_leave_nothing(
    hierarchies: Hierarchies, group: Cgroup, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    parent = os.path.dirname(group.path)
    for number in range(100):
        one = hierarchies.group(f"{parent}/{number}")
        one.create()
        start(SLEEP, one)
        one.kill(Deadline(LIMIT_S))
        # Right after the death, when the kernel may still say that it is busy.
        one.remove(Deadline(LIMIT_S))
        assert not one.exists()


def test_remove_if_empty_leaves_a_parent_in_use(hierarchies: Hierarchies, group: Cgroup) -> None:
    parent = hierarchies.group(os.path.dirname(group.path))
    group.create()
    parent.remove_if_empty()
    assert group.exists()
    group.remove(Deadline(LIMIT_S))
    parent.remove_if_empty()
    assert not parent.exists()


def test_oom_kills_are_counted_in_nested_groups_too(
    hierarchies: Hierarchies, group: Cgroup, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    nested = hierarchies.group(f"{group.path}/nested")
    nested.create()
    limits = [
        directory / name
        for directory in directories(hierarchies, nested)
        for name in ("memory.limit_in_bytes", "memory.max")
        if (directory / name).exists()
    ]
    if not limits:
        # Another hierarchy holds the memory controller.
        assert group.oom_kills() is None
        return
    assert group.oom_kills() == 0
    limits[0].write_text(str(16 << 20))
    assert start(["tail", "/dev/zero"], nested).wait(LIMIT_S) == -signal.SIGKILL
    assert group.oom_kills() == 1


ACTS: dict[str, Callable[[Cgroup], object]] = {
    "signal": lambda group: group.signal(signal.SIGKILL),
    "kill": lambda group: group.kill(Deadline(LIMIT_S)),
    "end": lambda group: group.end(Deadline(LIMIT_S)),
    "thaw": Cgroup.thaw,
    "remove": lambda group: group.remove(Deadline(LIMIT_S)),
    "remove_if_empty": Cgroup.remove_if_empty,
}


@pytest.mark.parametrize("act", ACTS)
def test_another_group_of_the_name_of_one_that_is_pinned_is_not_touched(
    group: Cgroup, start: Callable[..., subprocess.Popen[bytes]], act: str
) -> None:
    group.create()
    pinned = group.pinned(group.identity())
    assert pinned.exists()
    group.remove(Deadline(LIMIT_S))
    assert pinned.replacing_members() == []
    group.create()
    process = start(SLEEP, group)
    freezable = (each for each in group.groups if each.freezable)
    min(freezable, key=lambda each: each.unified).set_frozen(True)
    ACTS[act](pinned)
    assert not pinned.exists()
    assert not pinned.populated()
    assert pinned.members() == []
    assert pinned.replacing_members() == [process.pid]
    assert group.frozen()
    with pytest.raises(CgroupFailed):
        pinned.add(process.pid)
    group.thaw()
    assert process.poll() is None


def test_processes_are_killed_where_the_group_cannot_be_removed(
    group: Cgroup,
    start: Callable[..., subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

    group.create()
    process = start(SLEEP, group)
    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", refuse)
        with pytest.raises(CgroupFailed):
            group.end(Deadline(LIMIT_S))
    assert process.wait(LIMIT_S) == -signal.SIGKILL


def test_a_group_of_another_boot_is_nobodys(group: Cgroup) -> None:
    group.create()
    identity = group.identity()
    assert group.pinned(identity).exists()
    assert not group.pinned(msgspec.structs.replace(identity, boot_id="another")).exists()


def test_a_pinned_group_is_one_in_every_hierarchy(group: Cgroup) -> None:
    group.create()
    pinned = group.pinned(group.identity())
    first, *others = group.groups
    Path(first.directory).rmdir()
    Path(first.directory).mkdir()
    assert [each.exists() for each in pinned.groups] == [False, *(True for _ in others)]
    pinned.remove(Deadline(LIMIT_S))
    assert [each.exists() for each in group.groups] == [True, *(False for _ in others)]
