"""What all commands share: lazy groups, examples in the help, the options that find the daemon, and the way out.

The options ``--server``, ``--token-file``, ``--config`` and ``-v`` may stand before or after the command; the one nearest to
the end of the line wins. The environment is asked only where no flag was given.
"""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from remediator.cli.exits import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from click.shell_completion import CompletionItem

__all__ = ["Command", "Entry", "Flags", "Group", "Root", "command", "configured", "connects", "flags", "group"]


class Flags:
    """What was said about the daemon on the command line or in the environment."""

    def __init__(self) -> None:
        self.server: str | None = None
        self.token_file: str | None = None
        self.config: str | None = None
        self.verbose = False


def flags() -> Flags:
    """The flags of the command that runs now."""
    found: Flags = click.get_current_context().find_root().ensure_object(Flags)
    return found


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Remember a flag; one that was not given leaves alone what stands."""
    if value not in (None, False) and param.name is not None:
        setattr(ctx.find_root().ensure_object(Flags), param.name, value)


def _options(*, env: bool) -> list[click.Option]:
    def option(*names: str, var: str, **more: Any) -> click.Option:
        return click.Option(names, envvar=var if env else None, show_envvar=env, callback=_keep, expose_value=False, **more)

    return [
        option("--server", var="REMEDIATOR_SERVER", metavar="URL", help="Address of the daemon."),
        option("--token-file", var="REMEDIATOR_TOKEN_FILE", metavar="FILE", help="File that holds the bearer token."),
        option(
            "--config",
            var="REMEDIATOR_CONFIG",
            metavar="FILE",
            help="The daemon's settings file: its address and tokens, where no flag gives them.",
        ),
    ]


def _verbose() -> click.Option:
    told = "Show tracebacks and debug messages."
    return click.Option(("-v", "--verbose"), is_flag=True, callback=_keep, expose_value=False, help=told)


def connects(callback: Any) -> Any:
    """Decorate a command that talks to the daemon: it takes the options that find it."""
    return _with(callback, _options(env=False))


def configured(callback: Any) -> Any:
    """Decorate a command that may read the settings file and talks to nobody."""
    return _with(callback, _options(env=False)[2:])


def _with(callback: Any, options: Sequence[click.Option]) -> Any:
    """What ``click.option`` does, for options that exist already."""
    params: list[click.Parameter] = callback.__dict__.setdefault("__click_params__", [])
    params.extend(reversed(options))
    return callback


class _Examples(click.Command):
    """Writes the examples below the options, unwrapped, so that they can be copied."""

    examples: Sequence[str] = ()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            formatter.write("\nExamples:\n")
            formatter.write("".join(f"  {line}\n" for line in self.examples))


class Command(_Examples):
    """A command with examples."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_verbose())
        self.examples = examples


class Group(_Examples, click.Group):
    """A group of commands with examples."""

    command_class = Command

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples


def command(*, name: str, examples: Sequence[str]) -> Callable[[Any], Command]:
    """``click.command`` of our class."""
    return click.command(name=name, cls=Command, examples=examples)


def group(*, name: str, examples: Sequence[str]) -> Callable[[Any], Group]:
    """``click.group`` of our class."""
    return click.group(name=name, cls=Group, examples=examples)


class Entry(NamedTuple):
    """Where a command is: its module in this package, its name there, and its summary for the help."""

    module: str
    attribute: str
    summary: str


class Root(Group):
    """The program: imports a command's module when that command is asked for, and turns errors into exit codes."""

    def __init__(self, *, sections: Mapping[str, Mapping[str, Entry]], version: str, **kwargs: Any) -> None:
        settings = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
        super().__init__(params=[*_options(env=True), _verbose(), _version_option(version)], context_settings=settings, **kwargs)
        self.sections = sections
        self.entries = {name: entry for section in sections.values() for name, entry in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click."""
        del ctx
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click. Imports the module of this one command."""
        del ctx
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        found: click.Command = getattr(importlib.import_module(f"remediator.cli.{entry.module}"), entry.attribute)
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """See click; suggests a name without importing what carries it."""
        name = args[0]
        if name not in self.entries and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.NoSuchCommand(name, possibilities=self.entries, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click; by section, in the order of the table."""
        del ctx
        width = max(map(len, self.entries))
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.summary) for name, entry in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """See click; names and summaries come from the table."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(n, help=e.summary) for n, e in self.entries.items() if n.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """See click; in standalone mode it ends the process with one of our exit codes."""
        kept = extra.setdefault("obj", Flags())
        call = partial(super().main, args, prog_name, complete_var, standalone_mode=False, **extra)
        if not standalone_mode:
            return call()
        raise SystemExit(guarded(call, lambda: kept.verbose))


def _version_option(version: str) -> click.Option:
    def show(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted:
            click.echo(f"remediator {version}")
            ctx.exit()

    return click.Option(("--version",), is_flag=True, is_eager=True, expose_value=False, callback=show, help="Print the version and exit.")
