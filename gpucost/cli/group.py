"""All commands as one command line, of which only the one that is asked for is imported."""

from importlib import import_module
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from gpucost.cli.app import COMMANDS
from gpucost.errors import UsageError


class LazyGroup(typer.core.TyperGroup):
    """Commands by name from `COMMANDS`."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (click's signature)
        """Every name, in the order of the overview."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """One command, imported now; a module with a `group` has commands of its own. None when there is none of this name."""
        command = COMMANDS.get(cmd_name)
        if command is None:
            return None
        module = import_module(command.module)
        if hasattr(module, "group"):
            return typer.main.get_command(module.group)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        settings = {**_SETTINGS, **(command.settings or {})}
        single.command(cmd_name, context_settings=settings)(getattr(module, cmd_name))
        return typer.main.get_command(single)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """The overview, out of the table: it needs no command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command and its arguments; an unknown one gets the nearest as a hint."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, n=1)
            known = f"the commands are {', '.join(COMMANDS)}"
            raise UsageError(f"there is no command {name!r}", hint=f"did you mean {near[0]!r}?" if near else known)
        return super().resolve_command(ctx, args)


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def build() -> Any:
    """The whole command line, as a click command."""
    app = typer.Typer(cls=LazyGroup, rich_markup_mode=None, context_settings=_SETTINGS)
    app.callback(invoke_without_command=True)(_root)
    return typer.main.get_command(app)


def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """What a GPU run cost, which stage spent it, and how much was paid for GPUs that sat idle.

    gpucost record -- COMMAND records a run; gpucost report says what it cost.
    """
    if version:
        from gpucost._version import __version__

        typer.echo(f"gpucost {__version__}")
    elif ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(2)
