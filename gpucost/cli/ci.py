"""`gpucost ci`: attach a run's report to what a CI shows: summary, comment, annotations, files."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gpucost.ci.contract import COMMENT_RULES
from gpucost.cli.options import RUN_HELP, RunsOption, one_of, runs_folder

if TYPE_CHECKING:
    from gpucost.ci.attach import Outcome

DEFAULT_FOLDER = "gpucost-report"

_RUN_HELP = RUN_HELP + " Several are repeats of one."
_BASELINE_HELP = (
    "A run to compare with, or a glob, or label:KEY=VALUE; may be repeated (default: the configuration's). "
    "One that means no run is left out."
)
_GATE_HELP = "A gate more than the configuration's, for example cost=2.50 or cost_increase=10%; may be repeated."
_PRICE_HELP = "Price of one GPU for one hour, for every run."
_PROVIDERS = "auto|github|gitlab|buildkite|none"
_PROVIDER_HELP = "Which CI this is (default: found out)."
_OUT_HELP = "Where the files go; an empty name writes none."
_KEEP_HELP = "Copy the run into the files, for a job that reports later."
_LINK_HELP = "Where the full report is (default: the job's page)."
_KEY_HELP = "Tells the comments of several jobs on one pull request apart (default: the job's name)."
_COMMENT_HELP = (
    "When to make a comment; one that is there is always kept up to date, except with never (default: always)."
)
_NUMBER_HELP = (
    "A file with the number of the pull request, written by another job (for workflows that run on workflow_run); "
    "taken only if the pull request ends in the commit that was measured."
)


def ci(
    run: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help=_RUN_HELP, show_default="latest")] = None,
    runs: RunsOption = None,
    baseline: Annotated[list[str] | None, typer.Option("--baseline", metavar="RUN", help=_BASELINE_HELP)] = None,
    gate: Annotated[list[str] | None, typer.Option("--gate", metavar="NAME=LIMIT", help=_GATE_HELP)] = None,
    price: Annotated[str | None, typer.Option("--price", metavar="USD", help=_PRICE_HELP)] = None,
    provider: Annotated[str, typer.Option("--provider", metavar=_PROVIDERS, help=_PROVIDER_HELP)] = "auto",
    out: Annotated[str, typer.Option("--out", metavar="DIR", help=_OUT_HELP)] = DEFAULT_FOLDER,
    keep_recording: Annotated[bool, typer.Option("--keep-recording", help=_KEEP_HELP)] = False,
    key: Annotated[str | None, typer.Option("--key", metavar="NAME", help=_KEY_HELP)] = None,
    comment: Annotated[str, typer.Option("--comment", metavar="|".join(COMMENT_RULES), help=_COMMENT_HELP)] = "always",
    no_summary: Annotated[bool, typer.Option("--no-summary", help="Write no summary of the job.")] = False,
    no_annotations: Annotated[bool, typer.Option("--no-annotations", help="Annotate no failed gates.")] = False,
    no_fail: Annotated[bool, typer.Option("--no-fail", help="End with 0 even if a gate fails.")] = False,
    link: Annotated[str | None, typer.Option("--link", metavar="URL", help=_LINK_HELP)] = None,
    number: Annotated[str | None, typer.Option("--pull-request-file", metavar="FILE", help=_NUMBER_HELP)] = None,
) -> None:
    """Attach a run's report to what a CI shows: summary, comment, annotations, files.

    The gates decide the exit code: 0 passed, 1 a gate failed, 2 there is no report. What cannot be attached is a line and never a failure.
    """
    from gpucost.ci import FORGES, detect
    from gpucost.ci.attach import Job
    from gpucost.ci.attach import run as attach
    from gpucost.ci.contract import Options

    one_of("--comment", comment, COMMENT_RULES)
    one_of("--provider", provider, ["auto", *FORGES])
    options = Options(
        key=key or os.environ.get("GPUCOST_CI_KEY") or None,
        comment=comment,
        summary=not no_summary,
        annotations=not no_annotations,
        gates_fail=not no_fail,
        link=link or None,
        pull_request_file=number or None,
        files=out or None,
    )
    job = Job(
        runs_folder(runs),
        run or ["latest"],
        baseline,
        gate or [],
        price=price or None,
        forge=detect(os.environ) if provider == "auto" else provider,
        keep_recording=keep_recording,
        options=options,
    )
    outcome = attach(job, os.environ, _to_forge)
    _tell(outcome)
    if not outcome.check.passed and not no_fail:
        raise typer.Exit(outcome.check.exit_code)


def _tell(outcome: "Outcome") -> None:
    for step in outcome.steps:
        _to_people(step.text + (f": {step.link}" if step.link else ""))
    for gate in outcome.check.gates:
        _to_people(f"{gate.status}: {gate.message}")


def _to_forge(line: str) -> None:
    from gpucost.render.safe import for_encoding

    print(for_encoding(line, sys.stdout.encoding), flush=True)


def _to_people(line: str) -> None:
    """A line of the log, which a forge reads too: it begins with the program's name, so it is no command."""
    from gpucost.render.safe import for_encoding, plain

    print(for_encoding(f"gpucost: {plain(line, 1000)}".replace("##[", "# #["), sys.stderr.encoding), file=sys.stderr)
