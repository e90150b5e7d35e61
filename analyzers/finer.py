"""What the driver kept between ticks, put where it belongs: a slow recording then knows what happened between its readings.

The driver's own samples of utilization come one a sample period, with the time at which each period ended. Where they follow each other
without a hole they speak for that time, and a tick's reading, which repeats the last completed period up to a period late, does not.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from gpucost.analyzers.arrays import BoolArray, FloatArray, IntArray, floats, times
from gpucost.analyzers.timeline import MAX_POWER_W, Ticks

if TYPE_CHECKING:
    import pandas as pd

_WIDEST_NS = 1_100_000_000
"""NVML's sample periods are a second at most: what lies further apart has a hole in it."""

_SPREAD = 2.5
"""Samples of utilization further apart than this many of their usual distances have a hole between them."""

_FEWEST = 3


def refine(ticks: Ticks, frame: pd.DataFrame, rows: IntArray) -> Ticks:
    """Readings and the driver's own samples together, in time order.

    Args:
        ticks: the GPU's readings.
        frame: the table `gpu_sample`.
        rows: the row numbers of this GPU in it.
    """
    if not len(rows) or not len(ticks):
        return ticks
    t_ns, known = times(frame, "t_ns", rows)
    rows, t_ns = rows[known], t_ns[known]
    order = np.argsort(t_ns, kind="stable")
    rows, t_ns = rows[order], t_ns[order]
    util = floats(frame, "gpu_util_pct", rows, low=0, high=100) / 100
    power = floats(frame, "power_w", rows, low=0, high=MAX_POWER_W)
    if not np.isfinite(power).any():
        power = floats(frame, "module_power_w", rows, low=0, high=MAX_POWER_W)
    some = (np.isfinite(util) | np.isfinite(power)) & ~np.isin(t_ns, ticks.t_ns)
    exact = np.isfinite(util) & np.isin(t_ns, ticks.t_ns)
    stamps = np.isfinite(util)
    covered = _covered(ticks.t_ns, t_ns[stamps])
    own = np.where(covered, np.nan, ticks.util)
    own[covered & (ticks.t_ns < (t_ns[stamps][0] if stamps.any() else 0))] = util[stamps][0] if stamps.any() else np.nan
    place = np.searchsorted(ticks.t_ns, t_ns[exact])
    own[place] = util[exact]
    some &= np.append(True, t_ns[1:] > t_ns[:-1])
    return _merged(ticks, own, t_ns[some], util[some], power[some])


def _covered(t_ns: IntArray, stamps: IntArray) -> BoolArray:
    """Which ticks lie in a period that a sample of utilization speaks for."""
    if len(stamps) < _FEWEST:
        return np.zeros(len(t_ns), np.bool_)
    apart = np.diff(stamps)
    widest = min(_SPREAD * float(np.median(apart)), _WIDEST_NS)
    after = np.searchsorted(stamps, t_ns)
    inside = (after > 0) & (after < len(stamps))
    # The first sample's own period began before it, and readings within it are of the period before.
    found: BoolArray = (after == 0) & (stamps[0] - t_ns < np.median(apart))
    found[inside] = apart[after[inside] - 1] <= widest
    return found


def _merged(ticks: Ticks, own_util: FloatArray, t_ns: IntArray, util: FloatArray, power_w: FloatArray) -> Ticks:
    both = np.concatenate((ticks.t_ns, t_ns))
    order = np.argsort(both, kind="stable")
    nothing = np.full(len(t_ns), np.nan)
    columns = {
        column.name: np.concatenate((getattr(ticks, column.name), nothing))[order] for column in fields(Ticks)[1:]
    }
    columns["util"] = np.concatenate((own_util, util))[order]
    columns["power_w"] = np.concatenate((ticks.power_w, power_w))[order]
    return Ticks(both[order], **columns)
