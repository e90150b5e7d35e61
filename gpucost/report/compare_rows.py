"""The rows of a comparison: GPUs and stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from gpucost.analyzers.compare import StagePair, StageShape, match_stages
from gpucost.analyzers.model import NO_STAGE
from gpucost.report.changes import ADDITIVE, MIN_RUN_SHARE, Pair, change, mean, value_of
from gpucost.report.comparison import Change, FoldedChange, GpuChange, StageChange
from gpucost.report.facts import Quantities, gpu_keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpucost.analyzers.compare import Rule
    from gpucost.report.changes import Scales
    from gpucost.report.facts import Facts, StageFacts

MAX_SHOWN = 25
"""Stages in tables for people, those that changed most and what they lie in; the rest is summed up in one row."""

Totals = dict[str, tuple[int | None, int | None]]
"""Printed units of the run on both sides, by metric."""


@dataclass(slots=True)
class Part:
    """A GPU or a stage on both sides: one entry per run, None where the run has no such part."""

    base: list[Quantities | None]
    head: list[Quantities | None]

    @property
    def presence(self) -> str:
        """`both`, `added` or `removed`."""
        before, after = any(self.base), any(self.head)
        return "both" if before and after else "added" if after else "removed"


def gpu_rows(
    base: Sequence[Facts], head: Sequence[Facts], scales: Scales, rule: Rule, totals: Totals
) -> list[GpuChange]:
    """Every GPU of either side, the head's first."""
    keys = gpu_keys([*base, *head])
    by_key = [{mine[gpu.uuid]: gpu for gpu in facts.gpus} for facts, mine in zip((*base, *head), keys, strict=True)]
    order = dict.fromkeys(key for run in (*by_key[len(base) :], *by_key[: len(base)]) for key in run)
    parts, names = [], []
    for key in order:
        found = [run.get(key) for run in by_key]
        known = next(gpu for gpu in (*found[len(base) :], *found) if gpu is not None)
        names.append((known.label, known.name))
        owns = [None if gpu is None else gpu.own for gpu in found]
        parts.append(Part(owns[: len(base)], owns[len(base) :]))
    columns = {metric: _column(metric, parts, base, head, scales, rule, totals) for metric in ADDITIVE}
    return [
        GpuChange(label, name, part.presence, {metric: columns[metric][number] for metric in ADDITIVE})
        for number, ((label, name), part) in enumerate(zip(names, parts, strict=True))
    ]


def stage_rows(
    base: Sequence[Facts], head: Sequence[Facts], scales: Scales, rule: Rule, totals: Totals
) -> tuple[list[StageChange], FoldedChange | None]:
    """Every stage of either side, parents before their children, and the sum of those that are not shown."""
    pairs = match_stages(_shapes(base), _shapes(head))
    stages = [
        ([_stage(facts, pair.base) for facts in base], [_stage(facts, pair.head) for facts in head]) for pair in pairs
    ]
    owns = [Part(*([None if one is None else one.own for one in side] for side in sides)) for sides in stages]
    whole = [Part(*([None if one is None else one.total for one in side] for side in sides)) for sides in stages]
    columns = {metric: _pairs(metric, owns, base, head) for metric in ADDITIVE}
    units = {metric: _units(metric, columns[metric], scales, totals) for metric in ADDITIVE}
    rules = {metric: _row_rule(metric, base, rule) for metric in (*ADDITIVE, "duration_s")}
    shown = _chosen(pairs, units)
    rows = []
    for number, (pair, sides) in enumerate(zip(pairs, stages, strict=True)):
        changes = {
            metric: change(metric, columns[metric][number], scales, rules[metric], *units[metric][number])
            for metric in ADDITIVE
        }
        changes["duration_s"] = _single("duration_s", owns[number], base, head, scales, rules["duration_s"])
        total = {metric: _single(metric, whole[number], base, head, scales, rules[metric]) for metric in ADDITIVE}
        rows.append(_stage_row(pair, sides, owns[number].presence, changes, total, shown=number in shown))
    hidden = [number for number in range(len(rows)) if number not in shown]
    return rows, _fold(hidden, columns, units, scales, rule) if hidden else None


def _stage_row(
    pair: StagePair,
    sides: tuple[list[StageFacts | None], list[StageFacts | None]],
    presence: str,
    changes: dict[str, Change],
    total: dict[str, Change],
    *,
    shown: bool,
) -> StageChange:
    known = next(one for one in (*sides[1], *sides[0]) if one is not None)
    return StageChange(
        path=pair.path,
        name=known.name,
        parent_path=pair.parent,
        depth=pair.depth,
        presence="renamed" if pair.renamed else presence,
        was=pair.base if pair.base != pair.head and pair.renamed else None,
        changes=changes,
        total=total,
        shown=shown,
    )


def _stage(facts: Facts, path: str | None) -> StageFacts | None:
    return None if path is None else facts.stages.get(path)


def _shapes(side: Sequence[Facts]) -> list[StageShape]:
    """The stages of a side: of all its runs, in the order in which they come; a share is a mean over the runs."""
    found: dict[str, StageFacts] = {}
    shares: dict[str, float] = {}
    for facts in side:
        for path, stage in facts.stages.items():
            found.setdefault(path, stage)
            shares[path] = shares.get(path, 0.0) + (stage.total.ns / facts.run.ns if facts.run.ns else 0.0) / len(side)
    return [StageShape(path, stage.name, stage.parent_path, shares[path]) for path, stage in found.items()]


