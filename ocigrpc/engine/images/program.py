"""Runs skopeo at a bench, and ends it when nothing moves any more.

What receives an image has no time limit of its own, since that may be of any size. So it is
watched: bytes that it reads and writes are a sign of life, and so are those that it has put into
its directory. While another program has the store locked, it can move none, which is not the
registry's fault, and has a limit of its own. What only changes the store is not watched.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from glob import glob
from pathlib import Path

from msgspec import Struct

from ocigrpc.engine.images.failures import storage_failing
from ocigrpc.errors import OcigrpcError, Timeout
from ocigrpc.failing import host_failing
from ocigrpc.host.files.directory import write_new_file
from ocigrpc.host.files.regular import read_regular_file
from ocigrpc.host.files.tree import remove_tree
from ocigrpc.host.processes.child import Child, Completed
from ocigrpc.host.processes.locks import lock_holder, program_name
from ocigrpc.host.processes.process import read_proc
from ocigrpc.host.processes.programs import find_program, require_program
from ocigrpc.host.processes.provenance import end_leftovers, marked
from ocigrpc.log import get_logger
from ocigrpc.oci.images.manifest import MANIFEST_LIMIT_BYTES
from ocigrpc.oci.images.skopeo import Skopeo
from ocigrpc.oci.images_policy import wants_signatures
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline

# How often it is looked at.
_TICK_S = 0.2
# What moves when a connection is stalled: timers of the Go runtime, up to 4 bytes a second.
_MOVED_LEAST_BYTES = 1 << 10
_MOVED_LEAST_BYTES_PER_S = 16
# Most bytes of a manifest, and one more to notice that it has more.
_OUTPUT_LIMIT_BYTES = MANIFEST_LIMIT_BYTES + 1
# What the service hands on of its own environment.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_INHERITED = (*_PROXIES, "SSL_CERT_FILE", "SSL_CERT_DIR")
# Where containers-policy.json(5) is, unless the settings say so.
_POLICY = "/etc/containers/policy.json"
# How long an agent may live on after SIGKILL.
_END_S = 10.0

log = get_logger()


class Bench(Struct, frozen=True):
    """What runs of skopeo for one purpose share: a directory, which is gone afterwards, and how.

    Their own files are there, and those that they are given.
    """

    skopeo: Skopeo
    directory: str
    environment: Mapping[str, str]
    stall_timeout_s: float
    lock_timeout_s: float
    run_dir: str

    @property
    def auth_path(self) -> str:
        """The file with credentials."""
        return f"{self.directory}/auth.json"

    @property
    def auth(self) -> bytes:
        """What is in that file. Raises ``HostFailed``."""
        with host_failing("read", self.auth_path):
            return Path(self.auth_path).read_bytes()

    @property
    def wants_signatures(self) -> bool:
        """Whether the policy in use may ask for signatures; also if it can't be read."""
        try:
            return wants_signatures(read_regular_file(self.skopeo.policy or _POLICY))
        except OSError:
            return True

    def write(self, name: str, content: bytes) -> None:
        """Write a file that root alone may read. Raises ``StorageFull`` and ``HostFailed``."""
        path = Path(self.directory, name)
        with storage_failing("write", str(path)):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            write_new_file(path, content)

    def run(
        self,
        argv: Sequence[str],
        deadline: Deadline,
        on_tick: Callable[[], None] = lambda: None,
    ) -> Completed:
        """Receive something: run it to its end, calling ``on_tick`` several times a second.

        Raises ``Timeout``: PULL_STALLED when nothing has moved for ``stall_timeout_s``, and
        STORAGE_LOCKED when another program has kept it waiting for ``lock_timeout_s``;
        ``HostFailed``, and ``Timeout`` or ``Cancelled`` by the deadline. Its whole process group
        has been killed then.
        """
        with Child(argv, env=self.environment, output_limit_bytes=_OUTPUT_LIMIT_BYTES) as child:
            limits = self.stall_timeout_s, self.lock_timeout_s
            watchdog = _Watchdog(child.pid, self.directory, *limits)
            while True:
                try:
                    return child.wait(deadline.within(_TICK_S))
                except Timeout:
                    deadline.check()
                watchdog.check()
                on_tick()

    def run_unwatched(self, argv: Sequence[str], deadline: Deadline) -> Completed:
        """Change the store alone: run it to its end. Raises as :meth:`run`, but PULL_STALLED."""
        with Child(argv, env=self.environment, output_limit_bytes=_OUTPUT_LIMIT_BYTES) as child:
            return child.wait(deadline)

    def end_agents(self) -> None:
        """End agents of gpg, which outlive a run of skopeo whose policy has keys of gpg.

        They would keep its mount namespace.
        """
        with suppress(OSError):
            # A look at all processes takes a while, and most policies need none.
            if b"signedBy" not in Path(self.skopeo.policy or _POLICY).read_bytes():
                return
        try:
            started_here = {"HOME": self.directory}
            end_leftovers(self.run_dir, lambda _: True, Deadline(_END_S), started_here)
        except Timeout as error:
            log.warning("leftover.not_killed", error=error.message)


