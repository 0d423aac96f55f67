"""Users and groups, by files of a root filesystem that is not trusted."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.errors import InvalidArgument
from ocigrpc.host.files.regular import SIZE_LIMIT_BYTES
from ocigrpc.oci.spec.root_files import PlannedRoot
from ocigrpc.oci.spec.types import SpecMount
from ocigrpc.oci.spec.users import User, parse_group, parse_passwd, user_names, user_of
from ocigrpc.violations import Violations

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment
broken
alice:x:1001:1002::/home/alice:/bin/sh
alice:x:5:5::/:/bin/sh
huge:x:99999999999:1::/:/bin/sh
1001:x:7:7::/:/bin/sh
#4000:x:4000:9::/:/bin/sh
short:x:90:91
nogid:x:92
badgid:x:93:zz::/:/bin/sh
"""
GROUP = """\
root:x:0:
staff:x:1002:
players:x:1003:bob,alice
wheel:x:1004:alice
odd:x:y:alice
#no:x:66:alice
"""


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


def built(rootfs: Path, user: str, *supplemental: int, mounts: Sequence[SpecMount] = ()) -> User:
    violations = Violations()
    found = user_of(PlannedRoot(str(rootfs), mounts), user, supplemental, violations)
    violations.raise_any()
    return found


def who(uid: int, gid: int, *others: int) -> User:
    """A user with a primary group, and of other groups."""
    return User(uid, gid, (gid, *others))


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", who(0, 0)),
        ("0", who(0, 0)),
        ("root", who(0, 0)),
        ("alice", who(1001, 1002, 1003, 1004)),
        ("1001", who(1001, 1002, 1003, 1004)),
        ("alice:staff", who(1001, 1002)),
        ("alice:5", who(1001, 5)),
        ("4000", who(4000, 0)),
        ("4000:wheel", who(4000, 1004)),
        # As podman takes them: another group than the account's, or none but its own.
        ("alice:", who(1001, 1002)),
        ("1001:", who(1001, 1002)),
        ("4000:", who(4000, 0)),
        (":1004", who(0, 1004)),
        (":staff", who(0, 1002)),
        (":", who(0, 0)),
        ("short", who(90, 91)),
        ("01001", who(1001, 1002, 1003, 1004)),
        ("2147483647:2147483647", who(2147483647, 2147483647)),
    ],
)
def test_a_user(rootfs: Path, user: str, expected: User) -> None:
    assert built(rootfs, user) == expected


def test_supplemental_groups_follow_once_each(rootfs: Path) -> None:
    assert built(rootfs, "alice", 1004, 9, 9).groups == (1002, 1003, 1004, 9)


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ("bob", "USER_NOT_FOUND"),
        ("huge", "USER_NOT_FOUND"),
        ("-1", "USER_NOT_FOUND"),
        ("broken", "USER_NOT_FOUND"),
        (":nosuch", "GROUP_NOT_FOUND"),
        ("nogid", "ACCOUNTS_UNREADABLE"),
        ("92", "ACCOUNTS_UNREADABLE"),
        ("badgid", "ACCOUNTS_UNREADABLE"),
        ("93:", "ACCOUNTS_UNREADABLE"),
        ("alice:odd", "GROUP_NOT_FOUND"),
        ("alice:a:b", "GROUP_NOT_FOUND"),
        ("2147483648", "OUT_OF_RANGE"),
        ("9" * 10_000, "OUT_OF_RANGE"),
        ("0:2147483648", "OUT_OF_RANGE"),
    ],
)
def test_a_wrong_user_is_refused(rootfs: Path, user: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        built(rootfs, user)
    assert caught.value.reason == reason
    assert [each.field for each in caught.value.violations] == ["config.user"]


def test_a_wrong_supplemental_group_is_refused(rootfs: Path) -> None:
    with pytest.raises(InvalidArgument) as caught:
        built(rootfs, "", 1, 2147483648)
    assert caught.value.violations[0].field == "config.supplemental_groups[1]"


def test_numbers_need_no_files(tmp_path: Path) -> None:
    assert built(tmp_path, "12:13", 14) == who(12, 13, 14)
    assert built(tmp_path, "12") == who(12, 0)


def make_loop(place: Path) -> None:
    place.symlink_to(place.name)


def make_fifo(place: Path) -> None:
    os.mkfifo(place)


def make_device(place: Path) -> None:
    os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 5))


