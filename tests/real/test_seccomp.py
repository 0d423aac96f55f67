"""Seccomp profiles as real runtimes carry them out, and which one a container gets by default."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ocigrpc.oci.spec.capabilities import DEFAULT_CAPABILITIES
from ocigrpc.oci.spec.config import Seccomp, SeccompType
from ocigrpc.oci.spec.seccomp import HOST_PROFILES, own_profile
from ocigrpc.v1 import config_pb2, runtime_pb2
from tests.bed.bundles.bundle import spec_json
from tests.bed.bundles.shell_container import RUNTIMES, Ended, ShellContainers, lines_of
from tests.bed.clients.conditions import works
from tests.bed.clients.refusal import refused
from tests.bed.hosts.host import Host, native
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service
from tests.bed.services.serving import serving
from tests.rpc.running import NOT_SERVING, SERVING, check

NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
ADMIN = ("SYS_ADMIN",)
FULL = 28
"""ENOSPC: an error that nothing in these containers gives but a profile."""

OTHERS = {"arches": [{"amd64": "arm64", "arm64": "amd64"}[NATIVE]]}


@pytest.fixture(params=RUNTIMES)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> ShellContainers:
    """``run(script, **config)``: a script in a container of each runtime."""
    return ShellContainers(str(request.param), tmp_path)


@pytest.fixture
def confined(run: ShellContainers, tmp_path: Path) -> Any:
    """``confined(script, profile, capabilities)``: the same under a profile of the host's."""

    def start(script: str, profile: dict[str, Any], capabilities: Sequence[str] = ()) -> Ended:
        place = tmp_path / "profile.json"
        place.write_text(json.dumps(profile))
        return run(
            script,
            seccomp=Seccomp(SeccompType.LOCALHOST, str(place)),
            add_capabilities=tuple(capabilities),
        )

    return start


CALLS_OF_A_SHELL = """
access arch_prctl brk capget capset chdir chown clock_gettime clock_nanosleep clone close
connect dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait execve exit exit_group faccessat
faccessat2 fchdir fchown fcntl fork fstat fstatfs futex getcwd getdents64 getegid geteuid getgid
getgroups getpid getppid getrandom gettid gettimeofday getuid ioctl kill lseek lstat madvise
mkdir mmap mprotect mremap munmap nanosleep newfstatat open openat pipe pipe2 poll ppoll prctl
pread64 prlimit64 read readlink readlinkat readv rmdir rseq rt_sigaction rt_sigprocmask
rt_sigreturn sched_getaffinity sched_yield sendto set_robust_list set_tid_address setgid
setgroups setresgid setresuid setsid setuid sigaltstack socket stat statfs sysinfo tgkill time
umask uname unlink vfork wait4 write writev
"""

# A new user namespace needs no capability: only a profile can refuse it.
USER_NAMESPACE = "unshare -U true"


def allow_list(*rules: dict[str, Any]) -> dict[str, Any]:
    """What a shell needs, and ``rules``, in the form that moby's own profiles have."""
    calls = {
        "names": CALLS_OF_A_SHELL.split(),
        "action": "SCMP_ACT_ALLOW",
        "args": [],
        "includes": {},
        "excludes": {},
    }
    arches = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": arches,
        "syscalls": [calls, *rules],
    }


def test_a_rule_for_those_with_a_capability_holds_for_nobody_else(confined: Any) -> None:
    rule = {
        "names": ["unshare", "setns", "mount"],
        "action": "SCMP_ACT_ALLOW",
        "comment": "only for those who may administer",
        "includes": {"caps": ["CAP_SYS_ADMIN"]},
        "excludes": {},
    }
    without = confined(USER_NAMESPACE, allow_list(rule))
    assert "not permitted" in without.stderr
    assert lines_of(confined(USER_NAMESPACE, allow_list(rule), ADMIN)) == []
    # In a form that has neither an architecture nor anything else besides.
    bare = {**allow_list(rule), "architectures": [], "archMap": []}
    assert "not permitted" in confined(USER_NAMESPACE, bare).stderr


