"""Where the files of one container are, and who writes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ContainerPaths:
    """The paths of one container below the run directory, which a reboot clears.

    The container has one directory of its own. It is the bundle, where the service writes
    ``config.json``, and conmon makes the ``attach`` socket and the ``ctl`` and ``winsz``
    FIFOs; and it is conmon's persist and working directory, for ``exit`` and ``oom``. The
    directories of exit file copies and of attach links are shared by all containers. They are
    text, since building a Path takes many times as long, and every life uses each of them.
    """

    run_dir: str
    container_id: str

    @property
    def bundle(self) -> str:
        """The container's own directory."""
        return f"{self.run_dir}/containers/{self.container_id}"

    @property
    def spec_file(self) -> str:
        """The OCI runtime spec that the runtime is given."""
        return f"{self.bundle}/config.json"

    @property
    def shown(self) -> str:
        """Where the client's bundle is shown to hooks; see ``ocigrpc.oci.shown_bundle``."""
        return f"{self.bundle}/bundle"

    @property
    def init_pid_file(self) -> str:
        """Process id of the container's first process; the runtime writes it."""
        return f"{self.bundle}/init.pid"

    @property
    def monitor_pid_file(self) -> str:
        """Process id of conmon; its short-lived parent writes it."""
        return f"{self.bundle}/conmon.pid"

    @property
    def attach_socket(self) -> str:
        """Socket of the container's input and output; conmon makes it."""
        return f"{self.bundle}/attach"

    @property
    def control_fifo(self) -> str:
        """FIFO that makes conmon resize the terminal or reopen the log."""
        return f"{self.bundle}/ctl"

    @property
    def runtime_log(self) -> str:
        """The runtime's errors during create, as JSON lines."""
        return f"{self.bundle}/runtime.log"

    @property
    def exit_file(self) -> str:
        """The exit code in decimal; conmon writes it here and to :attr:`exit_copy`."""
        return f"{self.bundle}/exit"

    @property
    def oom_file(self) -> str:
        """Exists if the kernel killed a process of the container because memory ran out."""
        return f"{self.bundle}/oom"

    @property
    def exits(self) -> str:
        """Directory of all containers' exit file copies."""
        return f"{self.run_dir}/exits"

    @property
    def exit_copy(self) -> str:
        """Copy of the exit code, in a directory that one inotify watch covers."""
        return f"{self.exits}/{self.container_id}"

    @property
    def sockets(self) -> str:
        """Directory of all containers' attach links."""
        return f"{self.run_dir}/sockets"

    @property
    def socket_link(self) -> str:
        """Link to the bundle, which some versions of conmon make and leave behind."""
        return f"{self.sockets}/{self.container_id}"
