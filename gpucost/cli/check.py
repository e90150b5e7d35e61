"""`gpucost check`: gates on what a run cost, for continuous integration."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gpucost.cli.compare import MatchOption, PriceOption
from gpucost.cli.options import RunsOption, WidthOption, color_for, one_of, runs_folder, width_for
from gpucost.errors import UsageError

if TYPE_CHECKING:
    from gpucost.gates.settings import CheckSettings
    from gpucost.report.comparison import CheckResult

_RUN_HELP = "The run, or several repeats of it (default: latest)."
_BASELINE_HELP = (
    "Runs to compare with: an id, a path, a glob, label:KEY=VALUE; may be repeated (default: the configuration's)."
)
_GATE_HELP = "A gate: cost=2.50, idle_share=30%, cost@STAGE=1, cost_increase=10%; may be repeated; goes before the configuration's."
_QUIET_HELP = "Print nothing when no gate fails."
_JUNIT_HELP = "Write JUnit XML to a file as well."
_MISSING_HELP = "What a figure that is not known does to its gate: fail or pass (default: fail)."


def check(
    run: Annotated[list[str] | None, typer.Argument(metavar="RUN", help=_RUN_HELP, show_default=False)] = None,
    baseline: Annotated[list[str] | None, typer.Option("--baseline", metavar="RUN", help=_BASELINE_HELP)] = None,
    gate: Annotated[list[str] | None, typer.Option("--gate", metavar="GATE", help=_GATE_HELP)] = None,
    runs: RunsOption = None,
    output: Annotated[
        str, typer.Option("--format", "-f", metavar="terminal|markdown|json|junit", help="How to print it.")
    ] = "terminal",
    junit: Annotated[str | None, typer.Option("--junit", metavar="FILE", help=_JUNIT_HELP)] = None,
    quiet_if_ok: Annotated[bool, typer.Option("--quiet-if-ok", help=_QUIET_HELP)] = False,
    missing: Annotated[str | None, typer.Option("--missing", metavar="fail|pass", help=_MISSING_HELP)] = None,
    match: MatchOption = None,
    price: PriceOption = None,
    width: WidthOption = None,
) -> None:
    """Hold a run against budgets and against its baseline; exit 1 when a gate fails, 2 when gpucost or its user failed.

    Gates come from [check] in the configuration and from --gate. A figure that is not known never passes a gate in silence.
    """
    from gpucost.gates.run import check_runs
    from gpucost.render.documents import CHECK_FORMATS, writer

    one_of("--format", output, CHECK_FORMATS)
    columns = width_for(sys.stdout, width)
    settings = _settings(missing, match, gate or [])
    _, result = check_runs(runs_folder(runs), run or ["latest"], baseline, price=price, settings=settings)
    if junit is not None:
        _write_junit(junit, result)
    if not (quiet_if_ok and result.passed):
        writer(CHECK_FORMATS, output)(result, sys.stdout, width=columns, color=color_for(sys.stdout))
    raise typer.Exit(result.exit_code)


def _settings(missing: str | None, match: list[str] | None, gates: list[str]) -> "CheckSettings":
    """The configuration's settings, with what the command line says instead.

    Raises:
        UsageError: there is no gate, or one is not understood.
    """
    from dataclasses import replace

    from gpucost.config import load
    from gpucost.gates.registry import GATES
    from gpucost.gates.settings import settings_of

    settings = settings_of(load()).with_gates(gates)
    if missing is not None:
        settings = replace(settings, missing_fails=one_of("--missing", missing, ("fail", "pass")) == "fail")
    if match:
        settings = replace(settings, match=tuple(match))
    if not settings.gates:
        raise UsageError(
            "there is no gate to check: --gate cost=2.50, or [check.run] in the configuration",
            hint=f"gates: {', '.join(GATES)}",
        )
    return settings


def _write_junit(path: str, result: "CheckResult") -> None:
    from pathlib import Path

    from gpucost.render.junit import junit

    try:
        Path(path).write_text(junit(result), encoding="ascii")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
