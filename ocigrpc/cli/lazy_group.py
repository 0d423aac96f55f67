"""A group of commands that are imported when they are used, so that each starts fast."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import click


class LazyGroup(click.Group):
    """Commands by their names: each is an attribute of a module, as in ``package.module:name``."""

    def __init__(
        self,
        name: str,
        places: Mapping[str, str],
        *,
        params: list[click.Parameter],
        help_text: str,
    ) -> None:
        super().__init__(name, params=params, help=help_text, subcommand_metavar="COMMAND ...")
        self.no_args_is_help = False
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the alphabet."""
        return sorted(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; None if there is none."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command), place
        # The whole first paragraph, of which click would show the beginning.
        command.short_help = " ".join((command.help or "").split("\n\n")[0].split())
        return command
