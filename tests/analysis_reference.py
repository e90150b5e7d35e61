"""The ledger once more, slowly: plain loops over every instant that matters, straight from the rules, in exact fractions.

Independent of the analyzers but for the names of uses and paths, so that the fast ledger can be compared with it.
"""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gpucost.analyzers.model import NO_STAGE, PATH_SEPARATOR

if TYPE_CHECKING:
    from gpucost.recording import Recording

MIB = 1 << 20
TOLERANCE = 32 * MIB
REACH = 3_000_000_000

Cells = dict[tuple[str, str, str], Fraction]


def number(value: Any, low: float = -math.inf, high: float = math.inf) -> float | None:
    """A value, or None where it is null or impossible."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and low <= value <= high else None


@dataclass
class Tick:
    """One reading and what is made of it."""

    t: int
    util: float | None
    memory: float | None
    processes: float | None
    run: float | None
    low: int = 0
    high: int = 0
    held: bool | None = None
    foreign: bool = False
    share: Fraction = Fraction(1)
    bare: bool = False
    use: str = ""  # of what is neither busy nor foreign
    busy: Fraction = Fraction(0)
    others: Fraction = Fraction(0)


def ticks_of(recording: Recording, uuid: str) -> list[Tick]:
    """Readings in order; of several at one instant, what they agree on."""
    by_time: dict[int, list[dict[str, Any]]] = {}
    for row in recording.frames["gpu"].to_dict("records"):
        if row["gpu_uuid"] == uuid:
            by_time.setdefault(int(row["t_ns"]), []).append(row)

    def agreed(rows: list[dict[str, Any]], column: str, low: float, high: float) -> float | None:
        values = {v for row in rows if (v := number(row.get(column), low, high)) is not None}
        return values.pop() if len(values) == 1 else None

    return [
        Tick(
            t,
            agreed(rows, "gpu_util_pct", 0, 100),
            agreed(rows, "memory_used_bytes", 0, 2.0**60),
            agreed(rows, "processes", 0, math.inf),
            agreed(rows, "run_processes", 0, math.inf),
        )
        for t, rows in sorted(by_time.items())
    ]


def cover(ticks: list[Tick], period: int, end: int) -> None:
    """Which time each reading speaks for."""
    for number_, tick in enumerate(ticks):
        low = tick.t - period
        if number_:
            spacing = tick.t - ticks[number_ - 1].t
            if spacing <= widest(period):
                low = ticks[number_ - 1].t
        tick.low, tick.high = min(max(low, 0), end), min(max(tick.t, 0), end)


def hold(ticks: list[Tick], reserved: float | None) -> None:
    """Whether a process of the run is on the GPU, tick by tick."""
    memories = [t.memory for t in ticks if t.memory is not None]
    floor = (reserved if reserved is not None else min([*memories, 2048 * MIB]) if memories else 0) + TOLERANCE
    polls = [i for i, t in enumerate(ticks) if t.processes is not None and t.run is not None]
    for tick in ticks:
        tick.bare = tick.memory is not None and tick.memory <= floor
    working = any((t.util or 0) > 0 and not t.bare for t in ticks)
    blind = bool(polls) and all(ticks[p].processes == 0 for p in polls) and working
    for i, tick in enumerate(ticks):
        said = None if blind else by_polls(ticks, polls, i)
        if said is not None:
            tick.held = said
        elif (tick.util or 0) > 0:
            tick.held = True
        elif tick.memory is not None:
            tick.held = tick.memory > floor


def run_on(tick: Tick) -> bool:
    """Whether a poll found the run."""
    return min(tick.run or 0, tick.processes or 0) > 0


def reach_of(ticks: list[Tick], polls: list[int]) -> int:
    """How far outside the polls their answer counts."""
    times = [ticks[p].t for p in polls]
    spacings = [b - a for a, b in itertools.pairwise(times)]
    return max(REACH, 3 * int(statistics.median(spacings)) if spacings else 0)


def by_polls(ticks: list[Tick], polls: list[int], i: int) -> bool | None:
    """What the polls around a tick say; None where they say nothing."""
    before = [p for p in polls if p < i]
    after = [p for p in polls if p >= i]
    if not before and not after:
        return None
    if not before or not after:
        near = after[0] if after else before[-1]
        return run_on(ticks[near]) if abs(ticks[near].t - ticks[i].t) <= reach_of(ticks, polls) else None
    a, b = before[-1], after[0]
    if run_on(ticks[a]) == run_on(ticks[b]):
        return run_on(ticks[a])
    taken = run_on(ticks[b])
    level = ticks[a if taken else b].memory

    def sign(j: int) -> bool:
        memory = ticks[j].memory
        above = memory is not None and level is not None and memory > level + TOLERANCE
        return ((ticks[j].util or 0) > 0 and not ticks[j].foreign) or above

    held = i == b or any(sign(j) for j in range(a + 1, i + 1)) if taken else any(sign(j) for j in range(i, b + 1))
    dark = ticks[i].util is None and (ticks[i].memory is None or level is None) and i != b
    return True if held else None if dark else False


def crowd(ticks: list[Tick], sm: dict[int, tuple[float, float]]) -> None:
    """Who else is on the GPU, and how the activity is shared. `sm` is the run's and others' SM utilization by poll."""
    polls = [i for i, t in enumerate(ticks) if t.processes is not None and t.run is not None]
    for i, tick in enumerate(ticks):
        before, after = [p for p in polls if p < i], [p for p in polls if p >= i]
        if not before and not after:
            continue
        a, b = (before or after)[-1 if before else 0], (after or before)[0 if after else -1]
        poll = a if not run_on(ticks[b]) and run_on(ticks[a]) else b
        run = min(ticks[poll].run or 0, ticks[poll].processes or 0)
        others = (ticks[poll].processes or 0) - run
        if before and after:
            tick.foreign = any(
                (ticks[p].processes or 0) > min(ticks[p].run or 0, ticks[p].processes or 0) for p in (a, b)
            )
        elif abs(ticks[poll].t - tick.t) <= reach_of(ticks, polls):
            tick.foreign = others > 0
        else:
            continue
        ours, theirs = sm.get(poll, (0.0, 0.0))
        if others > 0 and run > 0:
            tick.share = (
                Fraction(ours) / Fraction(ours + theirs) if ours + theirs > 0 else Fraction(int(run), int(run + others))
            )


def use(ticks: list[Tick]) -> None:
    """The use of each reading's time, before long idleness is told from gaps."""
    for tick in ticks:
        util = None if tick.util is None else Fraction(tick.util) / 100
        if tick.held is None or (tick.held and util is None):
            tick.use = "unknown"
        elif tick.held:
            assert util is not None
            tick.busy = util * tick.share if tick.foreign else util
            tick.others = util - tick.busy
            tick.use = "gap"
        elif util and not tick.foreign and not tick.bare:
            tick.use = "unknown"
        else:
            tick.others = (util or Fraction(0)) if tick.foreign else Fraction(0)
            tick.use = "empty"


