"""`gpucost recover`: close a run whose recorder died, and say what is missing."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gpucost.cli.options import RUN_HELP, RunsOption, runs_folder

if TYPE_CHECKING:
    from gpucost.report.model import Report
    from gpucost.store.recover import RecoverResult


def recover(
    run: Annotated[str, typer.Argument(help=RUN_HELP, show_default=False)],
    runs: RunsOption = None,
) -> None:
    """Close a run that its recorder did not close: seal what was journalled, end open stages, and say what is missing.

    Nothing is deleted. A run that needs no mending stays as it is.
    """
    from gpucost import rundir
    from gpucost.render.safe import for_encoding, plain
    from gpucost.report import load_report
    from gpucost.store.recover import recover as mend

    path = rundir.find(runs_folder(runs), run)
    result = mend(path)
    report = load_report(path)
    for line in [*_done(result), *_missing(report)]:
        print(for_encoding(plain(line, 1000), sys.stdout.encoding))


def _done(result: "RecoverResult") -> list[str]:
    """What was done."""
    from gpucost.report.text import count

    if not result.changed:
        return [f"{result.run_id}: nothing to recover, the run is {result.status}"]
    parts = []
    if result.segments_sealed:
        parts.append(f"{count(result.rows_sealed, 'row')} of {count(result.segments_sealed, 'journal segment')} sealed")
    if result.spans_added:
        parts.append(f"{count(result.spans_added, 'stage')} taken over from the stage file")
    if result.spans_truncated:
        parts.append(f"{count(result.spans_truncated, 'open stage')} ended where its process was last seen")
    lines = [f"{result.run_id}: {result.status}; {', '.join(parts) or 'its end is written down'}"]
    lines += [f"set aside, damaged: {name}" for name in (*result.parts_set_aside, *result.segments_set_aside)]
    return lines + [f"not readable: {problem.message} ({count(problem.count, 'time')})" for problem in result.problems]


def _missing(report: "Report") -> list[str]:
    """What is not known of the run, in time and money."""
    run, total = report.run, report.total
    lines = []
    if run.end_basis != "exit":
        what = "sample" if run.end_basis == "last_sample" else "stage mark"
        lines.append(
            f"the run ends {run.duration_s.text} after its start, at its last {what}: what came after was not recorded"
        )
    if not report.gpus:
        lines.append("no GPU was held")
    elif total.unknown_time_s.value:
        reasons = ", ".join(f"{unknown.gpu_time_s.text} {unknown.meaning}" for unknown in report.quality.unknown)
        money = f"{total.unknown.text} of {total.money.text}" if total.unknown.usd is not None else "money unknown"
        lines.append(
            f"missing: {report.quality.unknown_time_s.text} of {total.gpu_time_s.text} GPU time, {money} ({reasons})"
        )
    else:
        lines.append(f"nothing is missing of {total.gpu_time_s.text} GPU time, cost {total.money.text}")
    return [*lines, f"what it cost: gpucost report {run.run_id}"]
