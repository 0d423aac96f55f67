"""Users and groups, by files of a root filesystem that is not trusted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.errors import InvalidArgument
from ocigrpc.oci.regular_file import SIZE_LIMIT_BYTES, read_regular_file_in
from ocigrpc.oci.users import User, parse_group, parse_passwd, user_of
from ocigrpc.oci.violations import Violations

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment
broken
alice:x:1001:1002::/home/alice:/bin/sh
alice:x:5:5::/:/bin/sh
huge:x:99999999999:1::/:/bin/sh
1001:x:7:7::/:/bin/sh
"""
GROUP = "root:x:0:\nstaff:x:1002:\nplayers:x:1003:bob,alice\nwheel:x:1004:alice\nodd:x:y:alice\n"


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


def built(rootfs: Path, user: str, *supplemental: int) -> User:
    violations = Violations()
    found = user_of(str(rootfs), user, supplemental, violations)
    violations.raise_any()
    return found


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", User(0, 0, (0,))),
        ("0", User(0, 0, (0,))),
        ("root", User(0, 0, (0,))),
        ("alice", User(1001, 1002, (1002, 1003, 1004))),
        ("1001", User(1001, 1002, (1002, 1003, 1004))),
        ("alice:staff", User(1001, 1002, (1002,))),
        ("alice:5", User(1001, 5, (5,))),
        ("4000", User(4000, 0, (0,))),
        ("4000:wheel", User(4000, 1004, (1004,))),
        ("4294967294:4294967294", User(4294967294, 4294967294, (4294967294,))),
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
        (":staff", "USER_NOT_FOUND"),
        ("-1", "USER_NOT_FOUND"),
        ("broken", "USER_NOT_FOUND"),
        ("alice:", "GROUP_NOT_FOUND"),
        ("alice:odd", "GROUP_NOT_FOUND"),
        ("alice:a:b", "GROUP_NOT_FOUND"),
        ("4294967295", "OUT_OF_RANGE"),
        ("9" * 10_000, "OUT_OF_RANGE"),
        ("0:4294967295", "OUT_OF_RANGE"),
    ],
)
def test_a_wrong_user_is_refused(rootfs: Path, user: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        built(rootfs, user)
    assert caught.value.reason == reason
    assert [each.field for each in caught.value.violations] == ["config.user"]


def test_a_wrong_supplemental_group_is_refused(rootfs: Path) -> None:
    with pytest.raises(InvalidArgument) as caught:
        built(rootfs, "", 1, 4294967295)
    assert caught.value.violations[0].field == "config.supplemental_groups[1]"


def test_numbers_need_no_files(tmp_path: Path) -> None:
    assert built(tmp_path, "12:13", 14) == User(12, 13, (13, 14))
    assert built(tmp_path, "12") == User(12, 0, (0,))


def make_link(place: Path) -> None:
    place.symlink_to("/etc/passwd")


def make_fifo(place: Path) -> None:
    os.mkfifo(place)


def make_large(place: Path) -> None:
    place.write_text("root:x:0:0:::\n")
    os.truncate(place, SIZE_LIMIT_BYTES + 1)


@pytest.mark.parametrize("make", [make_link, make_fifo, make_large, Path.mkdir])
def test_a_hostile_passwd_is_not_read(tmp_path: Path, make: object) -> None:
    (tmp_path / "etc").mkdir()
    assert callable(make)
    make(tmp_path / "etc/passwd")
    with pytest.raises(InvalidArgument) as caught:
        built(tmp_path, "root")
    assert caught.value.reason == "USER_NOT_FOUND"


def test_a_directory_that_is_a_link_to_the_host_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("/etc")
    with pytest.raises(OSError, match=r"."):
        read_regular_file_in(str(tmp_path), "etc/passwd")
    with pytest.raises(InvalidArgument):
        built(tmp_path, "root")


@given(st.binary())
def test_any_bytes_are_parsed_without_an_error(content: bytes) -> None:
    assert all(account.uid >= 0 for account in parse_passwd(content))
    assert all(group.gid >= 0 for group in parse_group(content))
