"""How a figure is held against a limit: what all families of gates share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from gpucost.analyzers.compare import REPORT_ONLY, Rule, verdict
from gpucost.analyzers.model import NO_STAGE
from gpucost.report.changes import Pair, Scales, mean, signed_percent, value_of
from gpucost.report.comparison import METRICS, GateResult
from gpucost.report.model import UNKNOWN, Figure
from gpucost.report.text import NS_PER_S, gpu_hours
from gpucost.rundir import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpucost.analyzers.compare import Verdict
    from gpucost.gates.model import Evidence, Request
    from gpucost.report.facts import Facts, Quantities

_MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class Scope:
    """A part of the run that is judged: a stage with its sub-stages, or all of it.

    Attributes:
        head: the part in each new run, None where a run does not have it; likewise `base`.
        ended: every new run ended in order, so that its figures are not lower bounds.
    """

    title: str
    stage: str | None
    head: list[Quantities | None]
    base: list[Quantities | None]
    ended: bool


def at_most(metric: str, name: str, request: Request, evidence: Evidence) -> list[GateResult]:
    """A budget: the figure (the mean of several repeats) must not be above the limit."""
    return [_budget(metric, request, scope, evidence) for scope in _scopes(name, request, evidence)] or [
        _no_stage(name, request, evidence)
    ]


def grows_at_most(metric: str, name: str, request: Request, evidence: Evidence) -> list[GateResult]:
    """A regression: the figure must not be above the baseline's by more than the limit and more than the noise."""
    return [_increase(metric, request, scope, evidence) for scope in _scopes(name, request, evidence)] or [
        _no_stage(name, request, evidence)
    ]


def _scopes(name: str, request: Request, evidence: Evidence) -> list[Scope]:
    """The parts that a request means: the run, one stage, or every stage that a glob fits."""
    ended = all(facts.report.run.end_basis == "exit" for facts in evidence.head)
    if request.stage is None:
        runs = [[facts.run for facts in side] for side in (evidence.head, evidence.base)]
        return [Scope(name, None, [*runs[0]], [*runs[1]], ended)]
    return [
        Scope(
            f"{name} of stage {printable(path)[:_MAX_NAME]}",
            path,
            [_total(facts, path) for facts in evidence.head],
            [_total(facts, path) for facts in evidence.base],
            ended,
        )
        for path in _paths(request.stage, evidence.head)
    ]


def _paths(wanted: str, runs: Sequence[Facts]) -> list[str]:
    from fnmatch import fnmatchcase

    known = list(dict.fromkeys(path for facts in runs for path in facts.stages))
    if wanted in known:
        return [wanted]
    return [path for path in known if path != NO_STAGE and fnmatchcase(path, wanted)]


def _total(facts: Facts, path: str) -> Quantities | None:
    stage = facts.stages.get(path)
    return None if stage is None else stage.total


def _values(metric: str, parts: Sequence[Quantities | None]) -> list[Fraction | int | float | None]:
    """A figure per run; a run without the part spent nothing on it (and has no share of it, so it is left out)."""
    if metric == "waste_pct":
        return [value_of(part, metric) for part in parts if part is not None]
    return [0 if part is None else value_of(part, metric) for part in parts]


def _budget(metric: str, request: Request, scope: Scope, evidence: Evidence) -> GateResult:
    limit = request.limit
    low, high = mean(_values(metric, scope.head)), _highest(metric, scope)
    limit_figure = Figure(_number(metric, limit.value), f"at most {limit.text}")
    if low is None:
        text = f"{scope.title} is not known, so it cannot be held against {limit.text}: {_why_unknown(metric, scope, evidence)}"
        return _result(request, scope, "missing", Figure(None, UNKNOWN), limit_figure, text, evidence)
    figure = _figure(metric, low)
    average = f" on average of {len(scope.head)} runs" if len(scope.head) > 1 else ""
    if low > limit.value:
        text = f"{scope.title} is {figure.text}{average}, more than {limit.text}"
        return _result(request, scope, "failed", figure, limit_figure, text, evidence)
    if high is not None and high <= limit.value:
        text = f"{scope.title} is {figure.text}{average}, within {limit.text}"
        return _result(request, scope, "passed", figure, limit_figure, text, evidence)
    figure = replace(figure, text=f"≥ {figure.text}")
    reason = (
        "what was not measured" if scope.ended else "the run did not end in order, and what came after its last sample"
    )
    text = f"{scope.title} is {figure.text}{average}: {reason} could take it over {limit.text}"
    return _result(request, scope, "missing", figure, limit_figure, text, evidence)


def _highest(metric: str, scope: Scope) -> Fraction | None:
    """The most that a figure can be, counting all unknown time against it; None where nothing bounds it."""
    parts = [part for part in scope.head if part is not None]
    if not scope.ended:
        return None
    if metric == "energy_j":
        return mean([_most_joules(part) for part in scope.head])
    if metric not in ("waste_pct", "waste_usd"):
        return mean(_values(metric, scope.head))
    worst = [
        replace(
            part,
            waste_ns=part.waste_ns + part.unknown_ns,
            unknown_ns=0,
            waste_pico=None
            if part.waste_pico is None or part.unknown_pico is None
            else part.waste_pico + part.unknown_pico,
        )
        for part in parts
    ]
    missing: list[Quantities | None] = [None] * (len(scope.head) - len(parts))
    return mean(_values(metric, [*worst, *missing]))


def _most_joules(part: Quantities | None) -> float | None:
    """The energy, or where some of it was not measured, what it had been at the highest power seen, all the time."""
    if part is None or not part.joules_partial:
        return 0.0 if part is None else part.joules
    return None if part.top_w is None else max(part.joules or 0.0, part.top_w * part.ns / NS_PER_S)


