"""What several commands ask of their user and of their surroundings."""

import os
import shutil
from collections.abc import Collection
from typing import Annotated, TextIO

import typer

from gpucost.errors import UsageError
from gpucost.render import PIPE_WIDTH

MAX_WIDTH = 1000

RUN_HELP = "An id, the beginning of one, latest, latest~1, or the path of a run."

RunsOption = Annotated[
    str | None,
    typer.Option(
        "--runs",
        metavar="DIR",
        help="Where the runs are (default: $GPUCOST_RUNS, the configuration, ./.gpucost/runs).",
    ),
]
WidthOption = Annotated[
    int | None,
    typer.Option("--width", metavar="COLUMNS", help="Columns to print in (default: the terminal's, in a pipe 80)."),
]


def runs_folder(given: str | None) -> str:
    """The folder of all runs: `--runs`, `GPUCOST_RUNS`, the configuration, `.gpucost/runs`."""
    from gpucost import config, rundir

    return given or os.environ.get("GPUCOST_RUNS") or config.load().runs or rundir.DEFAULT_RUNS


def one_of(option: str, value: str, choices: Collection[str]) -> str:
    """A value that must be one of a few.

    Raises:
        UsageError: it is another.
    """
    if value not in choices:
        raise UsageError(f"{option} is {value!r}, but takes one of {', '.join(choices)}")
    return value


def width_for(file: TextIO, given: int | None = None) -> int:
    """Columns to print in: as given, else the terminal's, else 80.

    Raises:
        UsageError: fewer columns than 40, or absurdly many.
    """
    if given is None:
        return shutil.get_terminal_size((PIPE_WIDTH, 24)).columns if file.isatty() else PIPE_WIDTH
    from gpucost.render.terminal import MIN_WIDTH

    if not MIN_WIDTH <= given <= MAX_WIDTH:
        raise UsageError(f"--width is {given}, but takes columns from {MIN_WIDTH} to {MAX_WIDTH}")
    return given


def color_for(file: TextIO) -> bool:
    """Whether to print in colour: never with NO_COLOR, always with FORCE_COLOR, else on a terminal that has any."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return file.isatty() and os.environ.get("TERM") != "dumb"
