"""``version`` and ``completion``."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import click

from remediator import __version__
from remediator.cli.frame import command
from remediator.cli.output import formatted, put_data

if TYPE_CHECKING:
    from remediator.cli.output import Form

__all__ = ["completion", "version"]


@command(name="version", examples=["remediator version", "remediator version -o json"])
@formatted
def version(form: Form) -> None:
    """Print the version."""
    python = platform.python_version()
    data = {"version": __version__, "python": python, "platform": f"{platform.system()} {platform.machine()}"}
    put_data(
        form,
        data,
        lambda wide: f"remediator {__version__}" + (f", Python {python}, {data['platform']}" if wide else "") + "\n",
        lambda: [__version__],
    )


@command(
    name="completion",
    examples=[
        "remediator completion bash > /etc/bash_completion.d/remediator",
        'remediator completion zsh > "${fpath[1]}/_remediator"',
        "remediator completion fish > ~/.config/fish/completions/remediator.fish",
    ],
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import ShellComplete, get_completion_class

    from remediator.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows these three
    # Not kind.source(): bash's runs the bash on the path to see its version, which says nothing about the shell that will read this.
    click.echo(ShellComplete.source(kind(cli, {}, "remediator", "_REMEDIATOR_COMPLETE")))
