"""How the stages that are open together share a GPU: by what their processes do on it.

The activity of a process goes to the leaf stages of the nearest process, itself or an ancestor, that has some open; several stages of
one process share it equally. So a stage that waits for its child process's stage does not get the child's activity a second time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gpucost.analyzers.arrays import BoolArray, FloatArray, IntArray, distinct, floats, texts, times, truths
from gpucost.analyzers.segments import count_over

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from gpucost.analyzers.segments import Segments
    from gpucost.analyzers.stages import Spans

_MOST_ANCESTORS = 64
_LOOK_BACK_NS = 3_000_000_000
_DEFAULT_POLL_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Leaves:
    """The leaf intervals of a run, with what sharing needs to know of them; the same for every GPU.

    Attributes:
        segments: the segments.
        path: path of each leaf interval.
        process: number of each leaf interval's process, -1 where unknown.
        processes: host and pid to that number.
        open_spans: leaf spans open in each segment.
        known_spans: those whose process is known.
        shared: several paths are open.
        parents: host and pid to the parent's.
    """

    segments: Segments
    path: IntArray
    process: IntArray
    processes: dict[tuple[str, int], int]
    open_spans: IntArray
    known_spans: IntArray
    shared: BoolArray
    parents: Mapping[tuple[str, int], tuple[str, int]]

    def of_process(self, number: int) -> tuple[int, IntArray]:
        """The first segment in which a process has a leaf, and how many it has in each segment from there to its last."""
        own = self.process == number
        first, after = self.segments.first[own], self.segments.after[own]
        start = int(first.min())
        return start, count_over(int(after.max()) - start, first - start, after - start)


@dataclass(frozen=True, slots=True)
class Weights:
    """Shares of one GPU's time by activity.

    Attributes:
        decided: the segments in which activity decides.
        shares: number of a process to its first segment and, from there, the share of each of its leaf spans.
    """

    decided: BoolArray
    shares: dict[int, tuple[int, FloatArray]] = field(default_factory=dict)


def read_leaves(spans: Spans, segments: Segments, process: pd.DataFrame | None) -> Leaves:
    """What sharing needs to know.

    Args:
        spans: the stages.
        segments: the run's segments.
        process: the table `process`, for who is whose parent; the first sighting counts, since orphans get another.
    """
    openers = [spans.process[span] for span in segments.leaf.tolist()]
    once = dict.fromkeys(opener for opener in openers if opener is not None)
    processes = {opener: number for number, opener in enumerate(once)}
    number = np.array([-1 if opener is None else processes[opener] for opener in openers], np.int64)
    known = number >= 0
    shared = segments.open_paths > 1
    return Leaves(
        segments=segments,
        path=spans.path[segments.leaf],
        process=number,
        processes=processes,
        open_spans=count_over(len(segments), segments.first, segments.after),
        known_spans=count_over(len(segments), segments.first[known], segments.after[known]),
        shared=shared,
        parents=_parents(process) if shared.any() and processes else {},
    )


def _parents(process: pd.DataFrame | None) -> dict[tuple[str, int], tuple[str, int]]:
    if process is None or not {"pid", "ppid"} <= set(process.columns):
        return {}
    keys = [column for column in ("host", "pid") if column in process.columns]
    once = process.drop_duplicates(keys)
    pids, ppids = floats(once, "pid", low=0), floats(once, "ppid", low=0)
    known = np.isfinite(pids) & np.isfinite(ppids)
    hosts = texts(once, "host")
    return {
        (hosts[row] or "", int(pids[row])): (hosts[row] or "", int(ppids[row]))
        for row in np.flatnonzero(known).tolist()
    }


def weigh(leaves: Leaves, frame: pd.DataFrame, rows: IntArray, poll_ns: IntArray) -> Weights:
    """Shares of one GPU's time in the segments in which its processes' activity is known.

    Args:
        leaves: the leaf stages.
        frame: the table `gpu_process`.
        rows: the row numbers of this GPU in it.
        poll_ns: when the GPU's process list was asked for.
    """
    segments = len(leaves.segments)
    weights = Weights(np.zeros(segments, np.bool_))
    if not leaves.shared.any() or not len(rows) or not leaves.processes:
        return weights
    activity: dict[int, tuple[int, IntArray, FloatArray]] = {}
    total = np.zeros(segments)
    for process, (start, done) in _activity(leaves, frame, rows, poll_ns).items():
        _hand_up(leaves, process, start, done, activity, total)
    weights.decided[:] = (total > 0) & leaves.shared
    with np.errstate(invalid="ignore", divide="ignore"):
        for number, (start, heads, done) in activity.items():
            here = slice(start, start + len(done))
            part = leaves.known_spans[here] / leaves.open_spans[here]
            share = part * done / (total[here] * heads)
            weights.shares[number] = (start, np.where(weights.decided[here] & (heads > 0), share, 0.0))
    return weights


def _activity(
    leaves: Leaves, frame: pd.DataFrame, rows: IntArray, poll_ns: IntArray
) -> dict[tuple[str, int], tuple[int, FloatArray]]:
    """For each active process, its first segment and SM utilization times nanoseconds in each segment from there on."""
    t_ns, known = times(frame, "t_ns", rows)
    sm, pid = floats(frame, "sm_util_pct", rows, low=0, high=100), floats(frame, "pid", rows, low=0, high=2**53)
    polls = distinct(np.concatenate((poll_ns, t_ns[known])))
    if not len(polls):
        return {}
    spacing = int(np.median(np.diff(polls))) if len(polls) > 1 else _DEFAULT_POLL_NS
    before = np.append(polls[:1] - spacing, polls)[np.searchsorted(polls, t_ns)]
    since = np.maximum(before, t_ns - max(_LOOK_BACK_NS, 3 * spacing))
    # Somebody else's pid, seen from a container, can be that of one of the run's own processes.
    ours = truths(frame, "in_run", rows) != 0
    some = np.flatnonzero(known & ours & (np.nan_to_num(sm) > 0) & np.isfinite(pid))
    some = some[np.lexsort((t_ns[some], pid[some]))]
    hosts = texts(frame.iloc[rows[:1]], "host")
    found = {}
    for group in np.split(some, np.flatnonzero(np.diff(pid[some])) + 1):
        if len(group):
            process = (hosts[0] or "", int(pid[group[0]]))
            found[process] = _over_segments(leaves.segments.boundaries_ns, since[group], t_ns[group], sm[group])
    return found


def _over_segments(boundaries: IntArray, start: IntArray, end: IntArray, level: FloatArray) -> tuple[int, FloatArray]:
    """Integrate a level that holds over ordered intervals (start, end] within every segment they touch."""
    start = np.maximum(start, np.append(start[:1], end[:-1]))
    knots = np.stack((start, end), axis=1).ravel()
    heights = np.zeros(len(knots))
    heights[1::2] = level * (end - start)
    sums = np.cumsum(heights)
    first = max(int(np.searchsorted(boundaries, knots[0], side="right")) - 1, 0)
    after = min(int(np.searchsorted(boundaries, knots[-1])), len(boundaries) - 1)
    return first, np.diff(np.interp(boundaries[first : after + 1], knots, sums))


def _hand_up(
    leaves: Leaves,
    process: tuple[str, int],
    start: int,
    done: FloatArray,
    activity: dict[int, tuple[int, IntArray, FloatArray]],
    total: FloatArray,
) -> None:
    """Add a process's activity to the nearest process with leaf stages, segment by segment."""
    left = done.copy()
    at: tuple[str, int] | None = process
    for _ in range(_MOST_ANCESTORS):
        if at is None or not left.any():
            return
        number = leaves.processes.get(at, -1)
        if number >= 0:
            if number not in activity:
                first, heads = leaves.of_process(number)
                activity[number] = (first, heads, np.zeros(len(heads)))
            first, heads, sums = activity[number]
            low, high = max(start, first), min(start + len(left), first + len(heads))
            if low < high:
                mine, theirs = slice(low - start, high - start), slice(low - first, high - first)
                taken = np.where(heads[theirs] > 0, left[mine], 0.0)
                sums[theirs] += taken
                total[low:high] += taken
                left[mine] -= taken
        at = leaves.parents.get(at)
