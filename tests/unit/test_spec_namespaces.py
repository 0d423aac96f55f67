"""Namespaces and sysctls: which are the container's own, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ocigrpc.errors import InvalidArgument
from ocigrpc.oci.spec.config import ContainerConfig, Namespace, NamespaceMode, NamespaceType
from ocigrpc.oci.spec.namespaces import Namespaces, namespaces_of, sysctls_of
from ocigrpc.violations import Violations

NEW = {"type": "mount"}


def built(*namespaces: Namespace) -> Namespaces:
    violations = Violations()
    found = namespaces_of(ContainerConfig("/", namespaces=namespaces), violations)
    violations.raise_any()
    return found


def sysctls(namespaces: Namespaces, **values: str) -> dict[str, str]:
    violations = Violations()
    found = sysctls_of(ContainerConfig("/", sysctls=values), namespaces, violations)
    violations.raise_any()
    return found


PING = {"net.ipv4.ping_group_range": "0 0"}


def test_roots_group_may_ping_in_a_network_of_its_own_by_default() -> None:
    assert sysctls(Namespaces()) == PING
    for mode in (NamespaceMode.HOST, NamespaceMode.PATH):
        assert sysctls(Namespaces({NamespaceType.NETWORK: mode})) == {}
    given = {"net.ipv4.ping_group_range": "1 0"}
    assert sysctls(Namespaces(), **given) == given
    assert sysctls(Namespaces(), **{"net/ipv4/ping_group_range": "1 0"}) == given


def test_all_are_new_by_default() -> None:
    types = [entry["type"] for entry in Namespaces().to_spec()]
    assert types == ["pid", "network", "ipc", "uts", "cgroup", "mount"]
    assert built(Namespace(NamespaceType.PID)).to_spec() == Namespaces().to_spec()


@pytest.mark.parametrize("kind", list(NamespaceType))
def test_the_hosts_own_is_left_out(kind: NamespaceType) -> None:
    types = [entry["type"] for entry in built(Namespace(kind, NamespaceMode.HOST)).to_spec()]
    assert types == [*(other for other in NamespaceType if other is not kind), "mount"]


def test_a_path_to_the_hosts_own_counts_as_the_hosts() -> None:
    path = f"/proc/{os.getpid()}/ns/net"
    found = built(Namespace(NamespaceType.NETWORK, NamespaceMode.PATH, path))
    assert found.mode(NamespaceType.NETWORK) is NamespaceMode.HOST


def test_a_joined_one_has_its_path() -> None:
    modes = {NamespaceType.IPC: NamespaceMode.PATH}
    joined = Namespaces(modes, {NamespaceType.IPC: "/run/ns"})
    assert {"type": "ipc", "path": "/run/ns"} in joined.to_spec()


@pytest.mark.parametrize(
    ("field", "reason", "namespace"),
    [
        ("path", "REQUIRED", Namespace(NamespaceType.PID, NamespaceMode.PATH)),
        ("path", "PATH_NOT_ABSOLUTE", Namespace(NamespaceType.PID, NamespaceMode.PATH, "ns")),
        ("path", "NAMESPACE_NOT_FOUND", Namespace(NamespaceType.PID, NamespaceMode.PATH, "/no")),
        (
            "path",
            "NAMESPACE_WRONG_TYPE",
            Namespace(NamespaceType.PID, NamespaceMode.PATH, "/proc/self/ns/net"),
        ),
        (
            "path",
            "NAMESPACE_WRONG_TYPE",
            Namespace(NamespaceType.PID, NamespaceMode.PATH, "/etc/passwd"),
        ),
        (
            "path",
            "NAMESPACE_WRONG_TYPE",
            Namespace(NamespaceType.PID, NamespaceMode.PATH, "/dev/null"),
        ),
        ("path", "NOT_APPLICABLE", Namespace(NamespaceType.PID, NamespaceMode.HOST, "/x")),
        ("path", "NOT_APPLICABLE", Namespace(NamespaceType.PID, NamespaceMode.PRIVATE, "/x")),
        ("type", "DUPLICATE", Namespace(NamespaceType.UTS)),
    ],
)
def test_a_wrong_namespace_is_refused(field: str, reason: str, namespace: Namespace) -> None:
    with pytest.raises(InvalidArgument) as caught:
        built(Namespace(NamespaceType.UTS), namespace)
    assert caught.value.reason == reason
    assert [each.field for each in caught.value.violations] == [f"config.namespaces[1].{field}"]


def test_a_fifo_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidArgument) as caught:
        built(Namespace(NamespaceType.PID, NamespaceMode.PATH, str(tmp_path / "fifo")))
    assert caught.value.reason == "NAMESPACE_WRONG_TYPE"


OWNERS = {
    "net.ipv4.ip_forward": NamespaceType.NETWORK,
    "net.core.somaxconn": NamespaceType.NETWORK,
    "kernel.shmmax": NamespaceType.IPC,
    "kernel.msgmni": NamespaceType.IPC,
    "kernel.sem": NamespaceType.IPC,
    "fs.mqueue.msg_max": NamespaceType.IPC,
    "kernel.domainname": NamespaceType.UTS,
}


@pytest.mark.parametrize(("name", "owner"), OWNERS.items())
def test_a_sysctl_needs_a_namespace_that_is_not_the_hosts(name: str, owner: NamespaceType) -> None:
    assert sysctls(Namespaces(), **{name: "1"}) == {**PING, name: "1"}
    joined = Namespaces({owner: NamespaceMode.PATH}, {owner: "/run/ns"})
    ping = {} if owner is NamespaceType.NETWORK else PING
    assert sysctls(joined, **{name: "1"}) == {**ping, name: "1"}
    with pytest.raises(InvalidArgument) as caught:
        sysctls(Namespaces({owner: NamespaceMode.HOST}), **{name: "1"})
    assert caught.value.reason == "SYSCTL_NOT_NAMESPACED"


@pytest.mark.parametrize(
    "name",
    [
        *("", "net", "net.", "net..x", "net.ipv4/../../vm/swappiness"),
        *("/net/x", "net/x/", "net//x", "net./x", "net.x/", "net.x//y", "net/../x"),
        *("vm/swappiness", "kernel/hostname", "net/../../vm/swappiness"),
        *("vm.swappiness", "kernel.panic", "kernel.shmx", "kernel.hostname", "fs.file-max"),
        *("net.x\n", "../net.x"),
    ],
)
def test_every_other_sysctl_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        sysctls(Namespaces(), **{name: "1"})
    assert caught.value.reason == "SYSCTL_NOT_NAMESPACED"
    assert caught.value.violations[0].field == f"config.sysctls[{json.dumps(name)}]"


@pytest.mark.parametrize(
    ("name", "dotted"),
    [
        ("net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        ("kernel/shmmax", "kernel.shmmax"),
        ("fs/mqueue/msg_max", "fs.mqueue.msg_max"),
        ("net.ipv4.conf.eth0/100.rp_filter", "net.ipv4.conf.eth0/100.rp_filter"),
        ("net/ipv4/conf/eth0.100/rp_filter", "net.ipv4.conf.eth0/100.rp_filter"),
        ("net.ipv4.conf.eth0@p1+x.rp_filter", "net.ipv4.conf.eth0@p1+x.rp_filter"),
    ],
)
def test_the_first_separator_of_a_sysctl_decides(name: str, dotted: str) -> None:
    assert sysctls(Namespaces(), **{name: "1"}) == {**PING, dotted: "1"}


def test_a_sysctl_in_two_forms_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        sysctls(Namespaces(), **{"net.core.x": "1", "net/core/x": "2"})
    assert caught.value.reason == "DUPLICATE"


def test_a_sysctls_value_holds_no_nul() -> None:
    with pytest.raises(InvalidArgument) as caught:
        sysctls(Namespaces(), **{"net.x": "\0"})
    assert caught.value.reason == "NUL_BYTE"
