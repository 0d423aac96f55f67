"""Where the files of one container are, and who writes them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class ContainerPaths:
    """The paths of one container below the run directory, which a reboot clears.

    The container has one directory of its own. It is the bundle, where the service writes
    ``config.json``, and conmon makes the ``attach`` socket and the ``ctl`` and ``winsz``
    FIFOs; and it is conmon's persist and working directory, for ``exit`` and ``oom``. The
    directories of exit file copies and of attach links are shared by all containers.
    """

    run_dir: Path
    container_id: str

    @cached_property
    def bundle(self) -> Path:
        """The container's own directory."""
        return self.run_dir / "containers" / self.container_id

    @cached_property
    def persist(self) -> Path:
        """conmon's persist directory."""
        return self.bundle

    @cached_property
    def spec_file(self) -> Path:
        """The OCI runtime spec that the runtime is given."""
        return self.bundle / "config.json"

    @cached_property
    def shown(self) -> Path:
        """Where the client's bundle is shown to hooks; see ``ocigrpc.oci.shown_bundle``."""
        return self.bundle / "bundle"

    @cached_property
    def init_pid_file(self) -> Path:
        """Process id of the container's first process; the runtime writes it."""
        return self.bundle / "init.pid"

    @cached_property
    def monitor_pid_file(self) -> Path:
        """Process id of conmon; its short-lived parent writes it."""
        return self.bundle / "conmon.pid"

    @cached_property
    def attach_socket(self) -> Path:
        """Socket of the container's input and output; conmon makes it."""
        return self.bundle / "attach"

    @cached_property
    def control_fifo(self) -> Path:
        """FIFO by which conmon is told to resize the terminal or reopen the log."""
        return self.bundle / "ctl"

    @cached_property
    def runtime_log(self) -> Path:
        """The runtime's errors during create, as JSON lines."""
        return self.bundle / "runtime.log"

    @cached_property
    def exit_file(self) -> Path:
        """The exit code in decimal; conmon writes it here and to :attr:`exit_copy`."""
        return self.persist / "exit"

    @cached_property
    def oom_file(self) -> Path:
        """Exists if the kernel killed a process of the container because memory ran out."""
        return self.persist / "oom"

    @cached_property
    def exits(self) -> Path:
        """Directory of all containers' exit file copies."""
        return self.run_dir / "exits"

    @cached_property
    def exit_copy(self) -> Path:
        """Copy of the exit code, in a directory that one inotify watch covers."""
        return self.exits / self.container_id

    @cached_property
    def sockets(self) -> Path:
        """Directory of all containers' attach links."""
        return self.run_dir / "sockets"

    @cached_property
    def socket_link(self) -> Path:
        """Link to the bundle, which some versions of conmon make and leave behind."""
        return self.sockets / self.container_id
