"""An OCI runtime as a command line: https://github.com/opencontainers/runtime-spec runtime.md."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import msgspec
from msgspec import Struct, field

from ocigrpc.errors import HostFailed, RuntimeFailed, Timeout, cut, host_failing
from ocigrpc.host.processes.child import ENVIRONMENT, OUTPUT_LIMIT_BYTES, Completed, run
from ocigrpc.host.processes.programs import find_program, program_version
from ocigrpc.oci.options import Option, Options, require_option
from ocigrpc.oci.runtime_errors import explained
from ocigrpc.waiting import Deadline

_UNFROZEN = "unable to freeze"
"""What runc says of a group whose processes the kernel did not all freeze in a fifth of a
second, cgroup v1, when many others want the CPUs: it has let them run again."""

_FREEZE_RETRY_S = 0.05

_UPDATE_FILE = "resources-"

_ROOTS = {"runc": "/run/runc", "crun": "/run/crun", "youki": "/run/youki"}
"""Where runtimes of these names keep what they know of their containers, unless told."""

_CLONE = re.compile(r"((?:runc|crun)\.)[A-Za-z0-9]{6}")
"""A copy of its own program, that runc or crun executes in place of it while it begins."""

_STATE_LIMIT_BYTES = 8 << 20
"""Most that is read of what ``state`` prints: all annotations are in it, of which JSON can make
six times as much."""

_WORDS_LOST = "its own words for a failure are what it writes on standard error"
_DETACHED_LOST = "Exec has no terminals, and Exec and ExecSync have no keep_running"

OPTIONS: Mapping[str, Sequence[Option]] = {
    "": (
        Option("--log", _WORDS_LOST, os.devnull),
        Option("--log-format", _WORDS_LOST, "json"),
        Option("--systemd-cgroup", "it makes no container with the systemd manager"),
    ),
    "create": (Option("--no-pivot", "CreateContainer refuses no_pivot"),),
    "exec": (
        Option(
            "--cgroup",
            "a program of Exec is moved into its own cgroup only after it has begun: what it has "
            "started and left by then lives on until the container ends",
            "/x",
        ),
        Option("--process", "Exec and ExecSync are refused", "/x"),
        Option("--pid-file", "Exec and ExecSync are refused", "/x"),
        Option("--detach", _DETACHED_LOST),
        Option("--console-socket", _DETACHED_LOST, "/x"),
    ),
    "update": (Option("--resources", "UpdateContainerResources is refused", "/x"),),
    "delete": (Option("--force", "what a failed create has left may stay"),),
}
"""What we pass to a runtime, by the verb; before it, for the empty one."""


class RuntimeState(Struct, frozen=True):
    """What ``state`` prints, as far as it matters here. ``status`` is the runtime's word."""

    id: str
    status: str
    pid: int = 0
    bundle: str = ""


# Made now: msgspec crashes when two threads make one for the same type for the first time.
_STATE = msgspec.json.Decoder(RuntimeState)


