"""`gpucost stage`: the long way in, for help and for explaining mistakes."""

from typing import Annotated

import typer

from gpucost.recorder.stage_command import StageOptions, run


def stage(
    name: Annotated[str, typer.Argument(help="The stage's name.", show_default=False)],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND [ARGS]...", help="The command that is the stage.", show_default=False),
    ] = None,
    attr: Annotated[
        list[str] | None, typer.Option("--attr", metavar="K=V", help="An attribute of the stage; may be repeated.")
    ] = None,
) -> None:
    """Run COMMAND as a stage of the recording around it.

    Outside a recording the command just runs. The exit code is the command's.
    """
    words = command or []
    raise typer.Exit(run(StageOptions(name, words[1:] if words[:1] == ["--"] else words, attr or [])))
