"""A check from the words that a user types to its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpucost.gates.model import Evidence
from gpucost.gates.registry import GATES
from gpucost.gates.settings import CheckSettings, settings_of
from gpucost.report.compare import ref
from gpucost.report.comparison import CheckResult
from gpucost.report.facts import facts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpucost.report.comparison import Comparison, LeftOut
    from gpucost.report.model import Report


def check_runs(
    runs: str,
    head: Sequence[str],
    baseline: Sequence[str] | None = None,
    gates: Sequence[str] = (),
    *,
    price: str | None = None,
    settings: CheckSettings | None = None,
) -> tuple[Report, CheckResult]:
    """See `gpucost.gates.check_runs`; `settings` stands for the configuration's."""
    from gpucost.config import load
    from gpucost.report.sides import load_sides

    chosen = (settings_of(load()) if settings is None else settings).with_gates(gates)
    words = chosen.baseline if baseline is None else tuple(baseline)
    sides = load_sides(runs, head, words, on=chosen.match, last=chosen.last, price=price, baseline_may_be_empty=True)
    notes = [] if sides.base or not words else ["no run of the baseline can be compared with this one"]
    return sides.head[0], judge(sides.head, sides.base, chosen, left_out=sides.left_out, notes=notes)


def judge(
    head: Sequence[Report],
    base: Sequence[Report],
    settings: CheckSettings,
    *,
    left_out: Sequence[LeftOut] = (),
    notes: Sequence[str] = (),
) -> CheckResult:
    """Judge runs already in memory by the gates of `settings`."""
    evidence = Evidence(
        [facts_of(report) for report in head],
        [facts_of(report) for report in base],
        settings.rule,
        settings.missing_fails,
    )
    results = [result for request in settings.gates for result in GATES[request.gate].judge(request, evidence)]
    reasons = [f"{run.run_id} is not in the baseline: {run.reason}" for run in left_out[:_MAX_REASONS]]
    if len(left_out) > _MAX_REASONS:
        reasons.append(f"{len(left_out) - _MAX_REASONS} more runs are not in the baseline")
    return CheckResult(
        run=ref(head[0]),
        repeats=len(head),
        gates=results,
        comparison=_comparison(head, base, settings, left_out),
        notes=[*notes, *([] if base else reasons)],
    )


_MAX_REASONS = 5


def _comparison(
    head: Sequence[Report], base: Sequence[Report], settings: CheckSettings, left_out: Sequence[LeftOut]
) -> Comparison | None:
    from gpucost.report.compare import compare

    if not base:
        return None
    return compare(base, head, rule=settings.rule, left_out=left_out, matched_on=settings.match)