def idle(ticks: list[Tick], idle_after: int) -> None:
    """Turn long stretches without a kernel of the run into idle time."""
    stretch: list[Tick] = []
    for tick in [*ticks, None]:
        if tick is not None and tick.high <= tick.low:
            continue
        quiet = tick is not None and tick.use == "gap" and tick.busy == 0
        if stretch and (not quiet or tick is None or tick.low != stretch[-1].high):
            if stretch[-1].high - stretch[0].low >= idle_after:
                for one in stretch:
                    one.use = "idle"
            stretch = []
        if quiet and tick is not None:
            stretch.append(tick)


@dataclass
class Span:
    """One stage span with its ancestors, nearest first."""

    key: int
    start: int
    end: int
    names: tuple[str, ...]
    ancestors: tuple[int, ...]
    pid: int | None


def spans_of(recording: Recording, end: int) -> list[Span]:
    """Closed spans without cycles; names must be plain. What is odd about marks is not this reference's business."""
    rows = sorted(recording.frames["stage"].to_dict("records"), key=lambda row: row["start_t_ns"])
    first: dict[str, int] = {}
    for i, row in enumerate(rows):
        first.setdefault(row["stage_id"], i)
    spans = []
    for i, row in enumerate(rows):
        chain = []
        at = first.get(row["parent_id"]) if row["parent_id"] is not None else None
        while at is not None:
            chain.append(at)
            at = first.get(rows[at]["parent_id"]) if rows[at]["parent_id"] is not None else None
        names = tuple(rows[j]["name"] for j in reversed([i, *chain]))
        start, stop = row["start_t_ns"], max(row["end_t_ns"], row["start_t_ns"])
        pid = number(row["pid"])
        clip = [min(max(int(t), 0), end) for t in (start, stop)]
        spans.append(Span(i, clip[0], clip[1], names, tuple(chain), None if pid is None else int(pid)))
    return spans


