"""Statistics for few runs with outliers: nothing here assumes that figures are normal.

The rank test is that of Mann and Whitney (1947) with the midranks of Wilcoxon (1945). Up to `EXACT_RUNS` runs its p is exact, ties included:
the share of all ways to deal the observed ranks to the two sides that are at least as far from the middle as the one seen. Beyond, it is the
normal approximation with the correction for ties and that for continuity (Lehmann, Nonparametrics, 1975, sections 1.2 and 1.4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

EXACT_RUNS = 50
"""Up to so many runs of both sides together p is exact: the counts of ways still fit into 64 bits."""

MAD_TO_SIGMA = 1.4826
"""The standard deviation of normal figures whose median absolute deviation is 1 (1 / the third quartile of the normal distribution)."""


@dataclass(frozen=True, slots=True)
class MannWhitney:
    """The outcome of a test.

    Attributes:
        u: of the second side: in how many pairs its figure is the higher one, a tie counting one half.
        p: two-sided.
        exact: whether `p` is exact or the normal approximation.
    """

    u: float
    p: float
    exact: bool


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("the median of nothing")
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def mad(values: Sequence[float]) -> float:
    """The median absolute deviation from the median, as it is (not scaled to a standard deviation).

    Raises:
        ValueError: there are no values.
    """
    middle = median(values)
    return median([abs(value - middle) for value in values])


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> MannWhitney:
    """Whether one of two sides tends to higher figures.

    Raises:
        ValueError: a side is empty or a figure is not finite.
    """
    if not first or not second:
        raise ValueError("each side needs at least one figure")
    if not all(math.isfinite(value) for value in (*first, *second)):
        raise ValueError("figures must be finite")
    ranks = _doubled_midranks([*first, *second])
    size = len(second)
    rank_sum = sum(ranks[len(first) :])
    u = rank_sum / 2 - size * (size + 1) / 2
    exact = len(ranks) <= EXACT_RUNS
    p = _exact_p(tuple(sorted(ranks)), size, rank_sum) if exact else _normal_p(ranks, size, u)
    return MannWhitney(u, p, exact)


def _doubled_midranks(values: Sequence[float]) -> list[int]:
    """Twice the rank of each value, which is whole; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for position in range(start, end + 1):
            ranks[order[position]] = start + end + 2
        start = end + 1
    return ranks


@lru_cache(maxsize=256)
def _ways(ranks: tuple[int, ...], size: int) -> np.ndarray:
    """In how many ways `size` of the doubled ranks can be chosen, by their sum."""
    top = sum(ranks[len(ranks) - size :])
    ways = np.zeros((size + 1, top + 1), dtype=np.int64)
    ways[0, 0] = 1
    for rank in ranks:
        for taken in range(size, 0, -1):
            ways[taken, rank:] += ways[taken - 1, : top + 1 - rank]
    chosen: np.ndarray = ways[size]
    return chosen


def _exact_p(ranks: tuple[int, ...], size: int, rank_sum: int) -> float:
    ways = _ways(ranks, size)
    count = len(ranks)
    # Distances from the middle in units of 1 / count, so that they are whole numbers too.
    middle = size * sum(ranks)
    distance = np.abs(np.arange(len(ways), dtype=np.int64) * count - middle)
    as_far = ways[distance >= abs(rank_sum * count - middle)]
    return min(1.0, int(as_far.sum()) / math.comb(count, size))


def _normal_p(ranks: Sequence[int], size: int, u: float) -> float:
    count = len(ranks)
    other = count - size
    ties = np.unique(np.asarray(ranks), return_counts=True)[1].astype(float)
    variance = size * other / 12 * (count + 1 - float((ties**3 - ties).sum()) / (count * (count - 1)))
    if variance <= 0:
        return 1.0  # all figures are equal
    distance = max(0.0, abs(u - size * other / 2) - 0.5)
    return math.erfc(distance / math.sqrt(2 * variance))
