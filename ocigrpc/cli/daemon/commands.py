"""The commands ``serve`` and ``settings``, with a flag for each setting."""

from __future__ import annotations

import os
from collections.abc import Mapping

import click
import msgspec

from ocigrpc.cli.failures import EXIT_USAGE, Failed
from ocigrpc.errors import InvalidSettings
from ocigrpc.settings.sources import CONFIG_VARIABLE, DEFAULT_CONFIG_PATH, load_settings
from ocigrpc.settings.table import Setting, settings_table
from ocigrpc.settings.values import Settings


def settings_flags() -> list[click.Parameter]:
    """A flag for each setting, and one for the settings file."""
    return [
        click.Option(
            ["--config"],
            metavar="PATH",
            help=f"Settings file (default: {DEFAULT_CONFIG_PATH} if it exists) [{CONFIG_VARIABLE}]",
        ),
        *map(_flag, settings_table()),
    ]


def _flag(setting: Setting) -> click.Option:
    return click.Option(
        [setting.flag, setting.key.replace(".", "_")],
        metavar=_metavar(setting),
        help=f"{setting.description} (default: {setting.default}) [{setting.variable}]",
    )


def _metavar(setting: Setting) -> str:
    if setting.choices:
        return "|".join(setting.choices)
    unit = setting.key.rpartition("_")[2].upper()
    return "JSON" if setting.is_table else {"S": "SECONDS"}.get(unit, unit)


def settings_of(config: str | None, flags: Mapping[str, str | None]) -> Settings:
    """The settings in force, with what the flags were given. Raises ``Failed``."""
    try:
        return _load(config, flags)
    except InvalidSettings as error:
        raise Failed(error.message, EXIT_USAGE) from error


def _load(config: str | None, flags: Mapping[str, str | None]) -> Settings:
    keys = {each.key.replace(".", "_"): each.key for each in settings_table()}
    given = {keys[name]: text for name, text in flags.items() if text is not None}
    return load_settings(environ=os.environ, flags=given, config_path=config)


def _serve(config: str | None, **flags: str | None) -> int:
    settings = settings_of(config, flags)
    # Imported here, since it loads gRPC and the engine, which no other command should wait for.
    from ocigrpc.cli.daemon.serve import serve

    return serve(settings, lambda: _load(config, flags))


def _print_settings(config: str | None, **flags: str | None) -> None:
    settings = settings_of(config, flags)
    click.echo(msgspec.json.format(msgspec.json.encode(settings.effective())).decode())


serve_command = click.Command(
    "serve",
    callback=_serve,
    params=settings_flags(),
    help="Run the service until SIGTERM, SIGINT or SIGQUIT. SIGHUP has it read its settings again.",
)

settings_command = click.Command(
    "settings",
    callback=_print_settings,
    params=settings_flags(),
    help="Print the settings in force as JSON.",
)
