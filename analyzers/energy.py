"""Energy of a GPU and of its stages: from the driver's counter, else from the integral of power.

The counter knows what was used in a hole between samples; power is never integrated over one. What the GPU draws while nothing runs is
its idle power, measured in the run itself; what was used above it is active energy and goes to processes by their share of the activity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpucost.analyzers.holding import FREE, HELD
from gpucost.analyzers.timeline import MAX_POWER_W, pieces

if TYPE_CHECKING:
    from gpucost.analyzers.arrays import BoolArray, FloatArray, IntArray
    from gpucost.analyzers.holding import Holding
    from gpucost.analyzers.timeline import Partition, Ticks

SPLITS = ("owner", "equal", "none")

COUNTER_STEP_NS = 250_000_000
"""The counter is renewed about ten times a second: a reading that repeats within this time has not been renewed yet."""

_QUIET_QUANTILE = 0.1
_FEWEST_QUIET = 3
_NS_PER_S = 1e9

ENERGY, ACTIVE, IDLE, FOREIGN, KNOWN_NS = range(5)
"""Columns of `Energy.by_segment`."""


@dataclass(frozen=True, slots=True)
class Energy:
    """The energy of one GPU.

    Attributes:
        by_segment: float64, shape (segments, 5): joules (all, active, idle, foreign; all = active + idle + foreign) and the nanoseconds that they
            stand for.
        counter_j: by the counter, over the time it covers; NaN where it covers none.
        integral_j: by the integral of power, likewise.
        difference_pct: counter against integral, over the time that both cover.
        basis: `counter`, `integrated`, or `unknown`.
        idle_power_w: what the GPU draws while nothing runs.
        idle_power_basis: `empty` (nobody was on it), `idle` (somebody held it, nothing ran), `minimum` (the least seen), `unknown`.
        covered_ns: time that the energy stands for.
        resets: how often the counter fell or leapt.
    """

    by_segment: FloatArray
    counter_j: float
    integral_j: float
    difference_pct: float
    basis: str
    idle_power_w: float
    idle_power_basis: str
    covered_ns: int
    resets: int

    @property
    def energy_j(self) -> float:
        """All of it, NaN where nothing is known."""
        return float(self.by_segment[:, ENERGY].sum()) if self.covered_ns else float("nan")


@dataclass(frozen=True, slots=True)
class Power:
    """The mean power of every interval of one GPU's window, NaN where unknown.

    Attributes:
        counter_w: by the energy counter.
        integral_w: by the readings of power.
        resets: how often the counter fell or leapt.
    """

    counter_w: FloatArray
    integral_w: FloatArray
    resets: int

    @property
    def power_w(self) -> FloatArray:
        """By the counter, and where that says nothing by the readings."""
        return np.where(np.isfinite(self.counter_w), self.counter_w, self.integral_w)


def power_of(parts: Partition, ticks: Ticks) -> Power:
    """The mean power of every interval.

    Args:
        parts: the GPU's held window, cut at the ticks.
        ticks: its readings.
    """
    counter_w, resets = _counter_power(parts, ticks)
    return Power(counter_w, _integral_power(parts, ticks), resets)


def measure(
    parts: Partition, ticks: Ticks, power: Power, holding: Holding, boundaries: IntArray, idle_split: str
) -> Energy:
    """The energy of one GPU.

    Args:
        parts: its held window, cut at the ticks.
        ticks: its readings.
        power: of every interval.
        holding: who is on it.
        boundaries: of the segments, strictly ascending from 0 to the window's end.
        idle_split: `equal` gives others their share of the idle energy by heads; `owner` and `none` leave it with the run.
    """
    counter_w, integral_w, power_w = power.counter_w, power.integral_w, power.power_w
    seconds = parts.duration_ns / _NS_PER_S
    idle_w, idle_basis = _idle_power(ticks, holding, parts, power_w)
    counter_j, integral_j = _total(counter_w, seconds), _total(integral_w, seconds)
    both = np.isfinite(counter_w) & np.isfinite(integral_w)
    ours, theirs = _total(counter_w[both], seconds[both]), _total(integral_w[both], seconds[both])
    known = np.isfinite(power_w)
    return Energy(
        by_segment=_by_segment(parts, ticks, holding, boundaries, power_w, idle_w, equal=idle_split == "equal"),
        counter_j=counter_j,
        integral_j=integral_j,
        difference_pct=(ours - theirs) / theirs * 100 if theirs > 0 else float("nan"),
        basis="counter" if np.isfinite(counter_j) else "integrated" if np.isfinite(integral_j) else "unknown",
        idle_power_w=idle_w,
        idle_power_basis=idle_basis,
        covered_ns=int(parts.duration_ns[known].sum()),
        resets=power.resets,
    )


def _total(power_w: FloatArray, seconds: FloatArray) -> float:
    known = np.isfinite(power_w)
    return float((power_w[known] * seconds[known]).sum()) if known.any() else float("nan")


def _counter_power(parts: Partition, ticks: Ticks) -> tuple[FloatArray, int]:
    """Mean power of every interval by the counter, and how often the counter was reset.

    The counter is interpolated linearly between its readings. Every interval lies between two ticks, so it lies between two readings too:
    the last one before its next tick, and the one after that.
    """
    read = np.flatnonzero(np.isfinite(ticks.energy_j))
    read = read[_renewed(ticks.t_ns[read], ticks.energy_j[read])]
    t_ns, energy_j = ticks.t_ns[read], ticks.energy_j[read]
    if len(read) < 2:  # noqa: PLR2004 (a difference needs two)
        return np.full(len(parts), np.nan), 0
    with np.errstate(over="ignore"):
        power_w = np.diff(energy_j) / (np.diff(t_ns) / _NS_PER_S)
    wrong = (power_w < 0) | (power_w > MAX_POWER_W)
    power_w[wrong] = np.nan
    mark = np.zeros(len(ticks) + 1, np.int64)
    mark[read + 1] = 1
    # Before the first reading and after the last one there is no pair; both places of the padding say so.
    pair = np.cumsum(mark)[parts.next_tick]
    return np.concatenate(([np.nan], power_w, [np.nan]))[pair], int(wrong.sum())


def _renewed(t_ns: IntArray, energy_j: FloatArray) -> BoolArray:
    """The readings that the driver had renewed, and the last one; repeats say nothing until they have lasted."""
    if not len(t_ns):
        return np.zeros(0, np.bool_)
    changed = np.append(True, energy_j[1:] != energy_j[:-1])
    since = t_ns[np.maximum.accumulate(np.where(changed, np.arange(len(t_ns)), 0))]
    keep = changed | (t_ns - since >= COUNTER_STEP_NS)
    keep[-1] = True
    return keep


def _integral_power(parts: Partition, ticks: Ticks) -> FloatArray:
    """Mean power of every interval by the trapezoid between its ticks; after a hole, by its own reading."""
    sensor = _sensor(ticks)
    here, before = parts.spread(sensor), parts.spread(np.append(np.nan, sensor[:-1]))
    return np.where(parts.follows & np.isfinite(before), (here + before) / 2, here)


def _sensor(ticks: Ticks) -> FloatArray:
    """Power at every tick: instantaneous, else the driver's average."""
    return np.where(np.isfinite(ticks.power_w), ticks.power_w, ticks.power_average_w)


