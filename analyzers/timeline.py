"""From ticks to intervals: which reading speaks for which time, and which time no reading speaks for.

NVML's utilization looks back, so a reading at t_i speaks for (t_{i-1}, t_i]. Where the spacing is too wide for that, it speaks for one
sampling period before t_i, and the rest stays without a reading. Nothing is ever stretched to fill a hole.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gpucost.analyzers.arrays import BoolArray, FloatArray, IntArray, floats, times

if TYPE_CHECKING:
    import pandas as pd

GAP_PERIODS = 2.5
"""A spacing of more than this many periods is a gap ..."""

GAP_SLACK_NS = 250_000_000
"""... if it is also this much longer than one period. NVML's own sample period is a sixth of a second at least, and a loaded machine delays
a tick by as much: at 10 Hz a tick up to 0.25 s late still says what the GPU did since the one before. A second without a tick does not."""

MAX_POWER_W = 20_000.0
"""No GPU draws more; a reading above it is not one."""

_MEMORY_REACH_NS = 10_000_000_000
_POWER_REACH_NS = 1_000_000_000
_SLOWEST_HZ, _FASTEST_HZ = 1e-6, 1e6
_MAX_ENERGY_J = 1e15
_MAX_BYTES = 2.0**60


@dataclass(frozen=True, slots=True)
class Ticks:
    """The readings of one GPU, in time order, at most one for each instant. NaN is unknown.

    Attributes:
        t_ns: int64, strictly ascending.
        util: 0 to 1.
        memory_bytes: in use, the driver's reserve included.
        power_w: instantaneous.
        power_average_w: the driver's average.
        energy_j: the driver's counter.
        temperature_c: of the GPU.
        processes: on the GPU, where the list was asked for.
        run_processes: of those, the run's.
    """

    t_ns: IntArray
    util: FloatArray
    memory_bytes: FloatArray
    power_w: FloatArray
    power_average_w: FloatArray
    energy_j: FloatArray
    temperature_c: FloatArray
    processes: FloatArray
    run_processes: FloatArray

    def __len__(self) -> int:
        return len(self.t_ns)


@dataclass(frozen=True, slots=True)
class Partition:
    """The held window [0, end) of one GPU, cut into adjoining intervals of one reading each.

    Attributes:
        start_ns: int64, ascending from 0.
        end_ns: int64; each interval ends where the next one starts, the last at the window's end.
        tick: the reading that speaks for the interval, -1 where none does.
        next_tick: the same, but the first one after the interval where none does, and the number of ticks where none comes.
        follows: the interval begins at the tick before its own, so that both ends of it were read.
    """

    start_ns: IntArray
    end_ns: IntArray
    tick: IntArray
    next_tick: IntArray
    follows: BoolArray

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def duration_ns(self) -> IntArray:
        """Length of each interval."""
        return self.end_ns - self.start_ns

    def spread(self, values: FloatArray) -> FloatArray:
        """The value of each interval's tick, NaN where there is none."""
        return np.append(values, np.nan)[self.tick]


def read_ticks(frame: pd.DataFrame, rows: IntArray) -> Ticks:
    """The readings of one GPU.

    Args:
        frame: the table `gpu`.
        rows: the row numbers of one GPU.
    """
    t_ns, known = times(frame, "t_ns", rows)
    if not known.all():
        rows, t_ns = rows[known], t_ns[known]
    columns = {
        "util": floats(frame, "gpu_util_pct", rows, low=0, high=100) / 100,
        "memory_bytes": floats(frame, "memory_used_bytes", rows, low=0, high=_MAX_BYTES),
        "power_w": floats(frame, "power_w", rows, low=0, high=MAX_POWER_W),
        "power_average_w": floats(frame, "power_average_w", rows, low=0, high=MAX_POWER_W),
        "energy_j": floats(frame, "energy_j", rows, low=0, high=_MAX_ENERGY_J),
        "temperature_c": floats(frame, "temperature_c", rows, low=-273, high=1000),
        "processes": floats(frame, "processes", rows, low=0),
        "run_processes": floats(frame, "run_processes", rows, low=0),
    }
    ticks = Ticks(t_ns, **columns)
    return ticks if (t_ns[1:] > t_ns[:-1]).all() else _in_order(ticks)


def _in_order(ticks: Ticks) -> Ticks:
    """Sort by time; two readings of one instant complete each other, and where they disagree neither is believed."""
    order = np.argsort(ticks.t_ns, kind="stable")
    t_ns = ticks.t_ns[order]
    first = np.flatnonzero(np.append(True, t_ns[1:] > t_ns[:-1]))
    merged: dict[str, Any] = {"t_ns": t_ns[first]}
    for column in fields(Ticks)[1:]:
        values = getattr(ticks, column.name)[order]
        low, high = np.fmin.reduceat(values, first), np.fmax.reduceat(values, first)
        merged[column.name] = np.where(low == high, low, np.nan)
    return Ticks(**merged)