def refusal(**conditions: Any) -> dict[str, Any]:
    """Everything is allowed but to make a directory, under conditions."""
    rule = {"name": "mkdir", "action": "SCMP_ACT_ERRNO", "errno": "ENOSPC", **conditions}
    # Where there is no mkdir, the C library has this one.
    at = {**rule, "name": "mkdirat"}
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule, at]}


@pytest.mark.parametrize(
    ("conditions", "holds"),
    [
        ({}, True),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_CHOWN"]}}, False),
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}}, False),
        ({"includes": {"minKernel": "3.0"}}, True),
        ({"includes": {"minKernel": "99.0"}}, False),
        ({"excludes": {"minKernel": "99.0"}}, True),
        ({"excludes": {"minKernel": "3.0"}}, False),
        ({"includes": {"arches": [NATIVE]}}, True),
        ({"includes": OTHERS}, False),
        ({"excludes": OTHERS}, True),
        ({"excludes": {"arches": [NATIVE]}}, False),
    ],
)
def test_a_rule_holds_under_its_conditions(
    confined: Any, conditions: dict[str, Any], holds: bool
) -> None:
    ended = confined("mkdir /tmp/x && rmdir /tmp/x", refusal(**conditions))
    assert (ended.returncode != 0) == holds
    assert (os.strerror(FULL) in ended.stderr) == holds


def test_a_rule_holds_for_its_arguments(confined: Any) -> None:
    # CLONE_NEWUTS, and nothing else that is asked for together with it.
    argument = {"index": 0, "value": 0x04000000, "valueTwo": 0x04000000, "op": "SCMP_CMP_MASKED_EQ"}
    rule = {"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": FULL, "args": [argument]}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    assert os.strerror(FULL) in confined("unshare -Uu true", profile).stderr
    assert lines_of(confined(USER_NAMESPACE, profile)) == []


def test_the_services_own_profile_refuses_what_reaches_beyond_the_container(confined: Any) -> None:
    script = """
        for call in 'unshare -U true' 'unshare -n true' 'mount -t tmpfs none /tmp' 'hostname x'
        do $call 2>&1 | tail -n 1; done
    """
    profile = own_profile(DEFAULT_CAPABILITIES)
    lines = lines_of(confined(script, profile))
    assert [bool(re.search("not permitted|denied", line)) for line in lines] == [True] * 4