def leaves_at(spans: list[Span], at: Fraction) -> list[Span]:
    """The innermost spans open at an instant."""
    open_ = [s for s in spans if s.start <= at < s.end]
    outer = {a for s in open_ for a in s.ancestors}
    return [s for s in open_ if s.key not in outer]


def activity_in(recording: Recording, uuid: str, ticks: list[Tick], low: int, high: int) -> dict[int, Fraction]:
    """SM utilization times nanoseconds of each process in a stretch of time."""
    rows = [r for r in recording.frames["gpu_process"].to_dict("records") if r["gpu_uuid"] == uuid]
    polls = sorted({r["t_ns"] for r in rows} | {t.t for t in ticks if t.processes is not None and t.run is not None})
    spacings = [b - a for a, b in itertools.pairwise(polls)]
    spacing = int(statistics.median(spacings)) if spacings else 1_000_000_000
    found: dict[int, Fraction] = {}
    seen: set[tuple[int, int]] = set()
    for row in rows:
        sm, t = number(row["sm_util_pct"], 0, 100), row["t_ns"]
        if not sm or not row["in_run"] or (row["pid"], t) in seen:
            continue
        seen.add((row["pid"], t))
        earlier = [p for p in polls if p < t]
        since = max(earlier[-1] if earlier else t - spacing, t - max(REACH, 3 * spacing))
        overlap = min(t, high) - max(since, low)
        if overlap > 0:
            found[row["pid"]] = found.get(row["pid"], Fraction(0)) + Fraction(sm) * overlap
    return found


def shares_of(leaves: list[Span], activity: dict[int, Fraction], parents: dict[int, int]) -> list[Fraction]:
    """How leaf spans that are open together share the time."""
    count = len(leaves)
    known = [s for s in leaves if s.pid is not None]
    by_pid: dict[int, Fraction] = {}
    for pid, done in activity.items():
        at: int | None = pid
        while at is not None and not any(s.pid == at for s in known):
            at = parents.get(at)
        if at is not None:
            by_pid[at] = by_pid.get(at, Fraction(0)) + done
    total = sum(by_pid.values(), Fraction(0))
    shares = []
    for span in leaves:
        if span.pid is None or total == 0:
            shares.append(Fraction(1, count))
        else:
            mates = sum(s.pid == span.pid for s in known)
            shares.append(Fraction(len(known), count) * by_pid.get(span.pid, Fraction(0)) / total / mates)
    return shares