def _increase(metric: str, request: Request, scope: Scope, evidence: Evidence) -> GateResult:
    limit = request.limit
    limit_figure = Figure(
        float(limit.value * 100) if limit.relative else _number(metric, limit.value), f"at most +{limit.text}"
    )
    head, base = _values(metric, scope.head), _values(metric, scope.base)
    known_head = [float(value) for value in head if value is not None]
    known_base = [float(value) for value in base if value is not None]
    if not base:
        text = f"{scope.title} was not compared: there is no run in the baseline"
        return _result(request, scope, "undecided", Figure(None, UNKNOWN), limit_figure, text, evidence)
    parts = [part for part in (*scope.head, *scope.base) if part is not None]
    partial = metric == "energy_j" and any(part.joules_partial for part in parts)
    if not head or len(known_head) < len(head) or len(known_base) < len(base) or partial:
        text = f"{scope.title} is not known in every run, so it cannot be compared: {_why_unknown(metric, scope, evidence)}"
        return _result(request, scope, "missing", Figure(None, UNKNOWN), limit_figure, text, evidence)
    allowed = float(limit.value)
    rule = Rule(evidence.rule.alpha, allowed if limit.relative else 0.0, 0.0 if limit.relative else allowed)
    found = verdict(known_base, known_head, rule)
    status = {"higher": "failed", "undecided": "undecided"}.get(found.direction, "passed")
    within_error = metric == "energy_j" and abs(found.shift) <= _joules_error(scope.head) + _joules_error(scope.base)
    if status == "failed" and within_error:
        status = "passed"
    if status == "passed" and not scope.ended:
        status = "missing"
    figure, text = _shift(metric, scope, known_base, found, relative=limit.relative)
    reason = "within what the sensor leaves open" if within_error and status == "passed" else None
    text = f"{text}; {reason or _reason(status, found, limit.text)}"
    return _result(request, scope, status, figure, limit_figure, text, evidence)


def _joules_error(parts: Sequence[Quantities | None]) -> float:
    """How far the energy of a stage may be off, by the sensor's resolution: the mean over the runs."""
    return sum(part.joules_error for part in parts if part is not None) / max(1, len(parts))


def _shift(metric: str, scope: Scope, base: Sequence[float], found: Verdict, *, relative: bool) -> tuple[Figure, str]:
    """The change of the medians as a figure, and in a sentence."""
    from gpucost.analyzers.statistics import median

    before = median(base)
    amount = _figure(metric, Fraction(abs(found.shift)))
    text = amount.text.replace("%", "pp") if metric == "waste_pct" else amount.text
    sign = "-" if found.shift < 0 else "+" if found.shift > 0 else ""
    figure = Figure((amount.value or 0.0) * (-1 if found.shift < 0 else 1), f"{sign}{text}")
    percent = signed_percent(found.shift / before) if before else None
    if relative and percent is not None:
        figure = percent
    middle = _figure(metric, Fraction(before)).text
    share = f" ({percent.text})" if percent is not None else ""
    return figure, f"{scope.title} changed by {sign}{text}{share} from {middle}, the median of {len(base)} runs"


def _reason(status: str, found: Verdict, limit: str) -> str:
    if found.method == REPORT_ONLY:
        return "reported only, because fewer than 5 runs are in the baseline"
    basis = f"Mann-Whitney p = {found.p:.3f}" if found.p is not None else "median and spread of the baseline"
    if status == "missing":
        return "the run did not end in order, so its figures are lower bounds"
    if status == "failed":
        return f"more than {limit} and more than the noise ({basis})"
    return f"not beyond both {limit} and the noise ({basis})"


def _no_stage(name: str, request: Request, evidence: Evidence) -> GateResult:
    stage = printable(request.stage or "")[:_MAX_NAME]
    scope = Scope(f"{name} of stage {stage}", request.stage, [], [], ended=True)
    text = f"{scope.title} cannot be judged: the run has no such stage"
    limit = Figure(None, request.limit.text)
    return _result(request, scope, "missing", Figure(None, UNKNOWN), limit, text, evidence)


def _why_unknown(metric: str, scope: Scope, evidence: Evidence) -> str:
    runs = [*evidence.head, *evidence.base]
    if metric.endswith("_usd"):
        if not all(facts.held for facts in runs):
            return "no GPU was held"
        return "not every GPU has a price (--price, or price in the configuration)"
    if metric == "energy_j":
        short = any(part is not None and part.joules_too_short for part in (*scope.head, *scope.base))
        return "it is too short for the sensor to tell" if short else "the energy was not measured throughout"
    return "nothing of it was measured"


def _result(
    request: Request, scope: Scope, status: str, value: Figure, limit: Figure, text: str, evidence: Evidence
) -> GateResult:
    return GateResult(
        gate=request.gate,
        title=scope.title,
        stage=scope.stage,
        status=status,
        fails=status == "failed" or (status == "missing" and evidence.missing_fails),
        value=value,
        limit=limit,
        message=text,
    )


def _figure(metric: str, value: Fraction) -> Figure:
    """A figure on its own, with the digits that suit it."""
    if metric == "gpu_time_s":
        return gpu_hours(round(value))
    scales = Scales.of({name: Pair(value if name == metric else None, None) for name in METRICS})
    return Figure(scales.number(metric, value), scales.text(metric, scales.units(metric, value) or 0))


def _number(metric: str, value: Fraction) -> float | int | None:
    return _figure(metric, value).value
