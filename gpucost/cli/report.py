"""`gpucost report`: what a run cost, by GPU, by stage and by use."""

import sys
from typing import Annotated

import typer

from gpucost.cli.options import RUN_HELP, RunsOption, WidthOption, color_for, one_of, runs_folder, width_for

_PRICE_HELP = "Price of one GPU for one hour (default: what was said when recording, $GPUCOST_PRICE, the configuration, list prices)."
_REGION_HELP = "Grid region for CO2e: a country (FRA) or a cloud region (gcp:us-central1)."
_IDLE_AFTER_HELP = "A held GPU without a kernel for this long is idle (default: 1)."
_IDLE_SPLIT_HELP = "Who is charged for the GPU's idle power (default: owner)."


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP, show_default="latest")] = "latest",
    runs: RunsOption = None,
    output: Annotated[
        str, typer.Option("--format", "-f", metavar="terminal|markdown|json", help="How to print it.")
    ] = "terminal",
    price: Annotated[str | None, typer.Option("--price", metavar="USD", help=_PRICE_HELP)] = None,
    region: Annotated[str | None, typer.Option("--region", metavar="REGION", help=_REGION_HELP)] = None,
    idle_after: Annotated[float | None, typer.Option("--idle-after", metavar="SECONDS", help=_IDLE_AFTER_HELP)] = None,
    idle_split: Annotated[
        str | None, typer.Option("--idle-split", metavar="owner|equal|none", help=_IDLE_SPLIT_HELP)
    ] = None,
    width: WidthOption = None,
) -> None:
    """Say what a run cost, by GPU, by stage and by use, and what each figure rests on."""
    from gpucost import rundir
    from gpucost._memory import spare_memory
    from gpucost.render import RENDERERS, renderer
    from gpucost.report import load_report

    one_of("--format", output, RENDERERS)
    columns = width_for(sys.stdout, width)
    path = rundir.find(runs_folder(runs), run)
    spare_memory()
    made = load_report(path, price=price, region=region, idle_after_s=idle_after, idle_split=idle_split)
    renderer(output)(made, sys.stdout, width=columns, color=color_for(sys.stdout))