def test_the_services_own_profile_gives_back_what_a_capability_is_for(confined: Any) -> None:
    script = "unshare -U true && unshare -n true && mount -t tmpfs none /tmp"
    assert confined(script, own_profile(DEFAULT_CAPABILITIES), ADMIN).returncode != 0
    profile = own_profile({*DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN"})
    assert lines_of(confined(script, profile, ADMIN)) == []


def test_an_unconfined_container_may_make_a_user_namespace(run: ShellContainers) -> None:
    assert lines_of(run(USER_NAMESPACE, seccomp=Seccomp(SeccompType.UNCONFINED))) == []


def test_the_default_is_the_list_that_the_host_has(run: ShellContainers) -> None:
    assert Path(HOST_PROFILES[1]).exists(), "apt-get install golang-github-containers-common"
    assert lines_of(run("grep ^Seccomp: /proc/self/status"))[0].split()[1] == "2"
    # The service's own refuses this.
    assert lines_of(run(USER_NAMESPACE)) == []


class Overlaid:
    """A service on a host where the test decides which profiles there are."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._root = Path(f"/proc/{service.pid}/root")

    def put(self, path: str, text: str | None) -> None:
        """Put a profile where the service sees it, or take it away."""
        place = self._root / path.lstrip("/")
        if text is None:
            place.unlink(missing_ok=True)
        else:
            place.write_text(text)

    def status(self) -> tuple[str, bool]:
        """The profile in force, and whether it can be read."""
        answer = self.service.client.status()
        (condition,) = [each for each in answer.conditions if each.type == "SeccompReady"]
        assert works(condition) or condition.reason == "SeccompProfileBroken"
        return answer.default_seccomp_profile, works(condition)

    def code(self, script: str, **fields: Any) -> int:
        """How a script ends in a container of its own."""
        config = self.service.config(script)
        config.MergeFrom(config_pb2.ContainerConfig(**fields))
        request = runtime_pb2.CreateContainerRequest(config=config)
        container_id = self.service.client.create_container(request).container_id
        self.service.start_container(container_id)
        return self.service.wait(container_id).exit_code


@pytest.fixture
def overlaid(rootfs: Path, tmp_path: Path) -> Iterator[Overlaid]:
    hide = " && ".join(
        f"mkdir -p {place} && mount -t tmpfs none {place}"
        for place in ("/etc/containers", "/usr/share/containers")
    )
    prefix = ("unshare", "--mount", "--propagation", "private", "sh", "-c", f'{hide}; exec "$@"')
    with native() as host:
        hidden = Host(host.name, host.cgroup_roots, (*prefix, "sh"))
        with serving(hidden, rootfs) as service:
            yield Overlaid(service)


def test_status_says_which_profile_is_the_default(overlaid: Overlaid) -> None:
    ours, theirs = HOST_PROFILES
    assert overlaid.status() == ("", True)
    assert overlaid.code(USER_NAMESPACE) != 0
    overlaid.put(theirs, json.dumps({"defaultAction": "SCMP_ACT_ALLOW"}))
    assert overlaid.status() == (theirs, True)
    assert overlaid.code(USER_NAMESPACE) == 0
    overlaid.put(ours, json.dumps(refusal(excludes={"caps": ["CAP_SYS_ADMIN"]})))
    assert overlaid.status() == (ours, True)
    assert overlaid.code("mkdir /tmp/x") != 0
    assert overlaid.code("mkdir /tmp/x && rmdir /tmp/x", add_capabilities=["SYS_ADMIN"]) == 0
    overlaid.put(ours, None)
    assert overlaid.status() == (theirs, True)


def test_a_default_that_is_broken_is_nobodys_licence(overlaid: Overlaid) -> None:
    ours, _ = HOST_PROFILES
    overlaid.put(ours, '{"defaultAction": "SCMP_ACT_ALLOW", "more": 1}')
    assert overlaid.status() == (ours, False)
    with refused("INTERNAL", "SECCOMP_PROFILE_BROKEN"):
        overlaid.code("true")
    unconfined = {"type": config_pb2.SECCOMP_TYPE_UNCONFINED}
    assert overlaid.code("true", seccomp=unconfined) == 0
    overlaid.put(ours, '{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert overlaid.status() == (ours, True)
    assert overlaid.code("true") == 0


def test_while_the_profile_is_broken_the_service_does_not_serve(overlaid: Overlaid) -> None:
    channel = overlaid.service.channel
    overlaid.put(HOST_PROFILES[0], "{")
    until(lambda: check(channel).status == NOT_SERVING)
    overlaid.put(HOST_PROFILES[0], None)
    until(lambda: check(channel).status == SERVING)


def test_a_spec_with_conditions_is_refused_for_the_runtime_would_not_see_them(
    service: Service,
) -> None:
    spec = json.loads(spec_json(service.rootfs, ["true"]))
    rule = {"names": ["unshare"], "action": "SCMP_ACT_ALLOW"}
    spec["linux"]["seccomp"] = allow_list({**rule, "includes": {"caps": ["CAP_SYS_ADMIN"]}})
    del spec["linux"]["seccomp"]["archMap"]
    with refused("INVALID_ARGUMENT", "INVALID_SPEC"):
        service.client.create_container(
            runtime_pb2.CreateContainerRequest(spec_json=json.dumps(spec))
        )
