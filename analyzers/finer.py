"""What the driver kept between ticks, put where it belongs: a slow recording then knows what happened between its readings.

The driver's own samples of utilization come one a sample period, with the time at which each period ended. Where they follow each other
without a hole they speak for that time, and a tick's reading, which repeats the last completed period up to a period late, does not.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gpucost.analyzers.arrays import BoolArray, FloatArray, IntArray, floats, times
from gpucost.analyzers.timeline import MAX_POWER_W, Ticks, widest_spacing_ns

if TYPE_CHECKING:
    import pandas as pd

_WIDEST_NS = 1_100_000_000
"""NVML's sample periods are a second at most: what lies further apart has a hole in it."""

_SPREAD = 2.5
"""Samples of utilization further apart than this many of their usual distances have a hole between them."""

_FEWEST = 3
_ROUNDING_NS = 100
_LEAST = 0.005


def refine(ticks: Ticks, frame: pd.DataFrame, rows: IntArray, period_ns: int) -> Ticks:
    """What readings and the driver's own samples say together, in time order.

    A tick then says the mean of the samples over the time since the one before, so the busy time is theirs, to the nanosecond. Samples are readings of
    their own where they say what no tick does: where work begins or ends, where no tick came, where they come more often than ticks, and, of
    power, where there is no energy counter.

    Args:
        ticks: the GPU's readings.
        frame: the table `gpu_sample`.
        rows: the row numbers of this GPU in it.
        period_ns: the ticks' period.
    """
    if not len(rows) or not len(ticks):
        return ticks
    t_ns, util, power_w = _read(frame, rows)
    told = np.isfinite(util)
    series = _Series.of(t_ns[told], util[told])
    wanted = np.zeros(len(t_ns), np.bool_)
    place = np.searchsorted(ticks.t_ns, t_ns)
    if series is not None:
        wanted[told] = series.turns if period_ns <= series.usual_ns else True
        wanted |= told & _in_gap(ticks.t_ns, place, widest_spacing_ns(period_ns))
    if not np.isfinite(ticks.energy_j).any():
        wanted |= np.isfinite(power_w)
    at_tick = ticks.t_ns[np.minimum(place, len(ticks) - 1)] == t_ns
    new = wanted & ~at_tick
    merged = _merged(ticks, place[new], t_ns[new], util[new], power_w[new]) if new.any() else ticks
    return merged if series is None else replace(merged, util=series.means(merged.t_ns, merged.util))


def _in_gap(tick_ns: IntArray, place: IntArray, widest_ns: int) -> BoolArray:
    """Which samples lie between two ticks that are too far apart, or beyond the ticks; `place` is the tick that each comes before."""
    wide: BoolArray = np.concatenate(([True], np.diff(tick_ns) > widest_ns, [True]))[place]
    return wide


@dataclass(frozen=True, slots=True)
class _Series:
    """The driver's samples of utilization as a function of time.

    Attributes:
        usual_ns: how far apart they usually are.
        turns: which samples end a time with work or one without, or a time that samples speak for.
        t_ns: ends of the times that samples speak for, and beginnings of those that do not follow another.
        busy_ns: nanoseconds of work until then.
        told_ns: nanoseconds that samples speak for, until then.
    """

    usual_ns: float
    turns: BoolArray
    t_ns: IntArray
    busy_ns: FloatArray
    told_ns: IntArray

    @classmethod
    def of(cls, stamps: IntArray, util: FloatArray) -> _Series | None:
        """From the ends of the sample periods, strictly ascending; None where there are too few to tell how long a period is."""
        if len(stamps) < _FEWEST:
            return None
        apart = np.diff(stamps)
        usual_ns = float(np.median(apart))
        alone = np.append(True, apart > min(_SPREAD * usual_ns, _WIDEST_NS))  # nothing adjoins before: one period then
        length = np.where(alone, min(int(usual_ns), _WIDEST_NS), np.append(0, apart))
        heads = np.flatnonzero(alone)
        nothing = np.zeros(len(heads), np.int64)
        return cls(
            usual_ns=usual_ns,
            turns=np.append((util[1:] > 0) != (util[:-1] > 0), True) | np.append(alone[1:], True),
            t_ns=np.insert(stamps, heads, stamps[heads] - length[heads]),
            busy_ns=np.cumsum(np.insert(util * length, heads, nothing)),
            told_ns=np.cumsum(np.insert(length, heads, nothing)),
        )

    def means(self, t_ns: IntArray, otherwise: FloatArray) -> FloatArray:
        """Mean utilization since the time before, for each of these times; `otherwise` where samples do not speak for all of that."""
        told_ns = np.diff(np.interp(t_ns, self.t_ns, self.told_ns), prepend=np.nan)
        busy_ns = np.diff(np.interp(t_ns, self.t_ns, self.busy_ns), prepend=np.nan)
        length_ns = np.diff(t_ns, prepend=t_ns[0] - 1)
        whole = np.abs(told_ns - length_ns) < _ROUNDING_NS
        share = np.minimum(busy_ns / length_ns, 1.0)
        # Samples are whole percents, and no time lies across one with work and one without: less than that is rounding.
        return np.where(whole, np.where(share < _LEAST, 0.0, share), otherwise)


def _read(frame: pd.DataFrame, rows: IntArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Times, strictly ascending; utilization (0 to 1) and power of the samples that tell one of them."""
    t_ns, known = times(frame, "t_ns", rows)
    if not known.all():
        rows, t_ns = rows[known], t_ns[known]
    util = floats(frame, "gpu_util_pct", rows, low=0, high=100) / 100
    power_w = floats(frame, "power_w", rows, low=0, high=MAX_POWER_W)
    if np.isnan(power_w).all():
        power_w = floats(frame, "module_power_w", rows, low=0, high=MAX_POWER_W)
    if not (t_ns[1:] > t_ns[:-1]).all():
        order = np.argsort(t_ns, kind="stable")
        order = order[np.append(True, np.diff(t_ns[order]) > 0)]
        t_ns, util, power_w = t_ns[order], util[order], power_w[order]
    some = ~(np.isnan(util) & np.isnan(power_w))
    return t_ns[some], util[some], power_w[some]


def _merged(ticks: Ticks, place: IntArray, t_ns: IntArray, util: FloatArray, power_w: FloatArray) -> Ticks:
    """The ticks with the samples between them; `place` is the tick that each one comes before."""
    new = np.zeros(len(ticks) + len(t_ns), np.bool_)
    new[place + np.arange(len(t_ns))] = True
    old = ~new
    merged: dict[str, Any] = {}
    for column in fields(Ticks):
        values = getattr(ticks, column.name)
        merged[column.name] = both = np.empty(len(new), values.dtype)
        both[old] = values
        both[new] = {"t_ns": t_ns, "util": util, "power_w": power_w}.get(column.name, np.nan)
    return Ticks(**merged)
