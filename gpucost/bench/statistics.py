"""The statistics of a series of windows: median and percentiles, drift, a block-bootstrap interval, steadiness, and a test for a difference.

Windows are autocorrelated (a clock governor acts over tenths of seconds), so nothing here treats neighbours as independent: intervals and tests resample
blocks of neighbouring windows. Everything is deterministic: the same series gives the same figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Series = NDArray[np.float64]

RESAMPLES = 1000
BLOCK_S = 1.0
"""Length of a bootstrap block where the series is long enough for it."""

MIN_BLOCKS = 4
"""A series is cut into at least so many blocks; of fewer, resampling says nothing."""

MIN_WINDOWS = 8
"""Below this an interval is not given: unknown is better than a narrow guess."""

_SEED = 20_240_229  # any number; fixed, so that the same windows always give the same interval


@dataclass(frozen=True, slots=True)
class Summary:
    """A series of rates in the unit of the series.

    Attributes:
        n: how many windows.
        median: of all windows.
        p5, p95: percentiles (linear interpolation).
        mad: median absolute deviation from the median.
        rel_iqr: (p75 - p25) / median.
        drift: median of the second half / median of the first half - 1; None below four windows.
        ci95: 95 % interval of the median by the moving-block bootstrap; None where the series is too short for one.
        block_windows: windows in a block of that bootstrap.
    """

    n: int
    median: float
    p5: float
    p95: float
    mad: float
    rel_iqr: float
    drift: float | None
    ci95: tuple[float, float] | None
    block_windows: int


def summarize(rates: Sequence[float], window_s: float) -> Summary:
    """Summarize a series of windows of about `window_s` seconds each, in time order.

    Raises:
        ValueError: the series is empty.
    """
    series = np.asarray(rates, dtype=float)
    if series.size == 0:
        raise ValueError("there is nothing to summarize")
    p5, p25, median, p75, p95 = (float(value) for value in np.percentile(series, (5, 25, 50, 75, 95)))
    block = block_windows(series.size, window_s)
    return Summary(
        n=int(series.size),
        median=median,
        p5=p5,
        p95=p95,
        mad=float(np.median(np.abs(series - median))),
        rel_iqr=(p75 - p25) / abs(median) if median else 0.0,
        drift=drift(series),
        ci95=median_interval(series, block),
        block_windows=block,
    )


def block_windows(n: int, window_s: float) -> int:
    """How many windows make a block: a second's worth, but never so many that fewer than `MIN_BLOCKS` blocks fit the series."""
    wanted = round(BLOCK_S / window_s) if window_s > 0 else 1
    return max(1, min(wanted, n // MIN_BLOCKS))


def drift(rates: Sequence[float] | Series) -> float | None:
    """Median of the second half over median of the first half, minus one; None where that is not known."""
    series = np.asarray(rates, dtype=float)
    half = series.size // 2
    if half < 2:  # noqa: PLR2004 (a median of one value is that value's noise)
        return None
    first = float(np.median(series[:half]))
    return float(np.median(series[-half:])) / first - 1 if first else None


def median_interval(rates: Sequence[float] | Series, block: int, *, level: float = 0.95) -> tuple[float, float] | None:
    """Interval of the median by the moving-block bootstrap (Kuensch 1989), or None for a series too short for it.

    The percentiles of the resampled medians are widened about the median by `_small_sample(blocks)`: few blocks vary less than what they stand for,
    and without it a short series would look too sure of itself.
    """
    series = np.asarray(rates, dtype=float)
    if series.size < MIN_WINDOWS:
        return None
    medians = np.median(_resampled(series, block), axis=1)
    tail = 100 * (1 - level) / 2
    low, high = (float(value) for value in np.percentile(medians, (tail, 100 - tail)))
    return _widened(float(np.median(series)), low, high, _small_sample(series.size / block))


def _widened(center: float, low: float, high: float, factor: float) -> tuple[float, float]:
    """An interval widened about its centre; of positive figures by ratio, so that it stays positive."""
    if low > 0:
        return float(center * (low / center) ** factor), float(center * (high / center) ** factor)
    return center - (center - low) * factor, center + (high - center) * factor


def _small_sample(blocks: float) -> float:
    """How much wider a 95 % interval from `blocks` blocks is than the normal approximation.

    sqrt(k / (k - 1)) for the variance that resampling k blocks loses, times t / z with k - 1 degrees of freedom (Student's t by the
    Cornish-Fisher expansion, Abramowitz and Stegun 26.7.5).
    """
    free, z = max(blocks - 1, 1.0), 1.959964
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return float((blocks / free) ** 0.5 * t / z) if blocks > 1 else 1.0


def _resampled(series: Series, block: int, resamples: int = RESAMPLES) -> Series:
    """`resamples` series of the same length, each made of blocks of neighbours drawn with replacement; shape (resamples, n)."""
    n = series.size
    count = -(-n // block)
    starts = np.random.default_rng(_SEED).integers(0, n - block + 1, size=(resamples, count))
    index = (starts[:, :, None] + np.arange(block)).reshape(resamples, count * block)[:, :n]
    drawn: Series = series[index]
    return drawn


# --- steadiness --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SteadyLimits:
    """What counts as steady over the last `span_s` seconds of a warm-up; slopes are per second."""

    span_s: float = 2.0
    rate_slope: float = 0.005  # relative
    clock_range: float = 0.03  # relative: (max - min) / median
    temperature_slope_c: float = 0.5
    power_slope: float = 0.01  # relative


def slope(times_s: Sequence[float], values: Sequence[float]) -> float:
    """Slope of a least-squares line through the points, per second; 0 for fewer than two points in time."""
    t, v = np.asarray(times_s, dtype=float), np.asarray(values, dtype=float)
    spread = t - t.mean() if t.size else t
    denominator = float(spread @ spread)
    return float(spread @ v) / denominator if denominator > 0 else 0.0


def unsteady(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], limits: SteadyLimits) -> list[str]:
    """Which of `rate`, `clock`, `temperature` and `power` are not steady yet; an empty list means steady.

    Args:
        series: name to (times in seconds, values), any part of the warm-up. Only the last `limits.span_s` seconds count, and `rate` must cover them;
            a quantity that cannot be measured (no entry, or no values) does not hold anything up.
        limits: what counts as steady.
    """
    rate_times = series["rate"][0]
    if not rate_times or rate_times[-1] - rate_times[0] < limits.span_s:
        return ["rate"]
    end = rate_times[-1]
    found = []
    for name, (times, values) in series.items():
        recent = [(t, v) for t, v in zip(times, values, strict=True) if t >= end - limits.span_s]
        if len(recent) > 1 and not _is_steady(name, recent, limits):
            found.append(name)
    return found


def _is_steady(name: str, recent: list[tuple[float, float]], limits: SteadyLimits) -> bool:
    times, values = [t for t, _ in recent], [v for _, v in recent]
    middle = abs(float(np.median(values))) or 1.0
    if name == "clock":
        return (max(values) - min(values)) / middle < limits.clock_range
    change = abs(slope(times, values))
    if name == "temperature":
        return change < limits.temperature_slope_c
    return change / middle < (limits.rate_slope if name == "rate" else limits.power_slope)


# --- two series --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """Series B against series A.

    Attributes:
        ratio: median(B) / median(A).
        ci95: interval of that ratio by the block bootstrap of both; None where either series is too short.
        p_value: Welch's t test of the logarithms of block medians, two-sided: how likely blocks of two series with one median would lie so far
            apart; None where either series is too short.
    """

    ratio: float
    ci95: tuple[float, float] | None
    p_value: float | None


def difference(a: Sequence[float], b: Sequence[float], window_s: float) -> Difference:
    """Compare two series of windows of about `window_s` seconds each.

    Raises:
        ValueError: a series is empty, or holds a rate that is not positive.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.size == 0 or second.size == 0 or min(first.min(), second.min()) <= 0:
        raise ValueError("only series of positive rates can be compared")
    ratio = float(np.median(second)) / float(np.median(first))
    if min(first.size, second.size) < MIN_WINDOWS:
        return Difference(ratio, None, None)
    blocks = block_windows(first.size, window_s), block_windows(second.size, window_s)
    medians_a = np.median(_resampled(first, blocks[0]), axis=1)
    medians_b = np.median(
        _resampled(second[::-1], blocks[1]), axis=1
    )  # reversed, so that equal series draw different blocks
    low, high = (float(value) for value in np.percentile(medians_b / medians_a, (2.5, 97.5)))
    widen = _small_sample(min(first.size / blocks[0], second.size / blocks[1]))
    interval = _widened(ratio, low, high, widen)
    return Difference(ratio, interval, welch_p(_block_medians(first, blocks[0]), _block_medians(second, blocks[1])))


def _block_medians(series: Series, block: int) -> Series:
    """Logarithms of the medians of the whole blocks that the series can be cut into."""
    count = series.size // block
    return np.log(np.median(series[: count * block].reshape(count, block), axis=1))


def welch_p(a: Sequence[float] | Series, b: Sequence[float] | Series) -> float:
    """Two-sided p value of Welch's t test (1947) for "both have the same mean"; each needs two values or more."""
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    parts = [float(np.var(side, ddof=1)) / side.size for side in (first, second)]
    apart = abs(float(first.mean()) - float(second.mean()))
    error = sum(parts)
    if error == 0:
        return 1.0 if apart == 0 else 0.0
    weights = [part**2 / (side.size - 1) for part, side in zip(parts, (first, second), strict=True)]
    return student_p(apart / error**0.5, error**2 / sum(weights))


def student_p(t: float, freedom: float) -> float:
    """Two-sided p value of Student's t with `freedom` degrees of freedom (above a thousand it is that of a thousand).

    With t = sqrt(freedom) tan(u) the density is proportional to cos(u) ** (freedom - 1) on [-pi/2, pi/2], which the trapezoidal rule integrates well.
    """
    freedom = min(freedom, 1000.0)
    start = float(np.arctan(abs(t) / freedom**0.5))
    tail, whole = (_area(np.linspace(low, np.pi / 2, 4001), freedom) for low in (start, 0.0))
    return min(1.0, max(0.0, tail / whole))


def _area(u: Series, freedom: float) -> float:
    height = np.cos(u) ** (freedom - 1)
    return float((height[1:] + height[:-1]) @ np.diff(u)) / 2


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979), so that twenty comparisons do not find one difference by chance; same order as given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted
