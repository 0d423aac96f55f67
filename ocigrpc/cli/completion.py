"""The command ``completion``: what a shell needs to complete the others."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ocigrpc.cli.failures import Failed

# By which the shell's functions ask this program for words.
VARIABLE = "_OCIGRPC_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    r"""Print the completion script for a shell.

    \b
    bash: ocigrpc completion bash > /etc/bash_completion.d/ocigrpc
    zsh:  ocigrpc completion zsh > /usr/share/zsh/site-functions/_ocigrpc
    fish: ocigrpc completion fish > /etc/fish/completions/ocigrpc.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise Failed(f"no completion is known for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "ocigrpc", VARIABLE).source())
