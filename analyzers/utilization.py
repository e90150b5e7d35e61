"""How hard each GPU worked: means, peaks, and a timeline of equal buckets for drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpucost.analyzers.timeline import pieces

if TYPE_CHECKING:
    from gpucost.analyzers.arrays import FloatArray, IntArray
    from gpucost.analyzers.timeline import Partition, Ticks


def summary(parts: Partition, ticks: Ticks, end_ns: int) -> dict[str, Any]:
    """Means and peaks of one GPU, NaN where nothing was measured.

    Means are weighted by the time that each reading speaks for.
    """
    inside = (ticks.t_ns > 0) & (ticks.t_ns <= end_ns)
    power = _power(ticks)
    return {
        "util_mean_pct": _mean(parts, ticks.util) * 100,
        "memory_peak_bytes": _most(ticks.memory_bytes[inside]),
        "power_mean_w": _mean(parts, power),
        "power_max_w": _most(power[inside]),
        "temperature_max_c": _most(ticks.temperature_c[inside]),
        "samples": int(inside.sum()),
    }


def _power(ticks: Ticks) -> FloatArray:
    return np.where(np.isfinite(ticks.power_w), ticks.power_w, ticks.power_average_w)


def _mean(parts: Partition, values: FloatArray) -> float:
    spread = parts.spread(values)
    known = np.isfinite(spread)
    weight = parts.duration_ns[known]
    return float((spread[known] * weight).sum() / weight.sum()) if known.any() else float("nan")


def _most(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else float("nan")


def buckets(end_ns: int, count: int) -> IntArray:
    """The boundaries of so many equal parts of [0, end_ns), rounded down; empty where there is no time or no part."""
    if end_ns <= 0 or count <= 0:
        return np.zeros(0, np.int64)
    return np.array([end_ns * number // count for number in range(count + 1)], np.int64)


def timeline(parts: Partition, ticks: Ticks, bounds: IntArray) -> dict[str, Any]:
    """Time-weighted means of utilization, power and memory in every bucket, NaN where nothing was measured.

    Args:
        parts: the held window, cut at the ticks.
        ticks: the GPU's readings.
        bounds: the buckets' boundaries; a bucket may be empty where the window is shorter than there are buckets.
    """
    start, owner = pieces(parts, np.unique(bounds)) if len(parts) else (np.zeros(0, np.int64),) * 2
    length = np.diff(start, append=bounds[-1:]).astype(np.float64)
    tick = parts.tick[owner]
    first = np.searchsorted(start, bounds)

    def means(values: FloatArray) -> FloatArray:
        found = np.append(values, np.nan)[tick]
        known = np.isfinite(found)
        weights = np.where(known, length, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return _between(np.where(known, found, 0.0) * weights, first) / _between(weights, first)

    return {
        "bucket": np.arange(max(len(bounds) - 1, 0)),
        "start_ns": bounds[:-1],
        "end_ns": bounds[1:],
        "util_pct": means(ticks.util) * 100,
        "power_w": means(_power(ticks)),
        "memory_used_bytes": means(ticks.memory_bytes),
    }


def _between(values: FloatArray, first: IntArray) -> FloatArray:
    """Sums of the values from each position up to the next one."""
    if len(first) < 2:  # noqa: PLR2004 (between needs two)
        return np.zeros(0)
    padded = np.append(values, 0.0)
    sums = np.add.reduceat(padded, first)[:-1]
    sums[first[1:] <= first[:-1]] = 0.0
    return sums
