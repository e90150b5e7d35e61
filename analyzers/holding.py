"""Who is on a GPU: whether a process of the run holds it, and which share of its activity is the run's.

The list of processes is asked for about once a second and utilization far more often, so the ticks between two polls are decided by
what both polls say, and where they differ by memory and utilization. Where no list can be read, memory above the driver's own reserve
stands in for it, and the basis says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpucost.analyzers.arrays import BoolArray, FloatArray, IntArray, floats, times, truths

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from gpucost.analyzers.timeline import Ticks

HELD_MEMORY_BYTES = 32 << 20
"""Memory above the driver's reserve that means a process: a CUDA context alone takes more than 100 MiB, the driver's own use varies by a few."""

MOST_RESERVED_BYTES = 2 << 30
"""Where the driver does not say what it keeps for itself, more than this in use is never that alone."""

REACH_NS = 3_000_000_000
"""How far outside the first and the last poll their answer still counts, or three polls where those are further apart."""

_STAMP_SLACK_NS = 500_000_000
"""How far from a tick the rows of its process list may be stamped; lists are asked for once a second at most."""

HELD, FREE, UNSURE = 1, 0, -1

BASES = ("processes", "memory", "none")
"""What says whether the run holds a GPU, the strongest first."""


@dataclass(frozen=True, slots=True)
class Polls:
    """The polls of one GPU's process list, in time order.

    Attributes:
        tick: the tick of each poll.
        run: processes of the run.
        others: processes outside it.
        unseen: processes whose pid cannot be seen from the recorder; counted neither in `run` nor in `others`.
        run_sm: SM utilization of the run's processes, percent, summed; 0 where none is known.
        others_sm: the same of the processes outside it.
        unseen_sm: the same of the unseen ones.
    """

    tick: IntArray
    run: FloatArray
    others: FloatArray
    unseen: FloatArray
    run_sm: FloatArray
    others_sm: FloatArray
    unseen_sm: FloatArray


@dataclass(frozen=True, slots=True)
class Holding:
    """Who is on one GPU, for the interval that ends at each tick.

    Attributes:
        state: HELD, FREE or UNSURE, an int8 for each tick.
        run_share: the run's share (0 to 1) of the activity while it holds the GPU.
        foreign: a process outside the run is on the GPU.
        foreign_headcount: share (0 to 1) of processes outside the run among all that are on the GPU.
        bare: memory says that nobody is on the GPU.
        basis: what most of it rests on, of `BASES`.
        unseen_as_run: pids that nobody could place were taken for the run's.
        unseen_as_foreign: pids that nobody could place were taken for others'.
        blind: the process list stayed empty while the GPU worked, so it was not believed.
    """

    state: npt.NDArray[np.int8]
    run_share: FloatArray
    foreign: BoolArray
    foreign_headcount: FloatArray
    bare: BoolArray
    basis: str
    unseen_as_run: bool = False
    unseen_as_foreign: bool = False
    blind: bool = False


def read_polls(ticks: Ticks, frame: pd.DataFrame, rows: IntArray) -> Polls:
    """The polls of one GPU's process list.

    A poll is a tick that knows how many processes there are. Where it does not know how many are the run's, because some could not be
    placed, the rows of the list are counted.

    Args:
        ticks: the GPU's readings.
        frame: the table `gpu_process`.
        rows: the row numbers of this GPU in it.
    """
    tick = np.flatnonzero(np.isfinite(ticks.processes)).astype(np.int64)
    t_ns, known = times(frame, "t_ns", rows)
    rows, t_ns = rows[known], t_ns[known]
    poll, near = _nearest(ticks.t_ns[tick], t_ns)
    rows, poll = rows[near], poll[near]
    in_run = truths(frame, "in_run", rows)
    sm = np.nan_to_num(floats(frame, "sm_util_pct", rows, low=0, high=100))

    def summed(which: BoolArray, values: FloatArray) -> FloatArray:
        sums = np.zeros(len(tick))
        np.add.at(sums, poll[which], values[which])
        return sums

    is_run, is_unseen, one = in_run == 1, np.isnan(in_run), np.ones(len(rows))
    total, run = ticks.processes[tick], ticks.run_processes[tick]
    run = np.where(np.isfinite(run), run, summed(is_run, one))
    run = np.minimum(run, total)
    unseen = np.minimum(summed(is_unseen, one), total - run)
    told = np.isfinite(ticks.run_processes[tick]) | (total == 0) | (summed(~is_unseen, one) + unseen > 0)
    others_sm = summed(~is_run & ~is_unseen, sm)
    columns = (tick, run, total - run - unseen, unseen, summed(is_run, sm), others_sm, summed(is_unseen, sm))
    return Polls(*(column[told] for column in columns))


def _nearest(poll_ns: IntArray, t_ns: IntArray) -> tuple[IntArray, BoolArray]:
    """Which poll each time belongs to, and whether to one at all: a collector may stamp the list a little apart from the tick."""
    if not len(poll_ns):
        return np.zeros(len(t_ns), np.int64), np.zeros(len(t_ns), np.bool_)
    after = np.clip(np.searchsorted(poll_ns, t_ns), 0, len(poll_ns) - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(t_ns - poll_ns[before]) < np.abs(poll_ns[after] - t_ns)
    poll = np.where(nearer, before, after).astype(np.int64)
    return poll, np.abs(poll_ns[poll] - t_ns) <= _STAMP_SLACK_NS


def judge(ticks: Ticks, polls: Polls, reserved_bytes: float | None, *, pids_visible: bool) -> Holding:
    """Decide for every tick of one GPU who is on it.

    A pid that cannot be seen belongs to somebody else if the run's own pids can be seen (a hidden /proc hides others). If none
    of the run's ever was, the pids are those of another namespace: then memory decides, and they count as the run's.

    Args:
        ticks: the GPU's readings.
        polls: the polls of its process list.
        reserved_bytes: what the driver keeps for itself, where known.
        pids_visible: some process of the run was recognised on a GPU of this host.
    """
    active = np.nan_to_num(ticks.util) > 0
    floor = _memory_floor(ticks.memory_bytes, reserved_bytes)
    bare = ticks.memory_bytes <= floor
    unseen = bool((polls.unseen > 0).any())
    own = unseen and not pids_visible and not (polls.run > 0).any() and bool(np.isfinite(ticks.memory_bytes).any())
    polls = _placed(polls, own=own)
    blind = _is_blind(polls, active & ~bare)
    says = np.where(polls.run > 0, HELD, FREE).astype(np.int8)
    if blind or own:
        says[(polls.run + polls.others == 0) if blind else polls.run > 0] = UNSURE
    share, foreign, headcount = _shares(ticks.t_ns, polls)
    by_polls = _between(ticks, polls.tick, says, active & ~foreign)
    by_memory = np.where(np.isnan(ticks.memory_bytes), UNSURE, np.where(bare, FREE, HELD)).astype(np.int8)
    by_memory[active] = HELD
    state = np.where(by_polls == UNSURE, by_memory, by_polls).astype(np.int8)
    basis = np.where(by_polls != UNSURE, 0, np.where(np.isnan(ticks.memory_bytes), 2, 1))
    return Holding(
        state=state,
        run_share=share,
        foreign=foreign,
        foreign_headcount=headcount,
        bare=bare,
        basis=BASES[int(np.bincount(basis).argmax())] if len(ticks) else BASES[-1],
        unseen_as_run=own,
        unseen_as_foreign=unseen and not own,
        blind=blind,
    )


def _memory_floor(memory_bytes: FloatArray, reserved_bytes: float | None) -> float:
    """The most memory that is in use while nobody is on the GPU."""
    if reserved_bytes is None:
        known = memory_bytes[np.isfinite(memory_bytes)]
        reserved_bytes = min(float(known.min()), MOST_RESERVED_BYTES) if len(known) else 0.0
    return reserved_bytes + HELD_MEMORY_BYTES


def _placed(polls: Polls, *, own: bool) -> Polls:
    """The polls with every unseen process counted on one side."""
    nobody = np.zeros_like(polls.unseen)
    run, others = polls.run, polls.others
    run_sm, others_sm = polls.run_sm, polls.others_sm
    if own:
        run, run_sm = run + polls.unseen, run_sm + polls.unseen_sm
    else:
        others, others_sm = others + polls.unseen, others_sm + polls.unseen_sm
    return Polls(polls.tick, run, others, nobody, run_sm, others_sm, nobody)


def _is_blind(polls: Polls, working: BoolArray) -> bool:
    """Whether the list never named anybody while somebody worked: a container without the host's pids sees it so."""
    return bool(len(polls.tick) and not (polls.run + polls.others > 0).any() and working.any())


def _between(ticks: Ticks, poll_tick: IntArray, says: npt.NDArray[np.int8], active: BoolArray) -> npt.NDArray[np.int8]:
    """What the polls say of every tick, UNSURE where they say nothing."""
    state = np.full(len(ticks), UNSURE, np.int8)
    if not len(poll_tick):
        return state
    after = _polls_before(poll_tick, len(ticks))
    before = after - 1
    inside = (before >= 0) & (after < len(poll_tick))
    earlier, later = says[np.maximum(before, 0)], says[np.minimum(after, len(says) - 1)]
    agree = inside & (earlier == later)
    state[agree] = later[agree]
    differ = inside & (earlier != later) & (earlier != UNSURE) & (later != UNSURE)
    if differ.any():
        state[differ] = _changing(ticks, poll_tick, before, earlier == FREE, active)[differ]
    reach = _reach_ns(ticks.t_ns[poll_tick])
    first, last = poll_tick[0], poll_tick[-1]
    outside = ((before < 0) & (ticks.t_ns[first] - ticks.t_ns <= reach)) | (
        (after >= len(poll_tick)) & (ticks.t_ns - ticks.t_ns[last] <= reach)
    )
    state[outside] = np.where(before < 0, says[0], says[-1])[outside]
    return state


def _polls_before(poll_tick: IntArray, count: int) -> IntArray:
    """How many polls lie before each tick, which is also the number of the first poll at or after it."""
    return np.repeat(np.arange(len(poll_tick) + 1), np.diff(poll_tick + 1, prepend=0, append=count))


