"""How conmon is started for a container: what decides it, and the command line made of that.

Written against conmon 2.1.6 to 2.2. What differs between versions stays inside this floor.
"""

from __future__ import annotations

from msgspec import Struct

from ocigrpc.oci.options import Option
from ocigrpc.oci.paths import ContainerPaths

# The options that we pass and that some versions lack, and what is lost without each.
OPTIONS = (
    Option("--exit-dir", "exit codes are in one place only", "/x"),
    Option("--persist-dir", "exit codes and out-of-memory kills are recorded less reliably", "/x"),
    Option("--socket-dir-path", "Attach may not work", "/x"),
    Option("--full-attach", "Attach may not work where run_dir has a long name"),
    Option("--log-level", "conmon_log_level is of no effect", "warning"),
    Option("--leave-stdin-open", "standard input ends with the first client of Attach that leaves"),
    Option(
        "--log-size-max",
        "CreateContainer refuses log_size_max_bytes, and logs that the service rotates may "
        "grow beyond log_max_bytes meanwhile",
        "1000",
    ),
    Option("--no-pivot", "CreateContainer refuses no_pivot"),
)


class ConmonOptions(Struct, frozen=True):
    """All that decides how conmon is started for a container.

    ``shows_bundle`` is whether the runtime gets the bundle that hooks are shown in place of
    the container's own directory; ``unknown`` are options of conmon, and of the runtime, that
    they do not know.
    """

    conmon_path: str
    container_id: str
    paths: ContainerPaths
    runtime_path: str
    runtime_argv: tuple[str, ...]
    log_path: str
    log_level: str
    log_size_max_bytes: int = 0
    systemd_cgroup: bool = False
    terminal: bool = False
    stdin: bool = False
    stdin_once: bool = False
    no_pivot: bool = False
    shows_bundle: bool = False
    unknown: frozenset[str] = frozenset()


def create_argv(options: ConmonOptions) -> list[str]:
    """The command line by which conmon creates the container and stays with it."""
    paths = options.paths
    argv = [options.conmon_path]
    if options.systemd_cgroup:
        argv.append("-s")
    argv += [
        *("-c", options.container_id),
        *("-u", options.container_id),
        *("-r", options.runtime_path),
        *("-b", paths.bundle),
        *("-p", paths.init_pid_file),
        *("-P", paths.monitor_pid_file),
        *("-l", options.log_path),
    ]
    for name, *value in (
        ("--persist-dir", paths.bundle),
        ("--exit-dir", paths.exits),
        ("--socket-dir-path", paths.sockets),
        ("--full-attach",),
        ("--log-level", options.log_level),
    ):
        if name not in options.unknown:
            argv += [name, *value]
    argv += _stdio_argv(options)
    if options.log_size_max_bytes and "--log-size-max" not in options.unknown:
        argv += ["--log-size-max", str(options.log_size_max_bytes)]
    return argv + _runtime_argv(options)


def _stdio_argv(options: ConmonOptions) -> list[str]:
    argv = ["-t"] if options.terminal else []
    if options.stdin:
        argv.append("-i")
        if not options.stdin_once and "--leave-stdin-open" not in options.unknown:
            # Without it the first client to leave closes standard input for the others, too.
            argv.append("--leave-stdin-open")
    return argv


def _runtime_argv(options: ConmonOptions) -> list[str]:
    """What conmon passes to the runtime."""
    argv = ["--no-pivot"] if options.no_pivot else []
    if options.shows_bundle:
        # The runtime takes the last --bundle. conmon's own is where its sockets are.
        argv.append(f"--runtime-opt=--bundle={options.paths.shown}")
    argv += [f"--runtime-arg={word}" for word in options.runtime_argv]
    if not options.unknown & {"--log", "--log-format"}:
        log = f"--log={options.paths.runtime_log}"
        argv += [f"--runtime-arg={log}", "--runtime-arg=--log-format=json"]
    return argv
