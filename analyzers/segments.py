"""Cut a run where the set of innermost open stages changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpucost.analyzers.arrays import IntArray, distinct, union

if TYPE_CHECKING:
    from gpucost.analyzers.stages import Spans


@dataclass(frozen=True, slots=True)
class Segments:
    """The run, cut into segments throughout which the same leaf stages are open.

    A span is a leaf while it is open and no descendant of it is. It can be one several times, so leaves are intervals.

    Attributes:
        boundaries_ns: int64, strictly ascending from 0 to the run's end; segment k lies between k and k + 1.
        leaf: the span of each leaf interval.
        first: its first segment.
        after: the segment after its last.
        open_paths: how many different paths are open in each segment.
        only_path: the path of the segments with exactly one, else meaningless.
    """

    boundaries_ns: IntArray
    leaf: IntArray
    first: IntArray
    after: IntArray
    open_paths: IntArray
    only_path: IntArray

    def __len__(self) -> int:
        return len(self.boundaries_ns) - 1


def count_over(segments: int, first: IntArray, after: IntArray, weight: IntArray | None = None) -> IntArray:
    """How many ranges of segments, or which sum of their weights, lie over each segment.

    Args:
        segments: how many segments there are.
        first: first segment of each range.
        after: the segment after its last.
        weight: what each range counts, 1 by default.
    """
    marks = np.zeros(segments + 1, np.int64)
    weight = np.ones(len(first), np.int64) if weight is None else weight
    np.add.at(marks, first, weight)
    np.add.at(marks, after, -weight)
    return np.cumsum(marks[:-1])


def cut(spans: Spans, end_ns: int) -> Segments:
    """The segments of a run.

    Args:
        spans: its stages.
        end_ns: its length.
    """
    leaf, start, end = _leaves(spans)
    edges = distinct(np.concatenate((start, end, np.array([0, max(end_ns, 0)], np.int64))))
    first, after = np.searchsorted(edges, start), np.searchsorted(edges, end)
    path, path_first, path_after = union(spans.path[leaf], first, after)
    count = len(edges) - 1
    return Segments(
        boundaries_ns=edges,
        leaf=leaf,
        first=first,
        after=after,
        open_paths=count_over(count, path_first, path_after),
        only_path=count_over(count, path_first, path_after, path),
    )


def _leaves(spans: Spans) -> tuple[IntArray, IntArray, IntArray]:
    """Span, start and end of every leaf interval, from one sweep over all starts and ends."""
    sweep = _Sweep(spans)
    lasting = np.flatnonzero(spans.end_ns > spans.start_ns)
    moments = np.concatenate((spans.start_ns[lasting], spans.end_ns[lasting]))
    order = np.argsort(moments, kind="stable")
    who = np.concatenate((lasting, lasting))[order].tolist()
    starting = (order < len(lasting)).tolist()
    for span, begins, now in zip(who, starting, moments[order].tolist(), strict=True):
        if begins:
            sweep.start(span, now)
        else:
            sweep.end(span, now)
    found = np.array(sweep.found, np.int64).reshape(-1, 3)
    return found[:, 0], found[:, 1], found[:, 2]


class _Sweep:
    """Which spans are leaves, as time goes by."""

    def __init__(self, spans: Spans) -> None:
        self.found: list[tuple[int, int, int]] = []
        self._parent = spans.parent
        self._inside = [0] * len(spans)  # open descendants
        self._is_open = [False] * len(spans)
        self._leaf_since = [0] * len(spans)

    def start(self, span: int, now: int) -> None:
        """A span opens; its ancestors are no leaves any more."""
        self._is_open[span] = True
        self._leaf_since[span] = now
        above = self._parent[span]
        while above >= 0:
            if self._inside[above] == 0:
                self._close(above, now)
            self._inside[above] += 1
            above = self._parent[above]

    def end(self, span: int, now: int) -> None:
        """A span closes; an ancestor with no other open descendant is a leaf again."""
        if self._inside[span] == 0:
            self._close(span, now)
        self._is_open[span] = False
        above = self._parent[span]
        while above >= 0:
            self._inside[above] -= 1
            if self._inside[above] == 0:
                self._leaf_since[above] = now
            above = self._parent[above]

    def _close(self, span: int, now: int) -> None:
        if self._is_open[span] and now > self._leaf_since[span]:
            self.found.append((span, self._leaf_since[span], now))
