"""Two sides of runs, compared: the whole run, each GPU, each stage."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from gpucost.analyzers.compare import MEDIAN_MAD, MIN_RUNS, REPORT_ONLY, Rule, method_for
from gpucost.report.changes import Pair, Scales, change, mean, value_of, waste_share
from gpucost.report.compare_rows import gpu_rows, stage_rows
from gpucost.report.comparison import METRICS, Change, Comparison, LeftOut, Method, RunRef, Side
from gpucost.report.facts import Facts, Quantities, facts_of
from gpucost.report.text import count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from gpucost.report.model import Report

DEFAULT_RULE = Rule()


@dataclass(frozen=True, slots=True)
class Sides:
    """The facts of all runs, and what their figures are printed and judged with."""

    base: list[Facts]
    head: list[Facts]
    scales: Scales
    rule: Rule


def compare(
    base: Sequence[Report],
    head: Sequence[Report],
    *,
    rule: Rule = DEFAULT_RULE,
    left_out: Sequence[LeftOut] = (),
    matched_on: Sequence[str] = (),
) -> Comparison:
    """Compare two sides, each one run or several repeats.

    Args:
        base: the baseline, in any order; at least one.
        head: the new runs, at least one.
        rule: what a change has to be to count.
        left_out: runs that were chosen for the baseline and do not match.
        matched_on: what they had to have in common with the head.

    Raises:
        ValueError: a side is empty.
    """
    if not base or not head:
        raise ValueError("each side needs at least one run")
    facts = [facts_of(report) for report in base], [facts_of(report) for report in head]
    pairs = {metric: run_pair(metric, *facts) for metric in METRICS}
    sides = Sides(*facts, Scales.of(pairs), rule)
    run = {metric: _alone(metric, pair, sides) for metric, pair in pairs.items()}
    totals = {
        metric: (sides.scales.units(metric, pair.base), sides.scales.units(metric, pair.head))
        for metric, pair in pairs.items()
    }
    stages, folded = stage_rows(*facts, sides.scales, rule, totals)
    method = _method(len(base), len(head), rule)
    return Comparison(
        base=Side([ref(report) for report in base], list(left_out)),
        head=Side([ref(report) for report in head], []),
        method=method,
        headline=_headline(run),
        run=run,
        gpus=gpu_rows(*facts, sides.scales, rule, totals),
        stages=stages,
        stages_folded=folded,
        matched_on=list(matched_on),
        notes=_notes(sides),
        simulated=any(report.run.simulated for report in (*base, *head)),
        settings=dict(head[0].settings),
    )


def run_pair(metric: str, base: Sequence[Facts], head: Sequence[Facts]) -> Pair:
    """A figure of the whole run on both sides."""
    parts = [[facts.run for facts in side] for side in (base, head)]
    values = [[value_of(part, metric) for part in side] for side in parts]
    means = [
        ratio(side) if metric == "waste_pct" else mean(side_values)
        for side, side_values in zip(parts, values, strict=True)
    ]
    partial = [metric == "energy_j" and any(part.joules_partial for part in side) for side in parts]
    return Pair(means[0], means[1], values[0], values[1], base_partial=partial[0], head_partial=partial[1])


def ratio(parts: Sequence[Quantities]) -> Fraction | None:
    """The idle share of several runs: that of their sums, as the columns beside it have it."""
    whole = Quantities(pico=0)
    for part in parts:
        whole.join(part)
    return waste_share(whole)


def ref(report: Report) -> RunRef:
    """A run in a few words."""
    run = report.run
    prices = list(dict.fromkeys(price.text for price in report.quality.prices))
    return RunRef(
        run_id=run.run_id,
        name=run.name,
        started=run.started,
        labels=dict(run.labels),
        gpus=run.gpus,
        driver=run.driver.get("driver"),
        exit_text=run.exit_text,
        state=run.state,
        simulated=run.simulated,
        price="; ".join(prices),
    )


def _alone(metric: str, pair: Pair, sides: Sides) -> Change:
    scales = sides.scales
    return change(metric, pair, scales, sides.rule, scales.units(metric, pair.base), scales.units(metric, pair.head))


def _method(base: int, head: int, rule: Rule) -> Method:
    name = method_for(base, head)
    effect = f"{rule.min_effect * 100:g} %"
    runs = f"{count(base, 'baseline run')} and {count(head, 'new run')}"
    if name == REPORT_ONLY:
        text = f"{runs}: with fewer than {MIN_RUNS} in the history, changes are reported and none is judged"
    elif name == MEDIAN_MAD:
        few = "one run" if head == 1 else "so few runs"
        text = (
            f"{runs}: the median and the spread (MAD) of the history; {few} can only see big changes, "
            f"here of more than three robust standard deviations and {effect}"
        )
    else:
        text = f"{runs}: Mann-Whitney U, p < {rule.alpha:g}, and medians more than {effect} apart"
    return Method(name, text, base, head, rule.alpha, rule.min_effect * 100)


_WORDS = {
    "higher": "higher",
    "lower": "lower",
    "same": "no change beyond the noise",
    "undecided": "too few runs for a verdict",
    "unknown": "no verdict",
}


def _headline(run: dict[str, Change]) -> str:
    known = run["cost_usd"].base.value is not None or run["cost_usd"].head.value is not None
    metrics = ("cost_usd", "waste_usd") if known else ("gpu_time_s", "waste_s")
    return "; ".join(f"{METRICS[metric]} {_change_text(run[metric])}" for metric in metrics)


def _change_text(one: Change) -> str:
    if one.base.value is None or one.head.value is None:
        return f"from {one.base.text} to {one.head.text}"
    relative = f"{one.delta_pct.text}, " if one.delta_pct.value is not None else ""
    return f"from {one.base.text} to {one.head.text} ({relative}{_WORDS[one.direction]})"


def _notes(sides: Sides) -> list[str]:
    notes = []
    if len(sides.base) > 1 or len(sides.head) > 1:
        notes.append(
            "amounts are means over the runs of a side, because means add up; verdicts rest on every single run"
        )
    notes += _price_notes(sides)
    notes += _state_notes("baseline", sides.base) + _state_notes("new", sides.head)
    if any(facts.run.joules_partial for facts in (*sides.base, *sides.head)):
        notes.append("energy marked ≥ was not measured throughout: it is a lower bound, and so is what is made of it")
    if len({facts.report.run.simulated for facts in (*sides.base, *sides.head)}) > 1:
        notes.append("simulated and real GPUs are compared with one another: the differences mean nothing")
    return notes


def _price_notes(sides: Sides) -> list[str]:
    notes = []
    for name, side in (("baseline", sides.base), ("new", sides.head)):
        unpriced = sum(1 for facts in side if facts.held and not facts.priced)
        if unpriced:
            notes.append(
                f"{unpriced} of {count(len(side), f'{name} run')} without a price for every GPU: the side's cost is unknown"
            )
    rates = [_rates(side) for side in (sides.base, sides.head)]
    if all(rates) and rates[0] != rates[1]:
        before, after = (", ".join(f"${rate:,.2f}" for rate in sorted(side)) for side in rates)
        notes.append(
            f"the price of a GPU-hour was {before} and is {after}: part of the change in cost is the price, GPU time is not"
        )
    return notes


def _rates(side: Sequence[Facts]) -> set[Decimal]:
    amounts = [price.amount_usd for facts in side for price in facts.report.quality.prices]
    return {Decimal(amount) for amount in amounts if amount is not None}


def _state_notes(name: str, side: Sequence[Facts]) -> list[str]:
    notes = []
    failed = sum(1 for facts in side if facts.report.run.exit_code not in (0, None))
    unclosed = sum(1 for facts in side if facts.report.run.state in ("live", "crashed"))
    uncertain = sum(1 for facts in side if facts.report.quality.uncertain)
    for number, what in (
        (failed, "failed"),
        (unclosed, "did not end in order"),
        (uncertain, "has time that was not measured"),
    ):
        if number:
            notes.append(f"{number} of {count(len(side), f'{name} run')} {what}")
    return notes
