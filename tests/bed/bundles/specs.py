"""Forms of config.json as engines and runtimes write them, written again and small.

Each is what one kind of writer does: the fields that it sets, their order, what it leaves out.
Where a form names what this host may lack, such as a security module, it is not meant to be
run here; see ``NOT_RUN``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

# What a program can see of its spec.
PROBE = (
    "id; hostname; pwd; umask; env | sort; cat /proc/self/oom_score_adj; "
    "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status; "
    "ulimit -n; ulimit -c; cut -d' ' -f5- /proc/self/mountinfo | sed 's/shared:[0-9]*//;"
    "s/master:[0-9]*//;s/ - \\([a-z0-9]*\\) .*/ \\1/' | grep -v ^/sys/fs/cgroup | sort; "
    "ls /dev; cat /proc/sys/kernel/domainname"
)

NOT_RUN = frozenset(("runtime-spec",))

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_PROC = {"destination": "/proc", "type": "proc", "source": "proc"}
_MOUNTS = [
    _PROC,
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {
        "destination": "/dev/shm",
        "type": "tmpfs",
        "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
    },
]
_NAMESPACES = [{"type": each} for each in ("pid", "network", "ipc", "uts", "mount")]

Form = dict[str, Any]


def _runc() -> Form:
    """As ``runc spec`` writes it."""
    sets = dict.fromkeys(("bounding", "effective", "permitted", "ambient"), _CAPABILITIES)
    return {
        "ociVersion": "1.0.2-dev",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh", "-c", PROBE],
            "env": ["PATH=/usr/bin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": sets,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": _MOUNTS,
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": _NAMESPACES,
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
        },
    }


def _runc_candidate() -> Form:
    """As a release candidate of 1.0 wrote it: with a platform, and without ambient sets."""
    spec = {"platform": {"os": "linux", "arch": "amd64"}, **_runc(), "ociVersion": "1.0.0-rc5"}
    del spec["process"]["capabilities"]["ambient"]
    spec["hooks"] = {}
    return spec


def _docker() -> Form:
    spec = _runc()
    spec["ociVersion"] = "1.1.0"
    spec["process"] |= {
        "consoleSize": {"height": 0, "width": 0},
        "user": {"uid": 1001, "gid": 1002, "additionalGids": [1002, 1003]},
        "oomScoreAdj": 100,
        "apparmorProfile": "",
        "env": ["PATH=/bin", "HOSTNAME=0f1e2d3c4b5a", "HOME=/root"],
    }
    spec["hooks"] = {"prestart": [{"path": "/bin/true", "args": ["libnetwork-setkey", "-exec"]}]}
    spec["linux"]["cgroupsPath"] = "/docker/0f1e2d3c4b5a"
    spec["linux"]["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0"}
    spec["linux"]["resources"] = {
        "devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
        ],
        "memory": {},
        "cpu": {"shares": 0},
        "pids": {"limit": 0},
        "blockIO": {"weight": 0},
    }
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ],
    }
    return spec


def _podman() -> Form:
    spec = _runc()
    spec["process"] |= {
        "user": {"uid": 1001, "gid": 1002, "umask": 63, "additionalGids": [1002]},
        "env": ["PATH=/bin", "TERM=xterm", "container=podman", "HOME=/"],
        "oomScoreAdj": 0,
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "hard": 512, "soft": 256},
            {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
        ],
    }
    spec["annotations"] = {
        "io.container.manager": "libpod",
        "io.podman.annotations.init": "FALSE",
        "org.opencontainers.image.stopSignal": "15",
    }
    spec["linux"] |= {
        "sysctl": {"net.ipv4.ping_group_range": "0 0"},
        "rootfsPropagation": "slave",
        "cgroupsPath": "/machine.slice/libpod-abc",
        "resources": {"devices": [{"allow": False, "access": "rwm"}], "pids": {"limit": 2048}},
    }
    return spec


def _containerd() -> Form:
    spec = _runc()
    spec["process"] |= {"cwd": "/tmp", "oomScoreAdj": 1000}
    spec["process"].pop("terminal")
    spec["annotations"] = {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-name": "web-0",
    }
    spec["mounts"] = [
        *_MOUNTS,
        {
            "destination": "/data",
            "type": "bind",
            "source": "data",
            "options": ["rbind", "rprivate", "ro"],
        },
    ]
    spec["linux"]["cgroupsPath"] = "kubepods-burstable.slice:cri-containerd:0123"
    spec["linux"]["devices"] = [
        {"path": "/dev/extra", "type": "c", "major": 1, "minor": 5, "fileMode": 438}
    ]
    spec["domainname"] = "example.org"
    return spec


def _crio() -> Form:
    spec = _runc()
    spec["ociVersion"] = "1.2.0"
    spec["annotations"] = {"io.kubernetes.cri-o.Metadata": '{"name": "a"}', "org.systemd.x": ""}
    spec["process"]["capabilities"] = {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"]}
    spec["process"]["capabilities"]["permitted"] = ["CAP_KILL"]
    spec["linux"]["resources"]["unified"] = None
    spec["linux"]["mountLabel"] = ""
    spec["linux"]["intelRdt"] = None
    return spec


def _crun() -> Form:
    """As ``crun spec`` writes it, with a cgroup namespace."""
    spec = _runc()
    spec["ociVersion"] = "1.0.0"
    spec["linux"]["namespaces"] = [*_NAMESPACES, {"type": "cgroup"}]
    spec["process"]["capabilities"]["inheritable"] = []
    return spec


def _least() -> Form:
    """No more than what runc wants."""
    return {
        "process": {"args": ["/bin/sh", "-c", PROBE], "cwd": "/", "env": ["PATH=/bin"]},
        "root": {"path": "rootfs"},
        "mounts": [_PROC],
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "uts"}]},
        "hostname": "least",
    }


def _other_systems() -> Form:
    return {
        **_runc(),
        "solaris": {"milestone": "svc:/milestone/container:default"},
        "windows": {"layerFolders": ["C:\\\\Layer"], "hyperv": {}},
        "vm": {"kernel": {"path": "/boot/vmlinuz"}},
        "zos": {"namespaces": []},
        "freebsd": {"jail": {"enforceStatfs": 1}},
    }


def _newer() -> Form:
    """With what later versions of the standard have."""
    spec = _runc()
    spec["ociVersion"] = "1.3.0"
    spec["process"]["commandLine"] = ""
    spec["process"]["execCPUAffinity"] = {"initial": "0"}
    spec["linux"]["netDevices"] = {}
    spec["linux"]["timeOffsets"] = None
    spec["linux"]["resources"]["cpu"] = {"burst": None}
    spec["linux"]["resources"]["memory"] = {"checkBeforeUpdate": True}
    spec["mounts"][0] = {**spec["mounts"][0], "uidMappings": [], "gidMappings": []}
    return spec


def _runtime_spec() -> Form:
    """The standard's own example, in short."""
    spec = _runc()
    spec["process"] |= {"apparmorProfile": "acme_secure_profile", "selinuxLabel": "system_u:a"}
    spec["hooks"] = {
        "prestart": [
            {"path": "/usr/bin/fix-mounts", "args": ["fix-mounts", "a"], "env": ["K=v"]},
            {"path": "/usr/bin/setup-network"},
        ],
        "poststop": [{"path": "/usr/sbin/cleanup.sh", "args": ["cleanup.sh"], "timeout": 30}],
    }
    spec["linux"] |= {
        "devices": [
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438},
            {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0, "uid": 0, "gid": 0},
        ],
        "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 32000}],
        "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 32000}],
        "rootfsPropagation": "slave",
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": ["getcwd", "chmod"], "action": "SCMP_ACT_ERRNO"}],
        },
    }
    spec["linux"]["resources"] = {
        "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
        "pids": {"limit": 32771},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 9223372036854772000}],
        "memory": {"limit": 536870912, "swap": 536870912, "kernel": -1, "swappiness": 0},
        "cpu": {"shares": 1024, "quota": 1000000, "period": 500000, "cpus": "2-3", "mems": "0-7"},
        "devices": [{"allow": True, "type": "b", "major": 8, "minor": 0, "access": "rw"}],
        "blockIO": {
            "weight": 10,
            "leafWeight": 10,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 300}],
        },
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
    }
    return spec


