"""`gpucost runs`: the list of runs."""

import sys
from typing import Annotated

import typer

from gpucost.cli.options import RunsOption, WidthOption, color_for, one_of, runs_folder, width_for


def runs(
    runs_dir: RunsOption = None,
    output: Annotated[
        str, typer.Option("--format", "-f", metavar="terminal|json", help="How to print it.")
    ] = "terminal",
    width: WidthOption = None,
) -> None:
    """List the runs, newest first: what, how long, GPU-hours, how it ended. What one cost is in its report."""
    from gpucost.render.runs import FORMATS, render
    from gpucost.report.runs import list_lines

    one_of("--format", output, FORMATS)
    columns = width_for(sys.stdout, width)
    folder = runs_folder(runs_dir)
    lines = list_lines(folder)
    if not lines and output == "terminal":
        from gpucost.rundir import printable

        print(f"gpucost: no runs in {printable(folder)} yet", file=sys.stderr)
        return
    render(lines, sys.stdout, output=output, width=columns, color=color_for(sys.stdout))
