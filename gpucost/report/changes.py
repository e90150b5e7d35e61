"""One figure on both sides: its texts, its difference in the printed digits, and the verdict on it.

The sides' columns are rounded each on its own so that they add up (`gpucost.report.rounding`), and a difference is that of the printed digits.
So differences add up too, down a column and across it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from gpucost.analyzers.compare import MANN_WHITNEY, Rule, verdict
from gpucost.report.comparison import Change
from gpucost.report.model import NONE, TOO_SHORT, UNKNOWN, Figure
from gpucost.report.rounding import PICO, MoneyScale, apportion
from gpucost.report.text import NS_PER_S, EnergyScale, TimeScale, error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpucost.report.facts import Quantities

Number = Fraction | int | float

ADDITIVE = ("cost_usd", "gpu_time_s", "busy_s", "waste_s", "waste_usd", "energy_j")
"""Metrics whose figures add up over the GPUs, and over the stages' own time."""

MIN_RUN_SHARE = 0.01
"""A stage or a GPU has to change by this part of the run's figure to count: nobody looks into less."""


def waste_share(part: Quantities) -> Fraction | None:
    """Idle waste as a share (0 to 1) of the cost, or of the GPU time where there is no cost; None where nothing of it is measured."""
    if part.ns in (0, part.unknown_ns):
        return None
    if part.pico is not None and part.waste_pico is not None and part.pico > 0:
        return Fraction(part.waste_pico, part.pico)
    return Fraction(part.waste_ns, part.ns)


_GETTERS: dict[str, Callable[[Quantities], Number | None]] = {
    "cost_usd": lambda part: part.pico,
    "gpu_time_s": lambda part: part.ns,
    "busy_s": lambda part: part.busy_ns,
    "waste_s": lambda part: part.waste_ns,
    "waste_usd": lambda part: part.waste_pico,
    "energy_j": lambda part: part.joules,
    "duration_s": lambda part: part.wall_ns,
    "waste_pct": waste_share,
}
_NEUTRAL = frozenset({"busy_s"})


def value_of(part: Quantities, metric: str) -> Number | None:
    """A figure in picodollars, nanoseconds, joules or as a share."""
    return _GETTERS[metric](part)


def mean(values: Sequence[Number | None]) -> Fraction | None:
    """The exact mean; None where one of them is not known."""
    known = [Fraction(value) for value in values if value is not None]
    return sum(known, Fraction(0)) / len(known) if known and len(known) == len(values) else None


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of both sides, still exact.

    Attributes:
        base: the side's mean, None where not known.
        base_runs: the figure of each run, None where not known; likewise `head_runs`.
        base_absent: the side has no such stage or GPU at all, so its figure is zero by nature; likewise `head_absent`.
        base_partial: the mean is only a lower bound; likewise `head_partial`.
        base_too_short: the stage is too short for the sensor to tell its energy; likewise `head_too_short`.
        base_error: how far the mean may be off, in the figure's unit; likewise `head_error`. Repeats do not make it smaller.
    """

    base: Fraction | None
    head: Fraction | None
    base_runs: Sequence[Number | None] = ()
    head_runs: Sequence[Number | None] = ()
    base_absent: bool = False
    head_absent: bool = False
    base_partial: bool = False
    head_partial: bool = False
    base_too_short: bool = False
    head_too_short: bool = False
    base_error: float = 0.0
    head_error: float = 0.0

    @property
    def too_short(self) -> bool:
        """Either side's energy cannot be told."""
        return self.base_too_short or self.head_too_short

    @property
    def within_error(self) -> bool:
        """The sides differ by no more than the sensor leaves open."""
        error = self.base_error + self.head_error
        return (
            error > 0 and self.base is not None and self.head is not None and abs(float(self.head - self.base)) <= error
        )


@dataclass(frozen=True, slots=True)
class Scales:
    """How figures of each metric are printed: the same in every table, so that differences of printed figures are figures of the same kind."""

    money: MoneyScale
    time: TimeScale
    wall: TimeScale
    energy: EnergyScale

    @classmethod
    def of(cls, run: dict[str, Pair]) -> Scales:
        """The scales that suit the larger side of each figure of the run."""

        def most(metric: str) -> Fraction:
            pair = run[metric]
            return max(pair.base or Fraction(0), pair.head or Fraction(0))

        return cls(
            money=MoneyScale.of(round(most("cost_usd"))),
            time=TimeScale.of(round(most("gpu_time_s"))),
            wall=TimeScale.of(round(most("duration_s"))),
            energy=EnergyScale.of(float(most("energy_j")) or None),
        )

    def unit(self, metric: str) -> Fraction:
        """The size of one printed unit of a metric, in what `value_of` gives."""
        if metric.endswith("_usd"):
            return Fraction(PICO, 10**self.money.decimals)
        if metric == "energy_j":
            return Fraction(self.energy.joules, 10**self.energy.decimals)
        if metric == "waste_pct":
            return Fraction(1, 1000)
        return Fraction((self.wall if metric == "duration_s" else self.time).unit_ns)

    def number(self, metric: str, value: Fraction) -> float:
        """What `value_of` gave, in the unit that the metric's name says."""
        if metric.endswith("_usd"):
            return float(value / PICO)
        if metric == "energy_j":
            return float(value)
        return float(value * 100) if metric == "waste_pct" else float(value / NS_PER_S)

    def text(self, metric: str, units: int) -> str:
        """Printed units as they are printed, without a sign."""
        if metric.endswith("_usd"):
            return self.money.money(0, units).text
        if metric == "energy_j":
            return self.energy.figure(0.0, units).text
        if metric == "waste_pct":
            return f"{units / 10:.1f} %"
        return (self.wall if metric == "duration_s" else self.time).figure(0, units).text

    def units(self, metric: str, value: Fraction | None) -> int | None:
        """A figure on its own, in printed units."""
        return None if value is None else round(value / self.unit(metric))

    def column(self, metric: str, values: Sequence[Fraction | None], total: int | None) -> list[int | None]:
        """Printed units of the parts of a total that is printed as `total` units; None stays None."""
        known = [index for index, value in enumerate(values) if value is not None]
        units = apportion([values[index] or Fraction(0) for index in known], self.unit(metric))
        if known and total is not None and abs(total - sum(units)) == 1:
            # The parts are floats (energy) and the sum went the other way at half a unit; the largest part hides it best.
            units[max(range(len(units)), key=units.__getitem__)] += total - sum(units)
        found = iter(units)
        return [None if value is None else next(found) for value in values]


