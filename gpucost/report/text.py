"""Numbers as text: one way to write each unit, the same in every format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING

from gpucost.report.model import NONE, UNKNOWN, Figure
from gpucost.report.rounding import apportion, decimals_for

if TYPE_CHECKING:
    from collections.abc import Sequence

NS_PER_S = 1_000_000_000
_FINE_NS = 10_000
_MS_NS = 1_000_000
_TINY_NS = 10 * _MS_NS
_SHORT_NS = 100 * NS_PER_S
_LONG_NS = 600 * NS_PER_S


@dataclass(frozen=True, slots=True)
class TimeScale:
    """How the durations of one column are printed: in units of `unit_ns`, chosen by the column's total."""

    unit_ns: int

    @classmethod
    def of(cls, total_ns: int) -> TimeScale:
        """Milliseconds below a second, hundredths below 100 s, tenths below ten minutes, whole seconds above."""
        if total_ns < _TINY_NS:
            return cls(_FINE_NS)
        if total_ns < NS_PER_S:
            return cls(_MS_NS)
        if total_ns < _SHORT_NS:
            return cls(10_000_000)
        return cls(100_000_000 if total_ns < _LONG_NS else NS_PER_S)

    def figure(self, ns: int, units: int | None = None) -> Figure:
        """Seconds and their text; `units` is what the column gave this part."""
        return Figure(ns / NS_PER_S, self._text(round(Fraction(ns, self.unit_ns)) if units is None else units))

    def column(self, parts_ns: Sequence[int]) -> list[Figure]:
        """Figures whose texts add up."""
        return [self.figure(ns, units) for ns, units in zip(parts_ns, self.units(parts_ns), strict=True)]

    def units(self, parts_ns: Sequence[int]) -> list[int]:
        """Printed units of the parts of one total."""
        return apportion(parts_ns, self.unit_ns)

    def _text(self, units: int) -> str:
        if self.unit_ns == _FINE_NS:
            return f"{units / (_MS_NS // _FINE_NS):.2f} ms"
        if self.unit_ns == _MS_NS:
            return f"{units} ms"
        if self.unit_ns == NS_PER_S:
            return clock(units)
        return f"{units / (NS_PER_S // self.unit_ns):,.{2 if self.unit_ns == 10_000_000 else 1}f} s"  # noqa: PLR2004


def clock(seconds: int) -> str:
    """Whole seconds as `12m 04s` or `3h 07m 00s`."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours:,}h {minutes:02d}m {rest:02d}s" if hours else f"{minutes}m {rest:02d}s"


def duration(ns: int | None) -> Figure:
    """One duration on its own."""
    return Figure(None, UNKNOWN) if ns is None else TimeScale.of(ns).figure(ns)


@dataclass(frozen=True, slots=True)
class EnergyScale:
    """How the energies of one report are printed: in J, Wh or kWh, with the same decimals in a column."""

    unit: str
    joules: int
    decimals: int

    @classmethod
    def of(cls, total_j: float | None) -> EnergyScale:
        """Joules below a watt-hour, watt-hours below 10 kWh, kilowatt-hours above; four digits of the total."""
        total = total_j or 0.0
        unit, joules = ("J", 1) if total < 3600 else ("Wh", 3600) if total < 3.6e7 else ("kWh", 3_600_000)  # noqa: PLR2004
        return cls(unit, joules, decimals_for(Fraction(total) / joules, least=1) if total else 1)

    def figure(
        self, joules: float | None, units: int | None = None, *, at_least: bool = False, error: str = ""
    ) -> Figure:
        """Joules and their text; `at_least` says that a part of it is not known, and `error` how far the rest is."""
        if joules is None:
            return Figure(None, UNKNOWN)
        if units is None:
            units = round(Fraction(joules) * 10**self.decimals / self.joules)
        text = f"{units / 10**self.decimals:,.{self.decimals}f} {self.unit}"
        return Figure(joules, " ".join(part for part in ("≥" if at_least else "", text, error) if part))

    def units(self, parts_j: Sequence[float | None]) -> list[int | None]:
        """Printed units of the parts of one total; None stays None."""
        known = iter(
            apportion(
                [Fraction(part) for part in parts_j if part is not None], Fraction(self.joules, 10**self.decimals)
            )
        )
        return [None if part is None else next(known) for part in parts_j]


LEAST_ERROR_PCT = 5.0
"""A smaller error of a stage's energy is not printed: studies found the sensors themselves, against external meters, off by as much."""


def error_text(pct: float | None) -> str:
    """The error of an energy as it stands behind it; empty where it is not known, or too small to matter."""
    return "" if pct is None or pct < LEAST_ERROR_PCT else f"±{pct:.0f} %"


def percent(share: Fraction | float | None, tenths: int | None = None, *, at_least: bool = False) -> Figure:
    """A share (0 to 1) in percent; `tenths` is what its column gave it. `at_least` says that unknown time could raise it."""
    if share is None:
        return Figure(None, UNKNOWN)
    value = float(share) * 100
    text = f"{value:.1f} %" if tenths is None else f"{tenths / 10:.1f} %"
    return Figure(round(value, 6), f"≥ {text}" if at_least else text)


def size(value: float | None) -> Figure:
    """Bytes."""
    if value is None:
        return Figure(None, UNKNOWN)
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= factor:
            return Figure(int(value), f"{value / factor:,.{1 if value < 100 * factor else 0}f} {unit}")
    return Figure(int(value), f"{value:.0f} B")


def watts(value: float | None) -> Figure:
    """Power."""
    return Figure(None, UNKNOWN) if value is None else Figure(round(value, 3), f"{value:,.0f} W")


def degrees(value: float | None) -> Figure:
    """Temperature."""
    return Figure(None, UNKNOWN) if value is None else Figure(round(value, 1), f"{value:.0f} °C")


def grams(value: float) -> Figure:
    """Mass of CO2e."""
    scale, unit = (1000, "kg") if value >= 1000 else (1, "g") if value >= 1 else (0.001, "mg")  # noqa: PLR2004
    return Figure(
        value, f"{value / scale:,.{decimals_for(Fraction(value / scale), least=1, significant=3)}f} {unit} CO2e"
    )


def gpu_hours(ns: int) -> Figure:
    """Held GPU time in hours, with four digits."""
    hours = Fraction(ns, 3600 * NS_PER_S)
    return Figure(float(hours), f"{float(hours):,.{decimals_for(hours, least=2)}f} GPU-h")


def utc(time_ns: int) -> str:
    """A time as `2026-11-24T18:45:01Z`."""
    try:
        return datetime.fromtimestamp(time_ns // NS_PER_S, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return UNKNOWN


def known(value: object) -> float | None:
    """A number from a frame, or None for NaN, NA and None."""
    if value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def count(number: int, one: str, many: str = "") -> str:
    """`1 gap`, `3 gaps`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def absent() -> Figure:
    """A figure that does not exist."""
    return Figure(None, NONE)