def ledger(recording: Recording, uuid: str, reserved: float | None, idle_after: int) -> tuple[Cells, int]:
    """The ledger of one GPU in fractions of nanoseconds, and into how many pieces its time was cut."""
    end = recording.end_ns
    ticks = ticks_of(recording, uuid)
    hz = recording.manifest.recorder.get("hz")
    spacings = [b.t - a.t for a, b in itertools.pairwise(ticks)]
    period = round(1e9 / hz) if hz else int(statistics.median(spacings)) if spacings else 0
    cover(ticks, period, end)
    fill(ticks, period)
    sm = place(recording, uuid, ticks)
    crowd(ticks, sm)
    hold(ticks, reserved)
    use(ticks)
    idle(ticks, idle_after)
    spans = spans_of(recording, end)
    cuts = sorted({0, end, *(c for t in ticks for c in (t.low, t.high)), *(c for s in spans for c in (s.start, s.end))})
    pieces = [(a, b, leaves_at(spans, Fraction(a + b, 2))) for a, b in itertools.pairwise(cuts)]
    parents = {int(r["pid"]): int(r["ppid"]) for r in reversed(recording.frames["process"].to_dict("records"))}
    cells: Cells = {}
    at = 0
    while at < len(pieces):
        stop = at
        while stop < len(pieces) and pieces[stop][2] == pieces[at][2]:
            stop += 1
        leaves = pieces[at][2]
        activity = (
            activity_in(recording, uuid, ticks, pieces[at][0], pieces[stop - 1][1])
            if len({s.names for s in leaves}) > 1
            else {}
        )
        shares = shares_of(leaves, activity, parents)
        for a, b, _ in pieces[at:stop]:
            for name, part in _uses_at(ticks, a, b):
                for path, share in [(PATH_SEPARATOR.join(s.names), x) for s, x in zip(leaves, shares, strict=True)] or [
                    (NO_STAGE, 1)
                ]:
                    cell = (uuid, path, name)
                    cells[cell] = cells.get(cell, Fraction(0)) + part * share
        at = stop
    return {cell: value for cell, value in cells.items() if value}, len(pieces)


def _uses_at(ticks: list[Tick], a: int, b: int) -> list[tuple[str, Fraction]]:
    for tick in ticks:
        if tick.low <= a and b <= tick.high:
            parts = [("busy", tick.busy), ("foreign", tick.others), (tick.use, 1 - tick.busy - tick.others)]
            return [(name, share * (b - a)) for name, share in parts]
    return [("unknown", Fraction(b - a))]


def widest(period: int) -> int:
    """The widest spacing of two ticks that is no gap."""
    return max(int(2.5 * period), period + 250_000_000)


def fill(ticks: list[Tick], period: int) -> None:
    """A utilization looks back over ticks that have none; memory stays what it was for up to ten seconds."""
    utils, memories = [t.util for t in ticks], [t.memory for t in ticks]
    for i, tick in enumerate(ticks):
        for values, most in ((utils, widest(period)), (memories, max(widest(period), 10_000_000_000))):
            before = [j for j in range(i) if values[j] is not None]
            after = [j for j in range(i, len(ticks)) if values[j] is not None]
            if values[i] is None and before and after and ticks[after[0]].t - ticks[before[-1]].t <= most:
                if values is utils:
                    tick.util = utils[after[0]]
                else:
                    tick.memory = memories[before[-1]]


def place(recording: Recording, uuid: str, ticks: list[Tick]) -> dict[int, tuple[float, float]]:
    """SM utilization of the run's and of other processes by the tick of their poll, the nearest one (the later of two) within half a second.

    Where a tick knows how many processes there are and not how many are the run's, the rows say so; where there are none, it is no poll.
    """
    polls = [i for i, t in enumerate(ticks) if t.processes is not None]
    found: dict[int, tuple[float, float]] = {}
    own = dict.fromkeys(polls, 0)
    for row in recording.frames["gpu_process"].to_dict("records"):
        if row["gpu_uuid"] != uuid or not polls:
            continue
        poll = min(polls, key=lambda p: (abs(ticks[p].t - row["t_ns"]), -p))
        if abs(ticks[poll].t - row["t_ns"]) > 500_000_000:
            continue
        ours, theirs = found.get(poll, (0.0, 0.0))
        sm = number(row["sm_util_pct"], 0, 100) or 0.0
        found[poll] = (ours + sm, theirs) if row["in_run"] else (ours, theirs + sm)
        own[poll] += bool(row["in_run"])
    for poll in polls:
        if ticks[poll].run is None:
            if poll in found or ticks[poll].processes == 0:
                ticks[poll].run = own[poll]
            else:
                ticks[poll].processes = None
    return found
