"""`gpucost report`: what a run cost, by GPU, by stage and by use."""

import sys
from typing import Annotated

import typer

from gpucost.cli.options import color_for, one_of, runs_folder, width_for


def report(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="An id, the beginning of one, latest, latest~1, or the path of a run.",
            show_default="latest",
        ),
    ] = "latest",
    runs: Annotated[
        str | None,
        typer.Option(
            "--runs",
            metavar="DIR",
            help="Where the runs are (default: $GPUCOST_RUNS, the configuration, ./.gpucost/runs).",
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--format", "-f", metavar="terminal|markdown|json", help="How to print it.")
    ] = "terminal",
    price: Annotated[
        str | None,
        typer.Option(
            "--price",
            metavar="USD",
            help="Price of one GPU for one hour (default: what was said when recording, $GPUCOST_PRICE, the configuration, list prices).",
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region",
            metavar="REGION",
            help="Grid region for CO2e: a country (FRA) or a cloud region (gcp:us-central1).",
        ),
    ] = None,
    idle_after: Annotated[
        float | None,
        typer.Option(
            "--idle-after", metavar="SECONDS", help="A held GPU without a kernel for this long is idle (default: 1)."
        ),
    ] = None,
    idle_split: Annotated[
        str | None,
        typer.Option(
            "--idle-split", metavar="owner|equal|none", help="Who is charged for the GPU's idle power (default: owner)."
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option("--width", metavar="COLUMNS", help="Columns to print in (default: the terminal's, in a pipe 80)."),
    ] = None,
) -> None:
    """Say what a run cost, by GPU, by stage and by use, and what each figure rests on."""
    from gpucost import rundir
    from gpucost.render import RENDERERS, renderer

    one_of("--format", output, RENDERERS)
    columns = width_for(sys.stdout, width)
    path = rundir.find(runs_folder(runs), run)
    from gpucost.report import load_report

    made = load_report(path, price=price, region=region, idle_after_s=idle_after, idle_split=idle_split)
    renderer(output)(made, sys.stdout, width=columns, color=color_for(sys.stdout))
