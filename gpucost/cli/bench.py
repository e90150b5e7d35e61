"""`gpucost bench`: what a GPU can really do, and profiles of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpucost.cli.options import WidthOption, color_for, one_of, width_for
from gpucost.errors import UsageError

if TYPE_CHECKING:
    from gpucost.bench.session import Outcome
    from gpucost.bench.view import Page

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_PROFILE_HELP = "A run id or its beginning, latest, the beginning of a GPU's UUID (~1: the one before), or a path."

group = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=_SETTINGS)

FormatOption = Annotated[str, typer.Option("--format", "-f", metavar="terminal|markdown|json", help="How to print it.")]


@group.callback(invoke_without_command=True)
def bench(
    ctx: typer.Context,
    full: Annotated[
        bool,
        typer.Option("--full/--quick", help="About 20 seconds a GPU, or under three minutes with sweeps and power."),
    ] = False,
    gpus: Annotated[
        str,
        typer.Option(
            "--gpus", metavar="GPUS", help="all, indices, UUIDs, or cpu (default: the visible GPUs, else the CPU)."
        ),
    ] = "",
    dtype: Annotated[
        list[str] | None,
        typer.Option("--dtype", metavar="DTYPE", help="bf16, fp16, fp8, int8, tf32, fp32, fp64; may be repeated."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Write the profile here too, as a folder of its own.")
    ] = None,
    allow_shared: Annotated[
        bool, typer.Option("--allow-shared", help="Measure a GPU that others are using; nothing becomes a ceiling.")
    ] = False,
    output: FormatOption = "terminal",
    width: WidthOption = None,
) -> None:
    """Measure what each GPU can really do: sustained rates, their uncertainty, power and energy.

    Profiles are kept in the user's data folder and used by gpucost report. Clocks, limits and MIG are never changed. Exit code 1: a GPU was
    refused, or a result failed a test or a gate.
    """
    if ctx.invoked_subcommand is not None:
        return
    from gpucost.bench import plan
    from gpucost.bench.session import Options, Session
    from gpucost.cli.bench_progress import shown
    from gpucost.render.bench import FORMATS

    one_of("--format", output, FORMATS)
    columns = width_for(sys.stdout, width)
    plan.parse_dtypes(dtype or [], "device")
    target = None if out is None else _new_folder(Path(out))
    options = Options(plan.FULL if full else plan.QUICK, gpus, dtype or [], allow_shared)
    with shown() as progress:
        outcomes = Session(options, progress=progress).run()
    _keep(outcomes, target)
    if output == "json":
        _print_json([one.profile.to_json() for one in outcomes if one.profile is not None])
    for one in outcomes:
        if one.profile is not None and output != "json":
            from gpucost.bench.view import profile_page

            _print(profile_page(one.profile), output, columns)
    raise typer.Exit(_exit_code(outcomes))


@group.command()
def show(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help=_PROFILE_HELP, show_default="latest")] = "latest",
    output: FormatOption = "terminal",
    width: WidthOption = None,
) -> None:
    """Show a profile, with what others have published for the model beside it."""
    from gpucost.bench import store
    from gpucost.bench.view import profile_page
    from gpucost.render.bench import FORMATS

    one_of("--format", output, FORMATS)
    columns = width_for(sys.stdout, width)
    found = store.find(profile).profile
    if output == "json":
        _print_json(found.to_json())
    else:
        _print(profile_page(found), output, columns)


@group.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=_PROFILE_HELP)],
    b: Annotated[str, typer.Argument(metavar="B", help=_PROFILE_HELP, show_default="latest")] = "latest",
    output: FormatOption = "terminal",
    width: WidthOption = None,
) -> None:
    """Say, with a statistical test, whether profile B differs from profile A: two cards, or today and last month."""
    from gpucost.bench import store
    from gpucost.bench.compare import compare as compare_profiles
    from gpucost.bench.view import comparison_page
    from gpucost.render.bench import FORMATS

    one_of("--format", output, FORMATS)
    columns = width_for(sys.stdout, width)
    first, second = store.find(a), store.find(b)
    if first.profile.run_id == second.profile.run_id and first.profile.device.uuid == second.profile.device.uuid:
        raise UsageError("A and B are the same profile", hint="`gpucost bench list` shows what there is")
    kept, _ = store.every()
    history = [
        one.profile
        for one in kept
        if one.profile.device.uuid == first.profile.device.uuid and one.profile.mode == first.profile.mode
    ]
    found = compare_profiles(
        first.profile,
        second.profile,
        lambda test: store.samples(first.path, test),
        lambda test: store.samples(second.path, test),
        history,
    )
    if output == "json":
        rows = [row.to_json() for row in found.rows]
        _print_json({"a": found.a.run_id, "b": found.b.run_id, "differs": found.differs, "tests": rows})
    else:
        _print(comparison_page(found), output, columns)


@group.command(name="list")
def list_(output: FormatOption = "terminal", width: WidthOption = None) -> None:
    """List the profiles that are kept, newest first."""
    from gpucost.bench import store
    from gpucost.bench.view import list_page
    from gpucost.render.bench import FORMATS
    from gpucost.rundir import printable

    one_of("--format", output, FORMATS)
    columns = width_for(sys.stdout, width)
    kept, broken = store.every()
    if output == "json":
        _print_json(
            [{"run_id": one.profile.run_id, "path": str(one.path), "device": one.profile.device.uuid} for one in kept]
        )
        return
    if not kept and not broken:
        print(
            f"gpucost: no profiles in {printable(str(store.folder()))} yet; `gpucost bench` makes one", file=sys.stderr
        )
        return
    _print(list_page(kept, broken), output, columns)


def _print(page: Page, output: str, width: int) -> None:
    from gpucost.render.bench import render

    render(page, sys.stdout, output=output, width=width, color=color_for(sys.stdout))


def _print_json(value: object) -> None:
    json.dump(value, sys.stdout, indent=1, ensure_ascii=True, allow_nan=False)
    sys.stdout.write("\n")


def _new_folder(path: Path) -> Path:
    """A folder for a profile, which must not be in use: asked before anything is measured.

    Raises:
        UsageError: something is there already.
    """
    from gpucost.rundir import printable

    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"--out {printable(str(path))} is not empty", hint="name a new folder")
    return path


def _keep(outcomes: list[Outcome], target: Path | None) -> None:
    """Store every profile, and say on stderr what was refused and where the others are."""
    from gpucost.bench import store
    from gpucost.render.safe import plain
    from gpucost.rundir import printable

    measured = [one for one in outcomes if one.profile is not None]
    for one in outcomes:
        if one.profile is None:
            print(f"gpucost: {one.label} was not measured: {plain(one.refused or '', 500)}", file=sys.stderr)
            continue
        path = store.write(store.place(store.folder(), one.profile), one.profile, one.samples, one.telemetry)
        print(f"gpucost: the profile of {one.label} is in {printable(str(path))}", file=sys.stderr)
        if target is not None:
            copy = target if len(measured) == 1 else target / store.safe(one.profile.device.uuid)
            store.write(copy, one.profile, one.samples, one.telemetry)


def _exit_code(outcomes: list[Outcome]) -> int:
    """0 where every device was measured and every result is valid, or is of something the device does not have."""
    from gpucost.bench.model import UNSUPPORTED

    for one in outcomes:
        if one.profile is None or any(
            not (result.valid or result.status == UNSUPPORTED) for result in one.profile.results
        ):
            return 1
    return 0
