"""The ``ocigrpc`` command: its flags, and the functions of its commands.

Exit status: 0 when all went well, 1 when the service can't start or fails, 2 for wrong
flags or settings, 141 when its output has no reader. Each failure is one line on standard
error.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import msgspec

from ocigrpc import __version__
from ocigrpc.cli.protos import write_protos
from ocigrpc.errors import InvalidSettings
from ocigrpc.settings.sources import CONFIG_VARIABLE, DEFAULT_CONFIG_PATH, load_settings
from ocigrpc.settings.table import Setting, settings_table

EXIT_FAILED = 1
EXIT_USAGE = 2
# Added to the number of a signal, as shells do.
EXIT_BY_SIGNAL = 128


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; ``argv`` is without the program's name, by default the process's own."""
    try:
        with _whole_output():
            return _run(argv)
    except BrokenPipeError:
        # The status of a program that SIGPIPE ends, as it ends most programs.
        return EXIT_BY_SIGNAL + signal.SIGPIPE
    except OSError as error:
        print(f"ocigrpc: can't write to standard output: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED


def _run(argv: Sequence[str] | None) -> int:
    flags: dict[str, str] = vars(_parser().parse_args(argv))
    command = flags.pop("command")
    if command == "protos":
        return _write_protos(flags["directory"])
    config_path = flags.pop("config", None)
    try:
        settings = load_settings(environ=os.environ, flags=flags, config_path=config_path)
    except InvalidSettings as error:
        print(f"ocigrpc: {error.message}", file=sys.stderr)
        return EXIT_USAGE
    if command == "settings":
        print(msgspec.json.format(msgspec.json.encode(settings.effective())).decode())
        return 0
    # Imported here, since it loads gRPC, which no other command should wait for.
    from ocigrpc.cli.serve import serve

    return 0 if serve(settings) else EXIT_FAILED


@contextmanager
def _whole_output() -> Iterator[None]:
    """Raise ``OSError`` unless all output of the block is written, even if the block exits."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError:
        # Otherwise the interpreter tries again at its end, and prints a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _write_protos(directory: str) -> int:
    try:
        written = write_protos(Path(directory))
    except OSError as error:
        print(f"ocigrpc: can't write to {directory}: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED
    print(*written, sep="\n")
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # Without the usage, which with a flag for each setting would hide the message.
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="ocigrpc", description="A container runtime service for one node.")
    parser.add_argument("--version", action="version", version=f"ocigrpc {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in (
        ("serve", "Run the service until SIGTERM, SIGINT, SIGQUIT or SIGHUP."),
        ("settings", "Print the settings in force as JSON."),
    ):
        # No abbreviations, since new settings would change their meaning.
        command = commands.add_parser(
            name,
            help=help_text,
            description=help_text,
            allow_abbrev=False,
            usage=f"ocigrpc {name} [--config PATH] [--SETTING VALUE]...",
        )
        _add_flags(command)
    help_text = "Write the .proto files of the API below a directory, and print their paths."
    protos = commands.add_parser("protos", help=help_text, description=help_text)
    protos.add_argument("directory", metavar="DIR", help="Made if it is missing.")
    return parser


def _add_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config",
        metavar="PATH",
        default=argparse.SUPPRESS,
        help=f"Settings file (default: {DEFAULT_CONFIG_PATH} if it exists) [{CONFIG_VARIABLE}]",
    )
    for setting in settings_table():
        command.add_argument(
            setting.flag,
            dest=setting.key,
            metavar=_metavar(setting),
            default=argparse.SUPPRESS,
            help=f"{setting.description} (default: {setting.default}) [{setting.variable}]",
        )


def _metavar(setting: Setting) -> str:
    if setting.choices:
        return "|".join(setting.choices)
    unit = setting.key.rpartition("_")[2].upper()
    return "JSON" if setting.is_table else {"S": "SECONDS"}.get(unit, unit)
