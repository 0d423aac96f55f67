"""What ``run`` and ``create`` make containers of: their options, and the request of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from ocigrpc.cli.images.wanted import PULL_OPTIONS, PullOptions, wanted_image
from ocigrpc.cli.parsed import Parsed
from ocigrpc.cli.programs import words
from ocigrpc.cli.programs.filesystems import FILESYSTEM_OPTIONS, FilesystemOptions, mounts_of
from ocigrpc.cli.programs.kernel import KERNEL_OPTIONS, KernelOptions, ask_kernel
from ocigrpc.cli.programs.limits import LIMIT_OPTIONS, LimitOptions, resources_of

if TYPE_CHECKING:
    from ocigrpc.client import Client
    from ocigrpc.v1.config_pb2 import (
        ContainerConfig,
        Device,
        SeccompProfile,
    )
    from ocigrpc.v1.runtime_pb2 import CreateContainerRequest


class ConfigOptions(LimitOptions, PullOptions, FilesystemOptions, KernelOptions):
    """The values of the options that say what a container without a bundle is."""

    rootfs: str | None
    entrypoint: list[str] | None
    env: Sequence[tuple[str, str | None]]
    env_file: Sequence[dict[str, str]]
    workdir: str
    user: str
    read_only: bool
    storage_opt: Sequence[int]
    cap_add: Sequence[list[str]]
    cap_drop: Sequence[list[str]]
    privileged: bool
    security_opt: Sequence[tuple[str, str]]
    device: Sequence[Device]
    hostname: str


class CreateOptions(ConfigOptions):
    """The values of all options that ``creating`` adds."""

    bundle: str | None
    name: str
    label: Sequence[tuple[str, str]]
    annotation: Sequence[tuple[str, str]]
    cgroup_parent: str
    interactive: bool
    terminal: bool
    runtime: str
    stop_signal: str


INTERACTIVE = click.Option(["--interactive", "-i"], is_flag=True, help="Keep its input open.")
TERMINAL = click.Option(["--tty", "-t", "terminal"], is_flag=True, help="Give it a terminal.")
ENV = click.Option(
    ["--env", "-e"],
    multiple=True,
    type=Parsed("key=value", words.variable),
    help="A variable; KEY alone takes its value from here.",
)
ENV_FILE = click.Option(
    ["--env-file"],
    multiple=True,
    type=Parsed("path", words.variables),
    help="A file with a variable on each line.",
)
WORKDIR = click.Option(
    ["--workdir", "-w"], default="", metavar="DIR", help="Where it starts, in the container."
)
USER = click.Option(
    ["--user", "-u"], default="", metavar="USER[:GROUP]", help="Who runs it: names or numbers."
)

# The service judges it: it may see what the caller does not.
_DIRECTORY = click.Path(readable=False)
_SOURCES = (
    click.Option(
        ["--rootfs"], type=_DIRECTORY, help="The directory that becomes its root, instead of IMAGE."
    ),
    click.Option(["--bundle", "-b"], type=_DIRECTORY, help="An OCI bundle, instead of IMAGE."),
)
_CONFIG = (
    *PULL_OPTIONS,
    click.Option(
        ["--entrypoint"],
        type=Parsed("program", words.entrypoint),
        help="The program that gets the command as its arguments; also as a JSON list of words."
        ' "": none, so that the command has the program.',
    ),
    ENV,
    ENV_FILE,
    WORKDIR,
    USER,
    *FILESYSTEM_OPTIONS,
    click.Option(["--read-only"], is_flag=True, help="Mount its root read-only."),
    click.Option(
        ["--storage-opt"],
        multiple=True,
        type=Parsed("option", words.storage),
        help="size=10g: the most that it writes to its root, if its disk has project quotas.",
    ),
    click.Option(
        ["--cap-add"],
        multiple=True,
        type=Parsed("names", words.capabilities),
        help="Add capabilities, or all.",
    ),
    click.Option(
        ["--cap-drop"],
        multiple=True,
        type=Parsed("names", words.capabilities),
        help="Remove capabilities, or all.",
    ),
    click.Option(["--privileged"], is_flag=True, help="As root on the host, for all purposes."),
    click.Option(
        ["--security-opt"],
        multiple=True,
        type=Parsed("option", words.security),
        help="seccomp=PATH, seccomp=unconfined, no-new-privileges[=false].",
    ),
    click.Option(
        ["--device"],
        multiple=True,
        type=Parsed("host[:container][:rwm]", words.device),
        help="A device of the host, or all those of a directory.",
    ),
    click.Option(["--hostname"], default="", metavar="NAME", help="Default: the short id."),
    *KERNEL_OPTIONS,
    *LIMIT_OPTIONS,
)
_OTHERS = (
    INTERACTIVE,
    TERMINAL,
    click.Option(["--name"], default="", help="A name, unique on the node."),
    click.Option(
        ["--label", "-l"],
        multiple=True,
        type=Parsed("key=value", words.label),
        help="A label.",
    ),
    click.Option(
        ["--annotation"],
        multiple=True,
        type=Parsed("key=value", words.label),
        help="An annotation, which the OCI runtime gets as well.",
    ),
    click.Option(
        ["--cgroup-parent"],
        default="",
        metavar="CGROUP",
        help="What its cgroup is below: a path, or a slice of systemd. Default: the settings'.",
    ),
    click.Option(["--runtime"], default="", metavar="NAME", help="An OCI runtime of the settings."),
    click.Option(["--stop-signal"], default="", metavar="SIGNAL", help="Default: SIGTERM."),
)


def adding(*options: click.Option) -> Callable[[click.Command], click.Command]:
    """A decorator that gives a command these options."""

    def decorate(command: click.Command) -> click.Command:
        command.params += options
        return command

    return decorate


CREATING = adding(*_SOURCES, *_OTHERS, *_CONFIG)
"""The decorator for ``CreateOptions``."""


def creation(
    client: Client, command: Sequence[str], options: CreateOptions
) -> CreateContainerRequest:
    """The request for a container, with an id that the service has never seen.

    ``command`` begins with the image if there is one, which is pulled if need be. A usage error if
    the options don't go together.
    """
    from ocigrpc.v1.runtime_pb2 import CreateContainerRequest

    bundle = options["bundle"]
    if bundle is not None:
        _refuse_with_bundle(command)
    return CreateContainerRequest(
        # Ours, so that what a cut off call may have made has a name.
        container_id=os.urandom(32).hex(),
        bundle_path=None if bundle is None else os.path.abspath(bundle),
        config=None if bundle is not None else _config(client, command, options),
        name=options["name"],
        labels=dict(options["label"]),
        annotations=dict(options["annotation"]),
        cgroup_parent=options["cgroup_parent"],
        stdin=options["interactive"],
        terminal=options["terminal"],
        runtime_handler=options["runtime"],
        stop_signal=options["stop_signal"],
    )


def _refuse_with_bundle(command: Sequence[str]) -> None:
    context = _context()
    if context.params.get("rootfs") is not None:
        raise click.UsageError("--rootfs and --bundle exclude each other.", context)
    if command:
        raise click.UsageError("The command is that of the bundle.", context)
    for option in _CONFIG:
        if context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} is for the bundle to say.", context)


def _context() -> click.Context:
    return click.get_current_context()


def _config(client: Client, command: Sequence[str], options: ConfigOptions) -> ContainerConfig:
    image, program = None, [*(options["entrypoint"] or ()), *command]
    if options["rootfs"] is None:
        if not command:
            problem = "An IMAGE is needed, or one of --rootfs and --bundle."
            raise click.UsageError(problem, _context())
        image, *arguments = command
        program = [*(options["entrypoint"] or ()), *arguments]
    is_the_images = image is not None and options["entrypoint"] is None
    if not (program or is_the_images):
        raise click.UsageError("A command is needed.", _context())
    config = _settled(options)
    # Without an entrypoint here, they are the arguments of the image's.
    (config.args if is_the_images else config.command).extend(program)
    if image is None:
        config.rootfs_path = os.path.abspath(options["rootfs"] or "")
    else:
        config.image = wanted_image(client, image, options)
    return config


def _settled(options: ConfigOptions) -> ContainerConfig:
    """All that options alone decide."""
    from ocigrpc.v1.config_pb2 import ContainerConfig

    security = dict(options["security_opt"])
    config = ContainerConfig(
        env=environment(options["env_file"], options["env"]),
        working_dir=options["workdir"],
        user=options["user"],
        mounts=mounts_of(options),
        resources=resources_of(options),
        add_capabilities=chain.from_iterable(options["cap_add"]),
        drop_capabilities=chain.from_iterable(options["cap_drop"]),
        seccomp=_seccomp(security.get("seccomp")),
        readonly_rootfs=options["read_only"],
        # As podman has it, the last one counts.
        rootfs_limit_bytes=next(reversed(options["storage_opt"]), 0),
        hostname=options["hostname"],
        devices=options["device"],
        privileged=options["privileged"],
    )
    ask_kernel(config, options)
    if (privileges := security.get("no-new-privileges")) is not None:
        config.no_new_privileges = privileges != "false"
    return config


def environment(
    files: Sequence[dict[str, str]], variables: Sequence[tuple[str, str | None]]
) -> dict[str, str]:
    """The variables of files and of the command line, which overrides them."""
    merged = {name: value for each in files for name, value in each.items()}
    return merged | {name: value for name, value in variables if value is not None}


def _seccomp(profile: str | None) -> SeccompProfile | None:
    from ocigrpc.v1 import config_pb2 as pb

    if profile is None:
        return None
    if profile == "unconfined":
        return pb.SeccompProfile(type=pb.SECCOMP_TYPE_UNCONFINED)
    return pb.SeccompProfile(type=pb.SECCOMP_TYPE_LOCALHOST, localhost_ref=os.path.abspath(profile))
