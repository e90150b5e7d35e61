"""What the driver kept between ticks, put where it belongs: a slow recording then knows what happened between its readings.

The driver's own samples of utilization come one a sample period, with the time at which each period ended. Where they follow each other
without a hole they speak for that time, and a tick's reading, which repeats the last completed period up to a period late, does not.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gpucost.analyzers.arrays import FloatArray, IntArray, floats, times
from gpucost.analyzers.timeline import MAX_POWER_W, Ticks

if TYPE_CHECKING:
    import pandas as pd

_WIDEST_NS = 1_100_000_000
"""NVML's sample periods are a second at most: what lies further apart has a hole in it."""

_SPREAD = 2.5
"""Samples of utilization further apart than this many of their usual distances have a hole between them."""

_FEWEST = 3


def refine(ticks: Ticks, frame: pd.DataFrame, rows: IntArray, period_ns: int) -> Ticks:
    """What readings and the driver's own samples say together.

    A tick says what the sample says whose period it lies in. Samples become readings of their own only where they say more than the ticks: those of
    utilization where they come more often than ticks do, those of power where there is no energy counter.

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
    usual_ns = float(np.median(np.diff(t_ns[told]))) if told.sum() >= _FEWEST else np.inf
    refined = replace(ticks, util=_spoken_for(ticks, t_ns[told], util[told], usual_ns))
    if period_ns <= usual_ns:
        util = np.full(len(util), np.nan)
    if np.isfinite(ticks.energy_j).any():
        power_w = np.full(len(util), np.nan)
    place = np.searchsorted(ticks.t_ns, t_ns)
    new = ~(np.isnan(util) & np.isnan(power_w)) & (ticks.t_ns[np.minimum(place, len(ticks) - 1)] != t_ns)
    return _merged(refined, place[new], t_ns[new], util[new], power_w[new]) if new.any() else refined


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


def _spoken_for(ticks: Ticks, stamps: IntArray, util: FloatArray, usual_ns: float) -> FloatArray:
    """Utilization at every tick: of the sample in whose period it lies, else its own.

    Args:
        ticks: the readings.
        stamps: ends of the samples' periods, strictly ascending.
        util: of the samples.
        usual_ns: how far apart they usually are.
    """
    if len(stamps) < _FEWEST:
        return ticks.util
    whole = np.diff(stamps) <= min(_SPREAD * usual_ns, _WIDEST_NS)
    # Stamps split the ticks into runs: up to the first, between two neighbours, after the last.
    runs = np.diff(np.searchsorted(ticks.t_ns, stamps, side="right"), prepend=0, append=len(ticks))
    found = np.repeat(np.append(util, np.nan), runs)
    # The first sample's own period began before it, and readings within it are of the period before.
    speaks = np.repeat(np.concatenate(([False], whole, [False])), runs)
    first = int(runs[0])
    speaks[:first] = stamps[0] - ticks.t_ns[:first] < usual_ns
    return np.where(speaks, found, ticks.util)


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