def nominal_period_ns(recorder: dict[str, Any]) -> int | None:
    """The sampling period that the recorder was told to keep, from its rate `hz`; None where it does not say."""
    hz = recorder.get("hz")
    if isinstance(hz, bool) or not isinstance(hz, (int, float)) or not _SLOWEST_HZ <= hz <= _FASTEST_HZ:
        return None
    return round(1e9 / hz)


def period_of(ticks: Ticks, nominal_ns: int | None) -> int:
    """The sampling period: the nominal one, else the median spacing, else 0 (a single reading speaks for no time)."""
    if nominal_ns is not None:
        return nominal_ns
    return int(np.median(np.diff(ticks.t_ns))) if len(ticks) > 1 else 0


def widest_spacing_ns(period_ns: int) -> int:
    """The widest spacing of two ticks that is not a gap."""
    return max(int(GAP_PERIODS * period_ns), period_ns + GAP_SLACK_NS)


def bridge(ticks: Ticks, period_ns: int) -> Ticks:
    """Fill in what a tick did not ask for, because the recorder spares the driver slow calls, or got no answer to.

    A utilization looks back as far as to the one before, so it also speaks for the ticks between that have none, if the two are not
    further apart than two ticks may be. Power in between is interpolated, over a second at most, which is what the driver averages
    over. Memory stays what it was, over ten seconds at most, which is as rarely as a recorder asks.
    """
    widest = widest_spacing_ns(period_ns)
    t_ns = ticks.t_ns
    return replace(
        ticks,
        util=_filled(t_ns, ticks.util, widest, "later"),
        memory_bytes=_filled(t_ns, ticks.memory_bytes, max(widest, _MEMORY_REACH_NS), "earlier"),
        power_w=_filled(t_ns, ticks.power_w, max(widest, _POWER_REACH_NS), "between"),
        power_average_w=_filled(t_ns, ticks.power_average_w, max(widest, _POWER_REACH_NS), "between"),
    )


def _filled(t_ns: IntArray, values: FloatArray, most_ns: int, how: str) -> FloatArray:
    """Give unknown values the `later` or `earlier` known one, or what lies `between`, where those two are near enough."""
    unknown = np.isnan(values)
    if not unknown.any() or unknown.all():
        return values
    known, missing = np.flatnonzero(~unknown), np.flatnonzero(unknown)
    after = np.searchsorted(known, missing)
    inside = (after > 0) & (after < len(known))
    missing, after = missing[inside], after[inside]
    early, late = known[after - 1], known[after]
    near = t_ns[late] - t_ns[early] <= most_ns
    missing, early, late = missing[near], early[near], late[near]
    filled = values.copy()
    if how == "between":
        share = (t_ns[missing] - t_ns[early]) / (t_ns[late] - t_ns[early])
        filled[missing] = values[early] + share * (values[late] - values[early])
    else:
        filled[missing] = values[late if how == "later" else early]
    return filled


def partition(t_ns: IntArray, period_ns: int, end_ns: int) -> Partition:
    """Cut the window [0, end_ns) into intervals with a reading and intervals without.

    Args:
        t_ns: strictly ascending times of readings, also before and after the window.
        period_ns: the sampling period.
        end_ns: the window's length.
    """
    spacing = np.diff(t_ns, prepend=t_ns[:1] - period_ns)
    near = spacing <= widest_spacing_ns(period_ns)
    start = np.clip(t_ns - np.where(near, spacing, period_ns), 0, end_ns)
    end = np.clip(t_ns, 0, end_ns)
    tick = np.flatnonzero(end > start)
    start, end = start[tick], end[tick]
    near[:1] = False
    before = np.append(0, end)
    holes = np.flatnonzero(np.append(start, end_ns) > before)
    after_last = np.searchsorted(t_ns, before[-1], side="right")
    return Partition(
        start_ns=np.insert(start, holes, before[holes]),
        end_ns=np.insert(end, holes, np.append(start, end_ns)[holes]),
        tick=np.insert(tick, holes, -1),
        next_tick=np.insert(tick, holes, np.append(tick, after_last)[holes]),
        follows=np.insert(near[tick], holes, False),
    )


def pieces(parts: Partition, boundaries: IntArray) -> tuple[IntArray, IntArray]:
    """Cut the intervals of a partition also at other boundaries.

    Args:
        parts: intervals that fill [0, end).
        boundaries: ascending, from 0 to end.

    Returns:
        Start of each piece, and the interval that it belongs to.
    """
    inner = boundaries[(boundaries > 0) & (boundaries < (parts.end_ns[-1] if len(parts) else 0))]
    owner = np.searchsorted(parts.start_ns, inner, side="right") - 1
    cuts = parts.start_ns[owner] != inner
    inner, owner = inner[cuts], owner[cuts]
    start = np.insert(parts.start_ns, owner + 1, inner)
    return start, np.insert(np.arange(len(parts)), owner + 1, owner)