@contextmanager
def bench(settings: Settings) -> Iterator[Bench]:
    """A bench, for a ``with``. Raises ``HostFailed`` (PROGRAM_NOT_FOUND), ``StorageFull``."""
    images = settings.images
    require_program(images.skopeo)
    directory = f"{benches_directory(settings)}/{secrets.token_hex(8)}"
    with storage_failing("make", directory):
        Path(directory).mkdir(mode=0o700, parents=True)
    skopeo = Skopeo(
        find_program(images.skopeo) or images.skopeo,
        settings.images_root,
        settings.images_run,
        images.policy,
        images.registries_conf,
        images.registries_d,
    )
    try:
        yield Bench(
            skopeo,
            directory,
            _environment(settings, directory),
            images.stall_timeout_s,
            images.lock_timeout_s,
            settings.run_dir,
        )
    finally:
        try:
            remove_tree(settings.root_dir, directory)
        except (OSError, OcigrpcError) as error:
            log.warning("bench.not_removed", path=directory, error=str(error))


def benches_directory(settings: Settings) -> str:
    """The directory of all benches, the service's own: below it, everything may be removed."""
    return f"{settings.root_dir}/benches"


def _environment(settings: Settings, home: str) -> Mapping[str, str]:
    """That of skopeo, which takes what is in ``HOME`` for its user's own settings."""
    names = (*_INHERITED, *(each.lower() for each in _PROXIES))
    inherited = {name: os.environ[name] for name in names if name in os.environ}
    return {**marked(settings.run_dir), **inherited, "HOME": home}


class _Watchdog:
    """Whether a program moves bytes, or can't since another one has locked the store."""

    def __init__(self, pid: int, directory: str, limit_s: float, lock_limit_s: float) -> None:
        self._pid = pid
        self._directory = directory
        self._limit_s = limit_s
        self._lock_limit_s = lock_limit_s
        self._least_bytes = max(_MOVED_LEAST_BYTES, _MOVED_LEAST_BYTES_PER_S * limit_s)
        self._moved_bytes = 0
        self._moved_s = time.monotonic()
        # Since when it waits for a lock; None while it does not.
        self._waits_s: float | None = None

    def check(self) -> None:
        """Raise ``Timeout`` (PULL_STALLED, STORAGE_LOCKED) when one of the limits has passed."""
        received_bytes = sum(received_files(self._directory))
        moved_bytes = received_bytes + _io_bytes(self._pid)
        if moved_bytes - self._moved_bytes >= self._least_bytes:
            self._moved_bytes, self._moved_s, self._waits_s = moved_bytes, time.monotonic(), None
        elif (holder := lock_holder(self._pid)) is not None:
            self._moved_s = time.monotonic()
            self._check_lock(holder)
        elif time.monotonic() - self._moved_s >= self._limit_s:
            raise Timeout(
                f"no bytes have come for {self._limit_s:g} s, after {received_bytes}",
                reason="PULL_STALLED",
                received_bytes=received_bytes,
                stall_timeout_s=f"{self._limit_s:g}",
            )
        else:
            self._waits_s = None

    def _check_lock(self, holder: int) -> None:
        if self._waits_s is None:
            self._waits_s = time.monotonic()
        if time.monotonic() - self._waits_s >= self._lock_limit_s:
            name = program_name(holder)
            raise Timeout(
                f"process {holder} ({name}) has had the store locked for {self._lock_limit_s:g} s",
                reason="STORAGE_LOCKED",
                pid=holder,
                program=name,
                lock_timeout_s=f"{self._lock_limit_s:g}",
            )


def received_files(directory: str) -> Sequence[int]:
    """The sizes of the files that skopeo receives layers into, in the order that it made them."""
    return [size for _, size in received_paths(directory)]


def received_paths(directory: str) -> Sequence[tuple[Path, int]]:
    """The same with the path of each, which skopeo removes at its end."""
    found = dict[int, tuple[Path, int]]()
    # Unlike Path.glob, it passes over a directory that is removed meanwhile.
    for name in glob("*storage*/*", root_dir=directory):
        path = Path(directory, name)
        with suppress(OSError, ValueError):
            found[int(path.name)] = path, path.stat().st_size
    return [found[number] for number in sorted(found)]


def _io_bytes(pid: int) -> int:
    """What a process has read and written, from files, sockets and pipes; proc_pid_io(5)."""
    try:
        lines = read_proc(f"/proc/{pid}/io").splitlines()
    except OSError:
        return 0
    counts = dict(line.split(b": ") for line in lines)
    return int(counts.get(b"rchar", 0)) + int(counts.get(b"wchar", 0))