def _upper(value: Any, depth: int = 3) -> Any:
    if depth == 0 or not isinstance(value, dict):
        return value
    return {name.upper(): _upper(each, depth - 1) for name, each in value.items()}


def _any_case() -> str:
    spec = _podman()
    # For hosts that have no controller for it.
    del spec["linux"]["resources"]["pids"]
    annotations = spec.pop("annotations")
    sysctl = spec["linux"].pop("sysctl")
    shouted = _upper(spec)
    shouted["LINUX"]["sYSCTL"] = sysctl
    return json.dumps({**shouted, "annotationS": annotations})


def _twice() -> str:
    text = json.dumps(_runc())[:-1]
    return text + ', "hostname": "twice", "process": {"cwd": "/tmp", "user": {"uid": 5}}}'


def _nulls() -> str:
    spec = _runc()
    for name in ("user", "rlimits", "apparmorProfile", "oomScoreAdj", "consoleSize"):
        spec["process"][name] = None
    spec["linux"] |= {"seccomp": None, "sysctl": None, "resources": None, "devices": None}
    spec |= {"hooks": None, "annotations": {"a": None}, "hostname": None}
    spec["process"]["args"] = ["sh", "-c", f"echo $1.$2; {PROBE}", "sh", None, "b"]
    return json.dumps(spec)


def _zeros() -> str:
    spec = _runc()
    spec["process"]["rlimits"] = [{"type": "RLIMIT_CORE"}]
    del spec["process"]["user"], spec["ociVersion"]
    spec["linux"]["resources"] = {"devices": [{"access": "rwm"}], "memory": None, "cpu": {}}
    return json.dumps(spec)


def _odd_text() -> str:
    spec = _runc()
    spec["process"]["env"].append("A=X")
    text = json.dumps({**spec, "future": {"of": ["NUMBER"]}}, indent="\t")
    return text.replace('"A=X"', '"A=\\ud800y"').replace('"NUMBER"', "1e400") + "\n\n}more"


_FORMS: Mapping[str, Callable[[], Form | str]] = {
    "runc": _runc,
    "runc-candidate": _runc_candidate,
    "docker": _docker,
    "podman": _podman,
    "containerd": _containerd,
    "crio": _crio,
    "crun": _crun,
    "least": _least,
    "other-systems": _other_systems,
    "newer": _newer,
    "runtime-spec": _runtime_spec,
    "any-case": _any_case,
    "twice": _twice,
    "nulls": _nulls,
    "zeros": _zeros,
    "odd-text": _odd_text,
}
FORMS = tuple(_FORMS)


def text_of(form: str) -> str:
    # Parts of the forms are shared.
    made = copy.deepcopy(_FORMS[form]())
    return made if isinstance(made, str) else json.dumps(made)
