"""What the words of options of ``run`` mean, and which have no meaning."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ocigrpc.cli.programs.filesystems import mount, tmpfs
from ocigrpc.cli.programs.kernel import device_rule, group, sysctl, ulimit
from ocigrpc.v1 import config_pb2 as pb

UNLIMITED = (1 << 64) - 1


@pytest.mark.parametrize(
    ("text", "soft", "hard"),
    [
        ("nofile=1024", 1024, 1024),
        ("nofile=1024:4096", 1024, 4096),
        ("nofile=1024:-1", 1024, UNLIMITED),
        ("nofile=unlimited", UNLIMITED, UNLIMITED),
    ],
)
def test_a_limit_has_two_values(text: str, soft: int, hard: int) -> None:
    assert ulimit(text) == pb.Rlimit(type="RLIMIT_NOFILE", soft=soft, hard=hard)


def test_a_mount_in_pairs_is_the_one_that_they_say() -> None:
    assert mount("type=bind,source=/a:b,target=/c,ro,bind-propagation=rshared") == pb.Mount(
        host_path="/a:b",
        container_path="/c",
        readonly=True,
        propagation=pb.MOUNT_PROPAGATION_BIDIRECTIONAL,
    )
    assert mount("type=bind,src=/a,dst=/c,readonly=false") == pb.Mount(
        host_path="/a", container_path="/c"
    )
    assert mount("type=tmpfs,destination=/c,tmpfs-size=1m") == tmpfs("/c:size=1m")


def test_a_tmpfs_has_no_option_whose_opposite_is_asked_for() -> None:
    assert list(tmpfs("/c:exec,dev,mode=700").options) == ["nosuid", "exec", "dev", "mode=700"]
    assert list(tmpfs("/c").options) == ["nosuid", "nodev", "noexec"]


def test_a_rule_has_numbers_or_stands_for_all() -> None:
    assert device_rule("c 10:* rw") == pb.DeviceCgroupRule(
        type=pb.DEVICE_TYPE_CHARACTER, major=10, permissions="rw"
    )
    assert device_rule("a *:* rwm") == pb.DeviceCgroupRule(
        type=pb.DEVICE_TYPE_ALL, permissions="rwm"
    )


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((ulimit, each) for each in ("nofile", "nofile=", "nofile=1:2:3", f"core={1 << 64}")),
        *((mount, each) for each in ("", "target=/c", "type=bind,target=/c", "type=bind,src=/a")),
        *((mount, each) for each in ("type=tmpfs,src=/a,dst=/c", "type=bind,src=/a,dst=/c,x=y")),
        *((mount, each) for each in ("type=bind,src=a,dst=/c", "type=bind,src=/a,dst=/c,ro=no")),
        *((tmpfs, each) for each in ("", "c", ":size=1m")),
        *((device_rule, each) for each in ("c 10 rw", "x 1:1 r", "c 1:1", f"c {1 << 32}:1 r")),
        *((group, each) for each in ("", "wheel", "-1", str(1 << 32))),
        *((sysctl, each) for each in ("", "a", "=1")),
    ],
)
def test_what_has_no_meaning_is_refused(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(text)