class Runtime(Struct, frozen=True):
    """One OCI runtime of the settings; every verb is one run of its binary, in ``env``.

    Every verb raises ``RuntimeFailed`` with the runtime's own words when it fails,
    ``Timeout`` (RUNTIME_TIMEOUT) when it takes longer than ``verb_timeout_s``, ``Timeout``
    or ``Cancelled`` by the caller's deadline.
    """

    name: str
    path: str
    global_argv: tuple[str, ...] = ()
    verb_timeout_s: float = 60.0
    env: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT)
    options: Options = field(default_factory=Options)

    def unknown_options(self, verb: str, deadline: Deadline) -> frozenset[str]:
        """Those of ``OPTIONS`` that this binary does not know; raises ``Cancelled``."""
        words = (verb,) if verb else ()
        argv = self.argv(*words)
        return self.options.unknown(argv, OPTIONS[verb], deadline, self.env)

    def log_argv(self, path: Path, deadline: Deadline) -> tuple[str, ...]:
        """The options that have its own errors written to a file, as JSON lines."""
        unknown = self.unknown_options("", deadline)
        if unknown & {"--log", "--log-format"}:
            return ()
        return ("--log", str(path), "--log-format", "json")

    def find(self) -> str:
        """Absolute path of the binary. Raises ``RuntimeFailed`` (RUNTIME_NOT_FOUND)."""
        found = find_program(self.path)
        if found is None:
            raise RuntimeFailed(
                f"OCI runtime {self.name!r} is not at {self.path!r}, or can't be executed",
                reason="RUNTIME_NOT_FOUND",
                runtime_handler=self.name,
                path=self.path,
            )
        return found

    def argv(self, *words: str) -> list[str]:
        """The command line of a verb."""
        return [find_program(self.path) or self.path, *self.global_argv, *words]

    def entry_path(self, container_id: str) -> str:
        """Where it keeps what it knows of a container; empty where that is not known.

        runc and crun have a directory for each, of the container's id, in their ``--root``.
        """
        root = _ROOTS.get(os.path.basename(self.path), "")
        for word, following in itertools.pairwise((*self.global_argv, "")):
            if word == "--root":
                root = following
            elif word.startswith("--root="):
                root = word.removeprefix("--root=")
        return f"{root.rstrip('/')}/{container_id}" if root.startswith("/") else ""

    def is_own_mount(self, mount_point: str, source: str) -> bool:
        """Whether it has mounted this in the directory of a container, and was killed then.

        runc, and so crun, binds its own program there while it begins, to be safe from the
        container (CVE-2019-5736). ``source`` is the path of what is mounted.
        """
        found = _CLONE.fullmatch(os.path.basename(mount_point))
        program = os.path.basename(source.removesuffix("//deleted"))
        known = os.path.basename(os.path.realpath(find_program(self.path) or self.path))
        return found is not None and program in (found[1].rstrip("."), known)

    def start(self, container_id: str, deadline: Deadline, cwd: Path | None = None) -> None:
        """Run the program of a created container; raises ``CannotRun`` besides.

        Hooks are run in ``cwd``.
        """
        try:
            self._verb(deadline, "start", container_id, cwd=cwd)
        except RuntimeFailed as error:
            raise explained(error) from error

    def pause(self, container_id: str, deadline: Deadline) -> None:
        """Freeze a running container, however many attempts that takes on a busy host."""
        bounded = deadline.within(self.verb_timeout_s)
        while True:
            try:
                self._verb(bounded, "pause", container_id)
                return
            except RuntimeFailed as error:
                if _UNFROZEN not in error.metadata.get("output", ""):
                    raise
            # Its own limit has a reason of its own.
            deadline.wait(timeout_s=_FREEZE_RETRY_S)

    def resume(self, container_id: str, deadline: Deadline) -> None:
        """Thaw a paused container."""
        self._verb(deadline, "resume", container_id)

    def update(
        self,
        container_id: str,
        resources: Mapping[str, object],
        directory: Path,
        deadline: Deadline,
    ) -> None:
        """Change limits to ``resources``, what the runtime spec calls ``linux.resources``.

        The runtime reads them from a file that is in ``directory`` meanwhile, for its
        standard input is /dev/null. Raises ``HostFailed`` besides when it can't be written.
        """
        require_option(self.name, "--resources", self.unknown_options("update", deadline))
        with (
            host_failing("write a file in", directory),
            NamedTemporaryFile(dir=directory, prefix=_UPDATE_FILE, buffering=0) as file,
        ):
            file.write(msgspec.json.encode(resources))
            self._verb(deadline, "update", "--resources", file.name, container_id)

    def delete(self, container_id: str, deadline: Deadline, cwd: Path | None = None) -> None:
        """Kill a container if it lives, and forget it; an unknown one is no error.

        Hooks are run in ``cwd``.
        """
        self._verb(deadline, "delete", "--force", container_id, cwd=cwd)

    def state_json(self, container_id: str, deadline: Deadline) -> bytes:
        """What the runtime says of a container, in its own JSON."""
        return self._verb(
            deadline, "state", container_id, output_limit_bytes=_STATE_LIMIT_BYTES
        ).stdout

    def state(self, container_id: str, deadline: Deadline) -> RuntimeState:
        """What the runtime says of a container."""
        output = self.state_json(container_id, deadline)
        try:
            return _STATE.decode(output)
        except msgspec.DecodeError as error:
            said = cut(output.decode(errors="replace"))
            raise RuntimeFailed(
                f"{self.name} state printed no state ({error}): {said!r}",
                reason="RUNTIME_OUTPUT_MALFORMED",
                verb="state",
                output=said,
            ) from error

    def version(self, deadline: Deadline) -> str:
        """First line of ``--version``; empty when it can't be had."""
        return program_version(self.path, deadline)

    def _verb(
        self,
        deadline: Deadline,
        verb: str,
        *words: str,
        cwd: Path | None = None,
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
    ) -> Completed:
        try:
            bounded = deadline.within(self.verb_timeout_s)
            argv = self.argv(verb, *words)
            ended = run(argv, bounded, env=self.env, cwd=cwd, output_limit_bytes=output_limit_bytes)
        except Timeout as error:
            raise Timeout(
                f"{self.name} {verb} did not end in time",
                reason="RUNTIME_TIMEOUT",
                verb=verb,
                runtime_handler=self.name,
            ) from error
        except HostFailed as error:
            raise RuntimeFailed(
                error.message, reason="RUNTIME_NOT_FOUND", verb=verb, **error.metadata
            ) from error
        if ended.returncode != 0:
            said = cut(ended.words)
            raise RuntimeFailed(
                f"{self.name} {verb} failed with status {ended.returncode}: {said}",
                verb=verb,
                runtime_handler=self.name,
                returncode=ended.returncode,
                output=said,
            )
        return ended


def remove_update_files(directory: Path) -> None:
    """Remove what an ``update`` that nobody has seen the end of left in its directory."""
    for file in directory.glob(f"{_UPDATE_FILE}*"):
        file.unlink(missing_ok=True)