def _pair(metric: str, part: Part, base: Sequence[Facts], head: Sequence[Facts]) -> Pair:
    """A figure of a part on both sides; a run that has no such part spent nothing on it."""
    befores, afters = _values(metric, part.base, base), _values(metric, part.head, head)
    parts = [[one for one in side if one is not None] for side in (part.base, part.head)]
    partial = [metric == "energy_j" and any(one.joules_partial or one.joules is None for one in side) for side in parts]
    energy = metric == "energy_j"
    return Pair(
        mean(befores),
        mean(afters),
        befores,
        afters,
        base_absent=part.presence == "added",
        head_absent=part.presence == "removed",
        base_partial=partial[0],
        head_partial=partial[1],
        base_too_short=energy and any(one.joules_too_short for one in parts[0]),
        head_too_short=energy and any(one.joules_too_short for one in parts[1]),
        base_error=_error(part.base) if energy else 0.0,
        head_error=_error(part.head) if energy else 0.0,
    )


def _error(side: Sequence[Quantities | None]) -> float:
    """How far the mean of a side's energy may be off: the error does not fall with repeats that keep step with the sensor."""
    return sum(one.joules_error for one in side if one is not None) / max(1, len(side))


def _values(
    metric: str, parts: Sequence[Quantities | None], side: Sequence[Facts]
) -> list[Fraction | int | float | None]:
    """A figure of each run: zero where the run has no such part, None where the run's own is not known."""
    values: list[Fraction | int | float | None] = []
    nothing_known = metric == "energy_j" and all(part is None or part.joules is None for part in parts) and any(parts)
    for part, facts in zip(parts, side, strict=True):
        if value_of(facts.run, metric) is None or nothing_known:
            values.append(None)
        else:
            # Energy that is not known in a run which knows some: the rest of the column still adds up, and the mean is a lower bound.
            values.append(0 if part is None else value_of(part, metric) or 0)
    return values


def _pairs(metric: str, parts: Sequence[Part], base: Sequence[Facts], head: Sequence[Facts]) -> list[Pair]:
    return [_pair(metric, part, base, head) for part in parts]


def _units(metric: str, pairs: Sequence[Pair], scales: Scales, totals: Totals) -> list[tuple[int | None, int | None]]:
    before, after = totals[metric]
    bases = scales.column(metric, [pair.base for pair in pairs], before)
    heads = scales.column(metric, [pair.head for pair in pairs], after)
    return list(zip(bases, heads, strict=True))


def _column(
    metric: str,
    parts: Sequence[Part],
    base: Sequence[Facts],
    head: Sequence[Facts],
    scales: Scales,
    rule: Rule,
    totals: Totals,
) -> list[Change]:
    pairs = _pairs(metric, parts, base, head)
    mine = _row_rule(metric, base, rule)
    return [
        change(metric, pair, scales, mine, *units)
        for pair, units in zip(pairs, _units(metric, pairs, scales, totals), strict=True)
    ]


def _single(
    metric: str, part: Part, base: Sequence[Facts], head: Sequence[Facts], scales: Scales, rule: Rule
) -> Change:
    pair = _pair(metric, part, base, head)
    return change(metric, pair, scales, rule, scales.units(metric, pair.base), scales.units(metric, pair.head))


def _row_rule(metric: str, base: Sequence[Facts], rule: Rule) -> Rule:
    """A row's change must also matter to the run."""
    whole = mean([value_of(facts.run, metric) for facts in base])
    return replace(rule, min_absolute=max(rule.min_absolute, float(whole or 0) * MIN_RUN_SHARE))


def _chosen(pairs: Sequence[StagePair], units: Mapping[str, Sequence[tuple[int | None, int | None]]]) -> set[int]:
    """The rows to show: all, or those of the greatest change together with the stages they lie in."""
    if len(pairs) <= MAX_SHOWN:
        return set(range(len(pairs)))
    metric = "cost_usd" if any(None not in pair for pair in units["cost_usd"]) else "gpu_time_s"
    by_path = {pair.path: number for number, pair in enumerate(pairs)}
    chosen = {by_path[NO_STAGE]} if NO_STAGE in by_path else set()

    def weight(number: int) -> tuple[int, int, int]:
        before, after = (value or 0 for value in units[metric][number])
        return (-abs(after - before), -max(before, after), number)

    for number in sorted(range(len(pairs)), key=weight):
        family: list[int] = []
        at: int | None = number
        while at is not None and at not in chosen and len(family) <= MAX_SHOWN:
            family.append(at)
            parent = pairs[at].parent
            at = None if parent is None else by_path.get(parent)
        if len(chosen) + len(family) <= MAX_SHOWN:
            chosen.update(family)
    return chosen


def _fold(
    hidden: Sequence[int],
    columns: Mapping[str, Sequence[Pair]],
    units: Mapping[str, Sequence[tuple[int | None, int | None]]],
    scales: Scales,
    rule: Rule,
) -> FoldedChange:
    changes = {}
    for metric in ADDITIVE:
        sums = [[pair[side] for pair in (units[metric][number] for number in hidden)] for side in (0, 1)]
        printed = [None if None in side else sum(value or 0 for value in side) for side in sums]
        exact = Pair(
            _add([columns[metric][number].base for number in hidden]),
            _add([columns[metric][number].head for number in hidden]),
        )
        changes[metric] = change(metric, exact, scales, rule, *printed)
    return FoldedChange(len(hidden), changes)


def _add(values: Sequence[Fraction | None]) -> Fraction | None:
    known = [value for value in values if value is not None]
    return sum(known, Fraction(0)) if len(known) == len(values) else None
