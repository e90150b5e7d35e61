"""Two profiles side by side: what differs, by a test, and by more than one card differs from itself between two runs. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gpucost.bench.model import GATES, OK
from gpucost.bench.statistics import difference, holm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpucost.bench.model import Profile, Result

    Rates = Callable[[str], Sequence[float]]

ALPHA = 0.05
MARGIN = 0.01
"""A card repeats itself within 1 % between runs; a smaller difference may be real, and means nothing."""

_MIN_HISTORY = 3
_LESS_IS_BETTER = ("us", "pJ/FLOP", "pJ/B")
_NEITHER = ("W",)
SAME, DIFFERENT, UNCLEAR, NOT_COMPARED = "same", "different", "unclear", "not compared"


@dataclass(slots=True)
class Row:
    """One test in both profiles.

    Attributes:
        a, b: sustained figures.
        ratio: b / a.
        ci95: interval of the ratio.
        p_value: of "both have the same median", adjusted for the number of tests (Holm); None where windows are too few or not there.
        margin: what one card differs from itself by; from its earlier profiles where there are three or more.
        verdict: `faster`, `slower`, `higher`, `lower` (where neither is better), `same`, `unclear`, `not compared`.
        note: why it was not compared, or what to know.
    """

    id: str
    unit: str
    a: float | None
    b: float | None
    ratio: float | None = None
    ci95: tuple[float, float] | None = None
    p_value: float | None = None
    margin: float = MARGIN
    verdict: str = NOT_COMPARED
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(slots=True)
class Comparison:
    """Profile B against profile A.

    Attributes:
        differs: what is not the same around the two, one line each; a difference may be theirs.
        rows: a row for every test that either has.
    """

    a: Profile
    b: Profile
    differs: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def compare(a: Profile, b: Profile, rates_a: Rates, rates_b: Rates, history: Sequence[Profile] = ()) -> Comparison:
    """Compare two profiles test by test.

    A test differs when the p value is below 5 % after Holm's adjustment, the interval of the ratio leaves 1 out, and the difference exceeds the margin.
    It is the same when the whole interval lies within the margin, or when a significant difference does. Otherwise more windows are needed to tell.

    Args:
        a: the profile to compare with.
        b: the profile in question.
        rates_a: gives the windows' rates of a test of `a` (empty where they are not kept).
        rates_b: the same of `b`.
        history: other profiles of the same device and mode as `a`, for how much it differs from itself.
    """
    result = Comparison(a, b, surroundings(a, b))
    names = list(dict.fromkeys([one.id for one in a.results] + [one.id for one in b.results]))
    for name in names:
        first, second = a.result(name), b.result(name)
        unit = (first or second).unit if first or second else ""  # type: ignore[union-attr]
        row = Row(name, unit, _value(first), _value(second), margin=between_runs(history, name))
        reason = _why_not(first, second)
        if reason or first is None or second is None:
            row.note = reason
        elif first.points is None:
            _measure(row, first, second, rates_a(name), rates_b(name))
        if first is None or first.points is None:
            result.rows.append(row)
    _judge(result.rows)
    return result


def _value(one: Result | None) -> float | None:
    return None if one is None else one.sustained


def _why_not(a: Result | None, b: Result | None) -> str:
    """Why two results cannot be compared, or an empty string."""
    for name, one in (("A", a), ("B", b)):
        if one is None:
            return f"{name} does not have it"
        if one.status != OK:
            return f"{name}: {one.status.replace('_', ' ')}"
        if not one.valid:
            failed = [flag for flag in one.flags if flag in GATES]
            return f"{name}: {', '.join(failed).replace('_', ' ')}"
    if a is not None and b is not None and (a.unit != b.unit or a.shape != b.shape):
        return "another shape or unit"
    return ""


def _measure(row: Row, a: Result, b: Result, rates_a: Sequence[float], rates_b: Sequence[float]) -> None:
    if not a.sustained or not b.sustained:
        row.note = "no figure"
        return
    row.ratio = b.sustained / a.sustained
    if len(rates_a) and len(rates_b) and min(*rates_a, *rates_b) > 0:
        found = difference(rates_a, rates_b, min(a.window_s or 1.0, b.window_s or 1.0))
        row.ratio, row.ci95, row.p_value = found.ratio, found.ci95, found.p_value
    elif a.ci95 and b.ci95 and min(a.ci95[0], b.ci95[0]) > 0:
        row.ci95 = (b.ci95[0] / a.ci95[1], b.ci95[1] / a.ci95[0])
        row.note = "by their intervals alone"


def _judge(rows: Sequence[Row]) -> None:
    tested = [row for row in rows if row.p_value is not None]
    for row, adjusted in zip(tested, holm([row.p_value or 0.0 for row in tested]), strict=True):
        row.p_value = adjusted
    for row in rows:
        if row.ratio is not None:
            row.verdict = _verdict(row, row.ratio)


def _verdict(row: Row, ratio: float) -> str:
    if row.ci95 is None:
        row.note = row.note or "too few windows for a test"
        return UNCLEAR
    low, high = row.ci95
    significant = (low > 1 or high < 1) and (row.p_value is None or row.p_value < ALPHA)
    beyond = abs(ratio - 1) > row.margin
    if significant and beyond:
        return _direction(row.unit, ratio)
    within = low >= 1 - row.margin and high <= 1 + row.margin
    return SAME if within or (significant and not beyond) else UNCLEAR


def _direction(unit: str, ratio: float) -> str:
    if unit in _NEITHER:
        return "higher" if ratio > 1 else "lower"
    better = ratio < 1 if unit in _LESS_IS_BETTER else ratio > 1
    if unit in ("pJ/FLOP", "pJ/B"):
        return "thriftier" if better else "hungrier"
    return "faster" if better else "slower"


def between_runs(history: Sequence[Profile], name: str) -> float:
    """Twice the relative standard deviation of a test over earlier profiles of one device, at least `MARGIN`."""
    values = [
        one.sustained
        for profile in history
        if (one := profile.result(name)) is not None and one.valid and one.sustained
    ]
    if len(values) < _MIN_HISTORY:
        return MARGIN
    return max(MARGIN, 2 * float(np.std(values, ddof=1)) / float(np.mean(values)))


def surroundings(a: Profile, b: Profile) -> list[str]:
    """What is not the same around two profiles, one line each."""
    pairs = [
        ("device", a.device.name, b.device.name),
        ("card", a.device.uuid, b.device.uuid),
        ("MIG profile", a.device.mig_profile, b.device.mig_profile),
        ("power limit", _watts(a.device.power_limit_w), _watts(b.device.power_limit_w)),
        ("ECC", a.device.ecc, b.device.ecc),
        ("mode", a.mode, b.mode),
        *((name, a.tool.get(name), b.tool.get(name)) for name in ("driver", "cuda", "torch")),
        ("host", a.host.get("name"), b.host.get("name")),
        ("temperature under load", _heat(a), _heat(b)),
    ]
    return [
        f"{name}: {first or 'unknown'} and {second or 'unknown'}" for name, first, second in pairs if first != second
    ]


def _watts(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f} W"


def _heat(profile: Profile) -> str | None:
    """Temperature at the end of the main product, in steps of 5 degrees: less does not move a rate."""
    heats = [
        one.temperature_c.get("end") for one in profile.results if one.id.startswith("gemm.") and one.temperature_c
    ]
    known = [heat for heat in heats if heat is not None]
    return f"about {5 * round(known[0] / 5)} C" if known else None