def make_large(place: Path) -> None:
    place.write_text("root:x:0:0:::\n")
    os.truncate(place, SIZE_LIMIT_BYTES + 1)


UNREADABLE = [make_loop, make_fifo, make_device, make_large, Path.mkdir]


@pytest.mark.parametrize("user", ["", "root", "0", "7", "7:", "root:0"])
@pytest.mark.parametrize("make", UNREADABLE)
def test_a_passwd_that_cannot_be_read_is_an_error_for_numbers_too(
    tmp_path: Path, make: Callable[[Path], None], user: str
) -> None:
    (tmp_path / "etc").mkdir()
    make(tmp_path / "etc/passwd")
    assert refusal(tmp_path, user) == "ACCOUNTS_UNREADABLE"


@pytest.mark.parametrize("user", ["", "alice", "1001", "1001:staff", ":staff"])
@pytest.mark.parametrize("make", UNREADABLE)
def test_a_group_file_that_cannot_be_read_is_an_error(
    rootfs: Path, make: Callable[[Path], None], user: str
) -> None:
    (rootfs / "etc/group").unlink()
    make(rootfs / "etc/group")
    assert refusal(rootfs, user) == "ACCOUNTS_UNREADABLE"


def test_numbers_of_user_and_group_need_no_look_up(tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("etc")
    assert built(tmp_path, "7:8") == who(7, 8)
    assert refusal(tmp_path, "7") == "ACCOUNTS_UNREADABLE"


def refusal(rootfs: Path, user: str, *mounts: SpecMount) -> str:
    with pytest.raises(InvalidArgument) as caught:
        built(rootfs, user, mounts=mounts)
    assert [each.field for each in caught.value.violations] == ["config.user"]
    return caught.value.reason


ALICE = who(1001, 1002, 1003, 1004)


def moved(rootfs: Path, place: str) -> Path:
    """/etc of the root, moved to ``place`` in it."""
    (rootfs / place).parent.mkdir(parents=True, exist_ok=True)
    return (rootfs / "etc").rename(rootfs / place)


@pytest.mark.parametrize("user", ["alice", "1001"])
@pytest.mark.parametrize("target", ["/nix/store/x-etc", "nix/store/x-etc", "../../nix/store/x-etc"])
def test_a_link_is_followed_inside_the_root(rootfs: Path, target: str, user: str) -> None:
    moved(rootfs, "nix/store/x-etc")
    (rootfs / "etc").symlink_to(target)
    assert built(rootfs, user) == ALICE


@pytest.mark.parametrize("user", ["alice", "1001"])
def test_links_of_both_files_are_followed_inside_the_root(rootfs: Path, user: str) -> None:
    moved(rootfs, "nix/real")
    (rootfs / "nix/etc").symlink_to("/nix/real")
    (rootfs / "etc").mkdir()
    (rootfs / "etc/passwd").symlink_to("/nix/etc/passwd")
    (rootfs / "etc/group").symlink_to("../../../../nix/etc/./group")
    assert built(rootfs, user) == ALICE


def test_a_link_to_nowhere_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("/none/such")
    assert built(tmp_path, "12") == who(12, 0)


def bind(source: Path, destination: str) -> SpecMount:
    return SpecMount(destination, "bind", str(source), ["rbind", "ro"])


def tmpfs(destination: str, *options: str) -> SpecMount:
    return SpecMount(destination, "tmpfs", "tmpfs", list(options))


@pytest.fixture
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An /etc with other accounts."""
    etc = tmp_path_factory.mktemp("others") / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("dev:x:1234:1235::/:\n")
    (etc / "group").write_text("devs:x:1236:dev\n")
    return etc


DEV = who(
    1234,
    1235,
    1236,
)


@pytest.mark.parametrize("user", ["dev", "1234"])
def test_accounts_are_those_of_mounts(rootfs: Path, others: Path, user: str) -> None:
    files = (bind(others / "passwd", "/etc/passwd"), bind(others / "group", "/etc/group"))
    for mounts in (files, (bind(others, "/etc"),), (tmpfs("/etc"), *files)):
        assert built(rootfs, user, mounts=mounts) == DEV
    none = SpecMount("/etc", "none", str(others), ["bind"])
    assert built(rootfs, user, mounts=(none,)) == DEV
    assert refusal(rootfs, "alice", none) == "USER_NOT_FOUND"


def test_a_mount_over_a_parent_counts(rootfs: Path, others: Path) -> None:
    moved(rootfs, "config/etc")
    (rootfs / "etc").symlink_to("config/etc")
    assert built(rootfs, "alice") == ALICE
    assert built(rootfs, "dev", mounts=[bind(others.parent, "/config")]) == DEV


def test_the_destination_of_a_mount_is_resolved_inside_the_root(rootfs: Path, others: Path) -> None:
    moved(rootfs, "config/etc")
    (rootfs / "etc").symlink_to("/config/etc")
    assert built(rootfs, "dev", mounts=[bind(others, "/etc")]) == DEV
    # As the runtime mounts them: the second where the link leads that the first one shows.
    (others.parent / "x").symlink_to("etc")
    chained = [bind(others.parent, "/config"), bind(others, "/config/x/deep/../../etc")]
    assert built(rootfs, "dev", mounts=chained) == DEV


def test_a_later_mount_hides_an_earlier_one_below_it(rootfs: Path, others: Path) -> None:
    mounts = [bind(others / "passwd", "/etc/passwd"), bind(rootfs / "etc", "/etc")]
    assert built(rootfs, "alice", mounts=mounts) == ALICE


def test_a_new_file_system_over_the_files_has_no_accounts(rootfs: Path) -> None:
    assert refusal(rootfs, "alice", tmpfs("/etc")) == "USER_NOT_FOUND"
    assert built(rootfs, "1001", mounts=[tmpfs("/etc")]) == who(1001, 0)
    # But one that the runtime fills with what it is mounted over.
    assert built(rootfs, "alice", mounts=[tmpfs("/etc", "tmpcopyup")]) == ALICE


@pytest.mark.parametrize("kind", ["overlay", "ext4", "proc", "nfs"])
def test_an_unknown_file_is_an_error(rootfs: Path, kind: str) -> None:
    mount = SpecMount("/etc", kind, kind)
    for user in ("alice", "1001", ""):
        assert refusal(rootfs, user, mount) == "ACCOUNTS_UNREADABLE"
    assert built(rootfs, "7:8", mounts=[mount]) == who(7, 8)


def test_mounts_elsewhere_change_nothing(rootfs: Path, others: Path) -> None:
    mounts = [SpecMount("/sys", "sysfs", "sysfs"), SpecMount("/sys/fs/cgroup", "cgroup", "cgroup")]
    mounts += [bind(others, "/etc2"), bind(others, "/new/etc"), tmpfs("/e")]
    assert built(rootfs, "alice", mounts=mounts) == ALICE


def test_a_root_is_not_left_by_a_link_or_a_mount(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("spy:x:5:5::/:\n")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").symlink_to(f"../..{tmp_path}/secret")
    assert refusal(root, "spy") == "USER_NOT_FOUND"
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("../../secret")
    assert refusal(root, "spy") == "USER_NOT_FOUND"


@given(st.binary())
def test_any_bytes_are_parsed_without_an_error(content: bytes) -> None:
    assert all(account.uid >= 0 for account in parse_passwd(content))
    assert all(group.gid >= 0 for group in parse_group(content))


def test_names_are_those_that_a_look_up_by_number_finds(rootfs: Path) -> None:
    too_long = f"{'x' * 257}:x:50:50\n{'y' * 256}:x:51:51\nsecond:x:51:51\n"
    (rootfs / "etc/passwd").write_text(PASSWD + too_long)
    names = user_names(PlannedRoot(str(rootfs), ()))
    assert (names[0], names[1001], names[5], names[51]) == ("root", "alice", "alice", "y" * 256)
    assert 50 not in names
