"""`gpucost record`: the long way in, for help and for explaining mistakes; see `gpucost.recorder.options.parse` for the short one."""

from typing import Annotated

import typer

from gpucost.recorder.options import RecordOptions


def record(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND [ARGS]...", help="The command to record.", show_default=False),
    ] = None,
    runs: Annotated[
        str | None,
        typer.Option(
            "--runs",
            metavar="DIR",
            help="Where recordings are kept (default: $GPUCOST_RUNS, the configuration, ./.gpucost/runs).",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="A name for people.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", metavar="K=V", help="A label; may be repeated.")] = None,
    price: Annotated[
        str | None,
        typer.Option(
            "--price",
            metavar="USD",
            help="Price of one GPU for one hour (default: $GPUCOST_PRICE, the configuration, list prices).",
        ),
    ] = None,
    hz: Annotated[
        str | None, typer.Option("--hz", metavar="HZ", help="Samples a second, 0.1 to 50 (default: 10).")
    ] = None,
    call_budget: Annotated[
        str | None,
        typer.Option(
            "--call-budget",
            metavar="PCT",
            help="Share of a tick that calls into the GPU driver may take, in percent, above 0 to 100 (default: 1); dearer ones are made less often.",
        ),
    ] = None,
    gpus: Annotated[
        str,
        typer.Option(
            "--gpus",
            metavar="GPUS",
            help="Which GPUs the run holds: all, indices, UUIDs, or sim:MODEL:N for simulated ones (default: those the command can see).",
        ),
    ] = "",
    bill: Annotated[
        str,
        typer.Option(
            "--bill", metavar="visible|node", help="Bill the GPUs the command can see, or all of the machine's."
        ),
    ] = "visible",
    join: Annotated[
        str | None,
        typer.Option(
            "--join",
            metavar="RUN_DIR",
            help="Record into a run that another machine is recording, over a folder that both see.",
        ),
    ] = None,
    attach: Annotated[
        list[str] | None,
        typer.Option(
            "--attach",
            metavar="PID",
            help="A process outside the command that belongs to the run too; may be repeated.",
        ),
    ] = None,
    attach_name: Annotated[
        list[str] | None,
        typer.Option("--attach-name", metavar="NAME", help="The same, by the name of the program; may be repeated."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Show a status line while the command runs, when stderr is a terminal.")
    ] = False,
) -> None:
    """Run COMMAND and record what it does with its GPUs.

    The command keeps its terminal, its streams, its signals and its exit code. Recordings are read with `gpucost report`.
    """
    from gpucost.recorder.session import record as record_command

    options = RecordOptions(
        command or [],
        runs=runs,
        name=name,
        labels=label,
        price=price,
        hz=hz,
        call_budget=call_budget,
        gpus=gpus,
        bill=bill,
        quiet=quiet,
        live=live,
        join=join,
        attach=attach,
        attach_names=attach_name,
    )
    raise typer.Exit(record_command(options))