def _idle_power(ticks: Ticks, holding: Holding, parts: Partition, power_w: FloatArray) -> tuple[float, str]:
    """What the GPU draws while nothing runs, and how that was seen.

    A low quantile of the readings, so that neither a dip nor the clocks that stay high after work decide; never a value from a book.
    """
    sensor = _sensor(ticks)
    if not np.isfinite(sensor).any():
        sensor = np.full(len(ticks), np.nan)
        sampled = parts.tick >= 0
        sensor[parts.tick[sampled]] = power_w[sampled]
    quiet = np.isfinite(sensor) & ~(ticks.util > 0) & ~(holding.foreign & np.isnan(ticks.util))
    free = (holding.state == FREE) & ~holding.foreign
    for basis, chosen in (("empty", quiet & free), ("idle", quiet & (ticks.util == 0))):
        if chosen.sum() >= _FEWEST_QUIET:
            values = sensor[chosen]
            rank = int(_QUIET_QUANTILE * (len(values) - 1))
            return float(np.partition(values, rank)[rank]), basis
    known = sensor[np.isfinite(sensor)]
    return (float(known.min()), "minimum") if len(known) else (float("nan"), "unknown")


def _by_segment(
    parts: Partition,
    ticks: Ticks,
    holding: Holding,
    boundaries: IntArray,
    power_w: FloatArray,
    idle_w: float,
    *,
    equal: bool,
) -> FloatArray:
    """Joules (all, active, idle, foreign) and known nanoseconds of every segment."""
    found = np.zeros((max(len(boundaries) - 1, 0), 5))
    if not len(found):
        return found
    start, owner = pieces(parts, boundaries)
    length = np.diff(start, append=boundaries[-1])
    first = np.searchsorted(start, boundaries[:-1])
    known = np.isfinite(power_w)[owner]
    seconds = np.where(known, length / _NS_PER_S, 0.0)
    run, foreign, crowd = (weights[owner] for weights in _activity(parts, ticks, holding))
    joules = np.where(known, power_w[owner], 0.0) * seconds
    baseline = (idle_w if np.isfinite(idle_w) else 0.0) * seconds
    # Readings scatter about the idle power, so what lies above it is summed first and cut at zero then.
    above = joules - baseline
    total = np.add.reduceat(joules, first)
    active = np.maximum(np.add.reduceat(above * run, first), 0)
    others = np.maximum(np.add.reduceat(above * foreign, first), 0)
    excess = np.maximum((active + others) / np.where(total > 0, total, 1.0), 1.0)
    active, others = active / excess, others / excess
    found[:, KNOWN_NS] = np.add.reduceat(np.where(known, length, 0), first)
    idle = np.maximum(total - active - others, 0.0)
    if equal:
        with np.errstate(invalid="ignore"):
            moved = np.nan_to_num(np.add.reduceat(crowd * seconds, first) / np.add.reduceat(seconds, first)) * idle
        others, idle = others + moved, idle - moved
    found[:, ACTIVE], found[:, FOREIGN], found[:, IDLE] = active, others, idle
    found[:, ENERGY] = total
    return found


def _activity(parts: Partition, ticks: Ticks, holding: Holding) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The run's share of the active energy of every interval, that of others, and others' share of the heads.

    A hole has no reading of its own; the one after it speaks for it, else the last one.
    """
    held, free = holding.state == HELD, holding.state == FREE
    run = np.where(held & holding.foreign, holding.run_share, np.where(free, 0.0, 1.0))
    foreign = np.where(holding.foreign, 1.0 - run, 0.0)
    if not len(ticks):
        return np.ones(len(parts)), np.zeros(len(parts)), np.zeros(len(parts))
    tick = np.minimum(parts.next_tick, len(ticks) - 1)
    return run[tick], foreign[tick], holding.foreign_headcount[tick]
