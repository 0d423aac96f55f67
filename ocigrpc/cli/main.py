"""The ``ocigrpc`` command: its options, its commands, and how all of them end.

Exit status: 0 when all went well, 1 for a failure, 2 for a wrong command line or wrong settings,
141 when the output has no reader, 130 after SIGINT. ``run``, ``exec``, ``attach`` and ``wait`` end
with the exit code of their program, and with 125, 126 or 127 for failures, as in podman; ``rmi``
with 1 or 2 for images that are not there or in use, ``image exists`` with 1 for one that is not
there, and both with 125 for all other failures. Each failure is one line on standard error.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import click
from click.shell_completion import shell_complete

from ocigrpc import __version__
from ocigrpc.cli.completion import VARIABLE as COMPLETION_VARIABLE
from ocigrpc.cli.failures import (
    EXIT_BY_SIGNAL,
    EXIT_FAILED,
    EXIT_OURS,
    EXIT_USAGE,
    Failed,
    complain,
    explain,
    program_status,
)
from ocigrpc.cli.lazy_group import LazyGroup
from ocigrpc.cli.session import Session
from ocigrpc.cli.streams import OutputLost, prepare_streams, whole_output
from ocigrpc.errors import OcigrpcError

_COMMANDS = {
    "attach": "ocigrpc.cli.programs.attach:attach",
    "backup": "ocigrpc.cli.backup:backup",
    "completion": "ocigrpc.cli.completion:completion",
    "cp": "ocigrpc.cli.copying.cp:cp",
    "create": "ocigrpc.cli.programs.run:create",
    "doctor": "ocigrpc.cli.doctor.command:doctor",
    "events": "ocigrpc.cli.views.events:events",
    "exec": "ocigrpc.cli.programs.exec:exec_command",
    "history": "ocigrpc.cli.images.inspect:history",
    "image": "ocigrpc.cli.images.image_group:image",
    "images": "ocigrpc.cli.images.images:images",
    "inspect": "ocigrpc.cli.views.inspect:inspect",
    "install-units": "ocigrpc.cli.install_units:install_units",
    "kill": "ocigrpc.cli.verbs:kill",
    "load": "ocigrpc.cli.images.archives:load",
    "logs": "ocigrpc.cli.views.logs:logs",
    "pause": "ocigrpc.cli.verbs:pause",
    "protos": "ocigrpc.cli.protos:protos",
    "ps": "ocigrpc.cli.views.ps:ps",
    "pull": "ocigrpc.cli.images.pull:pull",
    "resume": "ocigrpc.cli.verbs:resume",
    "rm": "ocigrpc.cli.verbs:rm",
    "rmi": "ocigrpc.cli.images.rmi:rmi",
    "run": "ocigrpc.cli.programs.run:run",
    "save": "ocigrpc.cli.images.archives:save",
    "serve": "ocigrpc.cli.daemon.commands:serve_command",
    "settings": "ocigrpc.cli.daemon.commands:settings_command",
    "start": "ocigrpc.cli.verbs:start",
    "stats": "ocigrpc.cli.views.stats:stats",
    "stop": "ocigrpc.cli.verbs:stop",
    "system": "ocigrpc.cli.images.system_group:system",
    "tag": "ocigrpc.cli.images.tag:tag",
    "top": "ocigrpc.cli.views.top:top",
    "update": "ocigrpc.cli.programs.update:update",
    "version": "ocigrpc.cli.views.version:version",
    "wait": "ocigrpc.cli.verbs:wait",
}

# What other engines call them.
_OTHER_NAMES = {"unpause": "resume", "ls": "ps", "list": "ps", "remove": "rm"}

# Their exit status is a program's, or says something else, so that failures of our own need others.
_LIKE_PROGRAMS = ("run", "exec", "attach", "wait", "rmi", "image rm", "image exists")


class _Main(LazyGroup):
    """The group of all commands, which makes the session before one of them runs."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; a usage error for one that is elsewhere that of another."""
        if cmd_name in _OTHER_NAMES and not ctx.resilient_parsing:
            ctx.fail(f"No such command {cmd_name!r}; did you mean {_OTHER_NAMES[cmd_name]!r}?")
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command of the context; its result."""
        ctx.obj = Session.of(ctx.params)
        ctx.params.clear()
        return super().invoke(ctx)


def _options() -> list[click.Parameter]:
    path = click.Path(exists=True, dir_okay=False)
    return [
        click.Option(
            ["--address"],
            envvar="OCIGRPC_ADDRESS",
            show_envvar=True,
            default="unix:///run/ocigrpc/ocigrpc.sock",
            show_default=True,
            help="Of the service: the path of its socket, unix:///PATH, or HOST:PORT.",
        ),
        click.Option(["--tls-cert"], type=path, help="Your certificate, for HOST:PORT; PEM."),
        click.Option(["--tls-key"], type=path, help="Its private key; PEM."),
        click.Option(["--tls-ca"], type=path, help="Who may have signed the service's; PEM."),
        click.Option(["--debug"], is_flag=True, help="Show all that is known of a failure."),
    ]


cli = _Main(
    "ocigrpc",
    _COMMANDS,
    params=_options(),
    help_text="A container runtime service for one node, and its client.",
)
click.version_option(__version__, prog_name="ocigrpc", message="%(prog)s %(version)s")(cli)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; ``argv`` is without the program's name, by default the process's own."""
    prepare_streams()
    try:
        with whole_output():
            return _run(_words(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:
        # The status of a program that SIGPIPE ends, as it ends most programs.
        return EXIT_BY_SIGNAL + signal.SIGPIPE
    except OutputLost as error:
        complain(f"can't write to standard output: {error.strerror}")
        return EXIT_FAILED


def _words(argv: Sequence[str]) -> list[str]:
    """The arguments, which are UTF-8 whatever the locale says."""
    return [os.fsencode(word).decode(errors="surrogateescape") for word in argv]


def _run(argv: list[str]) -> int:
    # Not click's own main, which ends the process with another status when a reader goes.
    if instruction := os.environ.get(COMPLETION_VARIABLE):
        return shell_complete(cli, {}, "ocigrpc", COMPLETION_VARIABLE, instruction)
    like_program = _command_of(argv) in _LIKE_PROGRAMS
    failed, wrong = (EXIT_OURS,) * 2 if like_program else (EXIT_FAILED, EXIT_USAGE)
    try:
        with cli.make_context("ocigrpc", argv) as ctx:
            try:
                status = cli.invoke(ctx)
            except OcigrpcError as error:
                explain(error, debug=ctx.obj.debug)
                return program_status(error) if like_program else EXIT_FAILED
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "ocigrpc"
        return _complained(f"{error.format_message()} See '{path} --help'.", wrong)
    except click.ClickException as error:
        return _complained(error.format_message(), EXIT_USAGE)
    except UnicodeEncodeError as error:
        return _complained(f"{error.object!r} is not {error.encoding.upper()}", wrong)
    except (click.Abort, KeyboardInterrupt):
        return EXIT_BY_SIGNAL + signal.SIGINT
    except Failed as failure:
        own = failure.status
        return _complained(failure.message, failed if own == EXIT_FAILED else own)
    except (BrokenPipeError, OutputLost):
        raise
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _complained(f"{place}{error.strerror or error}", failed)
    return status if isinstance(status, int) else 0


def _command_of(argv: Sequence[str]) -> str:
    """The command, from the words alone, since options before it may be wrong; with its group's."""
    place = next((at for at, word in enumerate(argv) if word in _COMMANDS), len(argv))
    return " ".join(argv[place : place + 2 if argv[place : place + 1] == ["image"] else place + 1])


def _complained(message: str, status: int) -> int:
    complain(message)
    return status
