"""The hosts that the real tests run on, made out of the one that there is.

Each is a context manager that leaves no process, mount, cgroup or file behind.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.hierarchy import Hierarchies, Kind
from ocigrpc.waiting import Deadline

_ENTER = str(Path(__file__).with_name("enter.py"))
_START_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Host:
    name: str
    cgroup_roots: tuple[Path, ...]
    """As seen from outside: the directories below which cgroups made on the host appear."""

    prefix: tuple[str, ...] = ()

    def command(self, argv: Sequence[str]) -> list[str]:
        """What to execute here to have ``argv`` run there; signals and exit status pass.

        A pid that the program learns there may mean nothing here.
        """
        return [*self.prefix, *argv]


def booted_by_systemd() -> bool:
    """Whether the host is what most are: systemd, see sd_booted(3), on cgroup v2 alone."""
    return Path("/run/systemd/system").is_dir() and Hierarchies.detect().kind is Kind.V2


@contextmanager
def native() -> Iterator[Host]:
    roots = (Path(hierarchy.mount_point) for hierarchy in Hierarchies.detect().all)
    yield Host("native", tuple(roots))


_HOLD_CGROUP2 = "mount -t cgroup2 cgroup2 /sys/fs/cgroup && echo ready && exec cat"


@contextmanager
def cgroup2_host() -> Iterator[Host]:
    """A cgroup v2 host, by a mount namespace with cgroup2 on /sys/fs/cgroup.

    Controllers that v1 hierarchies of the real host hold are missing there. A host that has
    cgroup v2 alone is taken as it is, with all its controllers.
    """
    if Hierarchies.detect().kind is Kind.V2:
        with native() as host:
            yield replace(host, name="cgroup2")
        return
    # The holder reads our pipe, so it ends with us however we end.
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", _HOLD_CGROUP2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            Deadline(_START_TIMEOUT_S).wait(holder.stdout.fileno())
            assert holder.stdout.readline() == b"ready\n"
            yield _entered("cgroup2", holder.pid, "mnt")
        finally:
            holder.stdin.close()


@contextmanager
def systemd_host() -> Iterator[Host]:
    """A cgroup v2 host whose init is systemd: the real one, if it is, with all controllers."""
    with native() if booted_by_systemd() else private_systemd_host() as host:
        yield replace(host, name="systemd")


@contextmanager
def private_systemd_host(root: Path | None = None) -> Iterator[Host]:
    """A cgroup v2 host whose init is a systemd of its own, with a system bus.

    It has its own pid namespace and its own /run; the other files are the real ones, or those of
    a Debian below ``root``, which then starts all that it starts at boot.
    """
    with ExitStack() as stack:
        group = stack.enter_context(_group())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        log = stack.enter_context((directory / "log").open("w+"))
        notify = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notify.bind(str(directory / "notify"))
        (directory / "boot").write_text(_BOOT if root is None else _BOOT_ROOT.format(root=root))
        outer = stack.enter_context(_booting(group, directory, log))
        _wait_until_ready(outer, notify, log)
        # systemd notifies of each reload as well, and waits while nobody reads.
        notify.close()
        (init_pid,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        # systemd keeps its root group free of processes; so do we, in one of our own.
        entered = group / "entered"
        entered.mkdir()
        yield _entered("systemd", int(init_pid), "mnt,pid,cgroup,uts,ipc", str(entered))


def _entered(name: str, pid: int, namespaces: str, cgroup: str = "") -> Host:
    prefix = (sys.executable, "-I", "-S", _ENTER, str(pid), namespaces, cgroup)
    return Host(name, (Path(f"/proc/{pid}/root/sys/fs/cgroup"),), prefix)


_BOOT = """set -eu
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# The kernel is not this systemd's to configure, nor the console its to write to.
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /sys
mount --bind /dev/null /dev/console
mount --bind /dev/null /dev/kmsg

# What this machine has installed is not to be started: no generated unit, and a
# target that needs nothing but the bus.
mkdir -p /run/dbus /run/systemd/system /run/systemd/system-generators
for generator in /lib/systemd/system-generators/*; do
    ln -s /dev/null "/run/systemd/system-generators/${generator##*/}"
done
cd /run/systemd/system
cat > dbus.socket <<END
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
END
cat > dbus.service <<END
[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation
END
cat > ready.target <<END
[Unit]
DefaultDependencies=no
Requires=dbus.service
After=dbus.service
END
# "container" makes it leave alone what a container's init must: devices, clock, modules.
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=other NOTIFY_SOCKET="$1" \
    /lib/systemd/systemd --system --unit=ready.target --show-status=no \
    --log-target=null --default-standard-output=null
"""


# Its devices are its own, since it changes modes of them.
_BOOT_ROOT = """set -eu
mount --bind {root} {root}
cd {root}
mount -t tmpfs -o mode=0755 tmpfs dev
for each in null:3 console:3 kmsg:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 0666 "dev/${{each%:*}}" c 1 "${{each#*:}}"
done
mknod -m 0666 dev/tty c 5 0
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mkdir run/old
touch run/notify
mount --bind "$1" run/notify
# Each boot has an id of its own.
cat proc/sys/kernel/random/uuid >run/boot_id
mount --bind run/boot_id proc/sys/kernel/random/boot_id
pivot_root . run/old
cd /
umount --lazy /run/old
rmdir /run/old
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=other NOTIFY_SOCKET=/run/notify \\
    /lib/systemd/systemd --system --unit=multi-user.target --show-status=no
"""


@contextmanager
def _group() -> Iterator[Path]:
    """A group in the cgroup2 hierarchy, to be the root of another host; empty at the end."""
    hierarchies = Hierarchies.detect()
    mounted = [hierarchy for hierarchy in hierarchies.all if hierarchy.unified]
    assert mounted, "a private systemd needs a cgroup2 mount to live in"
    path = f"/ocigrpc-test-systemd-{secrets.token_hex(4)}"
    directory = Path(mounted[0].mount_point + path)
    directory.mkdir()
    try:
        yield directory
    finally:
        _empty(hierarchies.group(path))


def _empty(group: Cgroup) -> None:
    deadline = Deadline(_END_TIMEOUT_S)
    group.kill(deadline)
    group.remove(deadline)


@contextmanager
def _booting(group: Path, directory: Path, log: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    # Joined before the namespace is made, so that the group becomes its root. The
    # inner init dies with unshare, and that with us.
    join = 'echo 0 > "$1/cgroup.procs" && shift && exec "$@"'
    unshare = ["unshare", "-m", "-p", "-C", "-u", "-i", "--fork", "--kill-child", "--mount-proc"]
    boot = ["sh", str(directory / "boot"), str(directory / "notify")]
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "sh", "-c", join, "sh", str(group), *unshare, *boot],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    ) as outer:
        try:
            yield outer
        finally:
            outer.send_signal(signal.SIGKILL)


def _wait_until_ready(outer: subprocess.Popen[bytes], notify: socket.socket, log: IO[str]) -> None:
    """Wait for the word that systemd sends when its target is reached; sd_notify(3)."""
    deadline = Deadline(_START_TIMEOUT_S)
    ended = os.pidfd_open(outer.pid)
    try:
        while notify.fileno() in deadline.wait(notify.fileno(), ended):
            if b"READY=1" in notify.recv(4096).splitlines():
                return
    finally:
        os.close(ended)
    log.seek(0)
    raise RuntimeError(f"the private systemd did not start: {log.read()}")