def _changing(
    ticks: Ticks, poll_tick: IntArray, before: IntArray, taken: BoolArray, active: BoolArray
) -> npt.NDArray[np.int8]:
    """The state of every tick as if the polls around it differed.

    A GPU is taken at the first sign of use, and released after the last one; a sign is a kernel that can be nobody else's, or memory
    above the level that the poll of the free GPU saw. Ticks that show neither memory nor utilization say nothing.

    Args:
        ticks: the readings.
        poll_tick: the tick of each poll.
        before: for every tick, the number of the poll before it.
        taken: for every tick, the poll before it found the GPU free.
        active: for every tick, a kernel ran and only processes of the run were there.
    """
    here = np.arange(len(ticks))
    start = poll_tick[np.clip(before, 0, len(poll_tick) - 1)]
    end = poll_tick[np.clip(before + 1, 0, len(poll_tick) - 1)]
    level = ticks.memory_bytes[np.where(taken, start, end)]
    sign = active | (ticks.memory_bytes > level + HELD_MEMORY_BYTES)
    signs = np.cumsum(sign)
    held = np.where(taken, (signs - signs[start] > 0) | (here == end), signs[end] - signs + sign > 0)
    dark = np.isnan(ticks.util) & (np.isnan(ticks.memory_bytes) | np.isnan(level)) & (here != end)
    return np.where(held, HELD, np.where(dark, UNSURE, FREE)).astype(np.int8)


def _reach_ns(poll_ns: IntArray) -> int:
    spacing = int(np.median(np.diff(poll_ns))) if len(poll_ns) > 1 else 0
    return max(REACH_NS, 3 * spacing)


def _shares(t_ns: IntArray, polls: Polls) -> tuple[FloatArray, BoolArray, FloatArray]:
    """The run's share of the activity, whether others are there, and their share of the heads, for every tick.

    Utilization by process looks back to the poll before, so the poll after a tick knows its shares.
    """
    count = len(t_ns)
    if not polls.others.any():
        return np.ones(count), np.zeros(count, np.bool_), np.zeros(count)
    after = _polls_before(polls.tick, count)
    last = len(polls.tick) - 1
    earlier, later = np.maximum(after - 1, 0), np.minimum(after, last)
    poll = np.where((polls.run[later] == 0) & (polls.run[earlier] > 0), earlier, later)
    run, others = polls.run[poll], polls.others[poll]
    sm = polls.run_sm[poll] + polls.others_sm[poll]
    heads = run + others
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(sm > 0, polls.run_sm[poll] / sm, run / heads)
        crowd = np.where(heads > 0, others / heads, 0.0)
    share[(others == 0) | (run == 0)] = 1.0
    near = np.abs(t_ns - t_ns[polls.tick[poll]]) <= _reach_ns(t_ns[polls.tick])
    inside = (after > 0) & (after <= last)
    near |= inside
    foreign = np.where(inside, (polls.others[earlier] > 0) | (polls.others[later] > 0), others > 0) & near
    return np.where(near, share, 1.0), foreign, np.where(near, crowd, 0.0)