def change(
    metric: str, pair: Pair, scales: Scales, rule: Rule, base_units: int | None, head_units: int | None
) -> Change:
    """One figure of both sides in words and numbers; the units are what its column gave each side."""
    direction, p, note = _judge(pair, rule)
    worse = None if direction in ("undecided", "unknown") or metric in _NEUTRAL else direction == "higher"
    return Change(
        base=_with_error(
            _side(metric, pair.base, base_units, scales, absent=pair.base_absent, partial=pair.base_partial),
            pair.base_error,
            too_short=pair.base_too_short,
        ),
        head=_with_error(
            _side(metric, pair.head, head_units, scales, absent=pair.head_absent, partial=pair.head_partial),
            pair.head_error,
            too_short=pair.head_too_short,
        ),
        delta=_delta(metric, pair, base_units, head_units, scales),
        delta_pct=Figure(None, TOO_SHORT) if pair.too_short else _relative(pair),
        direction=direction,
        worse=worse,
        p=p,
        note=note,
    )


def _with_error(figure: Figure, error: float, *, too_short: bool) -> Figure:
    """A side's figure with what the sensor leaves open."""
    if too_short:
        return Figure(None, TOO_SHORT)
    text = error_text(100 * error / figure.value if figure.value else None)
    return Figure(figure.value, f"{figure.text} {text}") if text else figure


def _judge(pair: Pair, rule: Rule) -> tuple[str, float | None, str]:
    base = [float(value) for value in pair.base_runs if value is not None]
    head = [float(value) for value in pair.head_runs if value is not None]
    missing = len(base) < len(pair.base_runs) or len(head) < len(pair.head_runs)
    if pair.too_short or pair.base is None or pair.head is None or missing:
        return "unknown", None, "too short for the sensor to tell" if pair.too_short else "not known in every run"
    if not base or not head:
        return "undecided", None, "nothing to compare with"
    found = verdict(base, head, rule)
    if found.direction == "undecided":
        return "undecided", None, "too few runs for a verdict"
    if found.direction != "same" and pair.within_error:
        return "same", found.p, "within what the sensor leaves open"
    if found.method == MANN_WHITNEY:
        return found.direction, found.p, f"p = {found.p:.3f}"
    return found.direction, None, f"{'within' if found.direction == 'same' else 'beyond'} the history's spread"


def _side(
    metric: str, value: Fraction | None, units: int | None, scales: Scales, *, absent: bool, partial: bool
) -> Figure:
    if absent:
        return Figure(0.0, NONE)
    if value is None or units is None:
        return Figure(None, UNKNOWN)
    text = scales.text(metric, units)
    return Figure(scales.number(metric, value), f"≥ {text}" if partial else text)


def _delta(metric: str, pair: Pair, base_units: int | None, head_units: int | None, scales: Scales) -> Figure:
    if pair.too_short:
        return Figure(None, TOO_SHORT)
    if pair.base is None or pair.head is None or base_units is None or head_units is None:
        return Figure(None, UNKNOWN)
    units = head_units - base_units
    text = scales.text(metric, abs(units))
    if metric == "waste_pct":
        text = text.replace("%", "pp")
    sign = "+" if units > 0 else "-" if units < 0 else ""
    note = " (within error)" if pair.within_error and units else ""
    return Figure(scales.number(metric, pair.head - pair.base), f"{sign}{text}{note}")


def _relative(pair: Pair) -> Figure:
    if pair.base is None or pair.head is None:
        return Figure(None, UNKNOWN)
    if pair.base <= 0:
        return Figure(None, NONE)
    return signed_percent(float((pair.head - pair.base) / pair.base))


def signed_percent(share: float) -> Figure:
    """A change (0.1 for a tenth more) in percent, with its sign."""
    value = share * 100
    tenths = round(value * 10)
    digits = f"{abs(tenths) / 10:,.1f}" if abs(tenths) < 10_000 else f"{abs(tenths) / 10:,.0f}"  # noqa: PLR2004 (a thousand percent)
    return Figure(round(value, 6), f"{'+' if tenths > 0 else '-' if tenths < 0 else ''}{digits} %")
