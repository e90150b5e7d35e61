"""What each interval of a held GPU was used for: busy, gap, idle, empty, foreign or unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpucost.analyzers.arrays import BoolArray, FloatArray, IntArray, stretches
from gpucost.analyzers.holding import FREE, HELD, UNSURE
from gpucost.analyzers.model import USES
from gpucost.analyzers.timeline import pieces

if TYPE_CHECKING:
    import numpy.typing as npt

    from gpucost.analyzers.holding import Holding
    from gpucost.analyzers.timeline import Partition, Ticks

BUSY, GAP, IDLE, EMPTY, FOREIGN, UNKNOWN = range(len(USES))

KNOWN = ""
NO_SAMPLE = "no_sample"
INVALID = "invalid"
HOLDING = "holding"
UNLISTED = "unlisted"
UNSUPPORTED = "unsupported"
GPU_LOST = "gpu_lost"
NOT_CLOSED = "not_closed"
REASONS = (KNOWN, NO_SAMPLE, INVALID, HOLDING, UNLISTED, UNSUPPORTED, GPU_LOST, NOT_CLOSED)
"""Why time is unknown: no reading speaks for it; the reading had no valid utilization; nothing says whether the run holds the GPU; kernels
ran and no process was listed; the GPU never gave a utilization; the GPU was lost; the recorder ended before the run."""


@dataclass(frozen=True, slots=True)
class Used:
    """What every interval of one GPU's partition was used for.

    Attributes:
        parts: the intervals.
        busy: share (0 to 1) of each in which kernels of the run were executing.
        active: share in which any were; what is above `busy` is foreign.
        rest: the use of the remaining share: GAP, IDLE, EMPTY or UNKNOWN (then it is the whole interval).
        reason: why it is unknown, a position in `REASONS`; 0 where it is known.
        idle: first and last-plus-one intervals of each stretch of at least `idle_after` in which the run held the GPU and no kernel of it ran.
        empty: the same of stretches in which nobody was on it, or nobody of the run and nothing ran.
    """

    parts: Partition
    busy: FloatArray
    active: FloatArray
    rest: npt.NDArray[np.int8]
    reason: npt.NDArray[np.int8]
    idle: tuple[IntArray, IntArray]
    empty: tuple[IntArray, IntArray]

    def spans_of(self, use: int) -> tuple[IntArray, IntArray]:
        """Start and end of every such stretch of IDLE or EMPTY, in nanoseconds."""
        first, after = self.idle if use == IDLE else self.empty
        return self.parts.start_ns[first], self.parts.end_ns[after - 1]


def classify(parts: Partition, ticks: Ticks, holding: Holding, idle_after_ns: int) -> Used:
    """Decide the use of every interval.

    Args:
        parts: the held window, cut at the ticks.
        ticks: the GPU's readings.
        holding: who is on the GPU at each tick.
        idle_after_ns: how long no kernel has to run for the time to be idle rather than a gap.
    """
    busy, active, rest, reason = _by_tick(ticks, holding)
    tick = parts.tick
    rest = np.append(rest, np.int8(UNKNOWN))[tick]
    reason = np.append(reason, np.int8(REASONS.index(NO_SAMPLE)))[tick]
    busy, active = np.append(busy, 0.0)[tick], np.append(active, 0.0)[tick]
    idle = _long(parts, (rest == GAP) & (busy == 0), idle_after_ns)
    empty = _long(parts, (rest == EMPTY) & (active == 0), idle_after_ns)
    marks = np.zeros(len(parts) + 1, np.int64)
    np.add.at(marks, idle[0], 1)
    np.add.at(marks, idle[1], -1)
    rest[np.cumsum(marks[:-1]) > 0] = IDLE
    return Used(parts, busy, active, rest, reason, idle, empty)


def _by_tick(
    ticks: Ticks, holding: Holding
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """Busy share, active share, use of the rest and reason, for the time that each tick speaks for."""
    read = np.isfinite(ticks.util)
    util = np.where(read, ticks.util, 0.0)
    held, free = holding.state == HELD, holding.state == FREE
    active = np.where((held & read) | (free & holding.foreign), util, 0.0)
    busy = np.where(held & read, util * np.where(holding.foreign, holding.run_share, 1.0), 0.0)
    reason = np.zeros(len(ticks), np.int8)
    reason[held & ~read] = REASONS.index(INVALID)
    reason[holding.state == UNSURE] = REASONS.index(HOLDING)
    # Kernels ran, nobody was listed, and memory does not say that nobody was there: it was somebody, and nobody knows who.
    reason[free & ~holding.foreign & (util > 0) & ~holding.bare] = REASONS.index(UNLISTED)
    rest = np.where(held, GAP, EMPTY).astype(np.int8)
    rest[reason > 0] = UNKNOWN
    return busy, np.maximum(active, busy), rest, reason


def _long(parts: Partition, mask: BoolArray, least_ns: int) -> tuple[IntArray, IntArray]:
    """The runs of adjoining intervals in the mask that last at least so long."""
    first, after = stretches(mask)
    lasts = parts.end_ns[after - 1] - parts.start_ns[first] >= least_ns
    return first[lasts], after[lasts]


def durations(used: Used, boundaries: IntArray) -> IntArray:
    """Nanoseconds of every use in every segment.

    Each piece of an interval is split at rounded cumulative shares, so its parts add up to it exactly, and so do all sums.

    Args:
        used: the uses of the intervals.
        boundaries: the segments' boundaries, strictly ascending, from 0 to the end of the window.

    Returns:
        int64, shape (segments, uses); the sum of a row is the segment's length.
    """
    segments = len(boundaries) - 1
    if segments < 1:
        return np.zeros((0, len(USES)), np.int64)
    start, owner = pieces(used.parts, boundaries)
    length = np.diff(start, append=boundaries[-1])
    active = np.minimum(np.rint(length * used.active[owner]).astype(np.int64), length)
    busy = np.minimum(np.rint(length * used.busy[owner]).astype(np.int64), active)
    rest_ns, rest = length - active, used.rest[owner]
    first = np.searchsorted(start, boundaries[:-1])
    found = np.empty((segments, len(USES)), np.int64)
    found[:, BUSY] = np.add.reduceat(busy, first)
    found[:, FOREIGN] = np.add.reduceat(active - busy, first)
    for use in (GAP, IDLE, EMPTY, UNKNOWN):
        found[:, use] = np.add.reduceat(np.where(rest == use, rest_ns, 0), first)
    return found
