"""From stage rows to spans with a place in a tree: paths, parents, ends, whatever the marks looked like.

Marks come from any program in any order. A parent that cannot be found makes its child a top stage, a cycle is cut, a span that ends
before it starts lasts no time, an open one is closed at its process's end, and none of it is an error.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gpucost.analyzers.arrays import distinct, floats, texts, times, truths
from gpucost.analyzers.model import NO_STAGE, PATH_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from gpucost.analyzers.arrays import BoolArray, IntArray
    from gpucost.recording import Recording

MAX_DEPTH = 64
"""Deeper spans count to their ancestor's path at this depth, so that a runaway recursion costs neither memory nor legibility."""

UNNAMED = "(unnamed)"

_DEFAULT_POLL_NS = 1_000_000_000
_DEAD = ("Z", "X")
_LONE_ARROW = re.compile(r"(?<![^ ])(\\*>)(?![^ ])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LIKE_NO_STAGE = re.compile(rf"\\*{re.escape(NO_STAGE)}")


@dataclass(frozen=True, slots=True)
class Path:
    """One stage path.

    Attributes:
        text: the names from the top, joined with `PATH_SEPARATOR`, each written so that it cannot be taken for several.
        name: the last name, as the program gave it (but for half a surrogate pair, which nothing can print).
        parent: position of the parent's path, -1 at the top.
        depth: 0 at the top.
    """

    text: str
    name: str
    parent: int
    depth: int


@dataclass(slots=True)
class Spans:
    """Every span of a run, in order of start, clipped to the run.

    Attributes:
        start_ns: int64.
        end_ns: int64, not before the start.
        parent: position of the parent span, -1 where there is none; free of cycles, at most `MAX_DEPTH` deep.
        path: position of the span's path in `paths`.
        truncated: closed by something other than its own end.
        process: host and pid that opened it, None where unknown.
        paths: in order of first start; a parent's path is always among them.
        oddities: what was wrong with the marks, counted by kind.
    """

    start_ns: IntArray
    end_ns: IntArray
    parent: list[int]
    path: IntArray
    truncated: BoolArray
    process: list[tuple[str, int] | None]
    paths: list[Path]
    oddities: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.start_ns)


def written(name: str) -> str:
    r"""A stage name as it stands in a path.

    A `>` that stands alone gets a backslash (one more where it has some already), and so does a name that reads like `NO_STAGE`. So two
    lists of names never give the same path.
    """
    if _LIKE_NO_STAGE.fullmatch(name):
        return "\\" + name
    return _LONE_ARROW.sub(r"\\\1", name)


def _name(given: str | None) -> str:
    """A name that can be printed and stored: half a surrogate pair cannot."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", given) if given else UNNAMED


def read_spans(recording: Recording) -> Spans:
    """The spans of a run.

    Args:
        recording: the tables `stage` and, for the ends of open spans, `process`.
    """
    end_ns = max(recording.end_ns, 0)
    frame = recording.frames.get("stage")
    if frame is None or not len(frame):
        return _empty()
    start, started = times(frame, "start_t_ns")
    end, ended = times(frame, "end_t_ns")
    oddities = Counter(
        {"not started": int((~started).sum()), "ends before its start": int((started & ended & (end < start)).sum())}
    )
    rows = np.flatnonzero(started)
    rows = rows[np.argsort(start[rows], kind="stable")]
    process = _processes(frame)
    still_open = rows[~ended[rows]].tolist()
    end[still_open] = _closings(recording, [(process[row], int(start[row])) for row in still_open])
    oddities["left open"] = len(still_open)
    ids, parent_ids, names = (texts(frame, column) for column in ("stage_id", "parent_id", "name"))
    links = _links([ids[row] for row in rows], [parent_ids[row] for row in rows], oddities)
    parent, found, unordered = _places(links, [_name(names[row]) for row in rows], oddities)
    path, paths = _in_order(found, unordered, start[rows].tolist())
    return Spans(
        start_ns=np.clip(start[rows], 0, end_ns),
        end_ns=np.clip(np.maximum(end, start)[rows], 0, end_ns),
        parent=parent,
        path=np.array(path, np.int64),
        truncated=(~ended | (np.nan_to_num(truths(frame, "truncated")) == 1))[rows],
        process=[process[row] for row in rows],
        paths=paths,
        oddities=oddities,
    )


def _empty() -> Spans:
    nothing = np.zeros(0, np.int64)
    return Spans(nothing, nothing, [], nothing, np.zeros(0, np.bool_), [], [])


def _processes(frame: pd.DataFrame) -> list[tuple[str, int] | None]:
    """Host and pid of every row."""
    pids = floats(frame, "pid", low=0, high=2**53).tolist()
    hosts = texts(frame, "host")
    return [None if pid != pid else (host or "", int(pid)) for host, pid in zip(hosts, pids, strict=True)]  # noqa: PLR0124 (NaN is not itself)


def _links(ids: Sequence[str | None], parent_ids: Sequence[str | None], oddities: Counter[str]) -> list[int]:
    """Position of every span's parent, -1 where it has none."""
    position: dict[str, int] = {}
    for number, stage_id in enumerate(ids):
        if stage_id is not None:
            position.setdefault(stage_id, number)
    links = [-1 if parent is None else position.get(parent, -1) for parent in parent_ids]
    oddities["parent not found"] += sum(
        parent is not None and link < 0 for parent, link in zip(parent_ids, links, strict=True)
    )
    oddities["its own ancestor"] += _cut_cycles(links)
    return links


def _cut_cycles(links: list[int]) -> int:
    """Make the earliest span of every cycle a top stage; how many cycles there were."""
    settled = [False] * len(links)
    cycles = 0
    for number in range(len(links)):
        chain: dict[int, int] = {}
        at = number
        while at >= 0 and not settled[at] and at not in chain:
            chain[at] = len(chain)
            at = links[at]
        if at in chain:
            links[min(one for one, order in chain.items() if order >= chain[at])] = -1
            cycles += 1
        for one in chain:
            settled[one] = True
    return cycles


def _places(
    links: Sequence[int], names: Sequence[str], oddities: Counter[str]
) -> tuple[list[int], list[int], list[Path]]:
    """Parent span and path of every span, and all paths."""
    parents, found = [-1] * len(links), [-1] * len(links)
    paths: list[Path] = []
    known: dict[tuple[int, str], int] = {}
    for number in range(len(links)):
        for one in _unplaced(number, links, found):
            above = links[one]
            if above >= 0 and paths[found[above]].depth + 1 >= MAX_DEPTH:
                parents[one], found[one] = parents[above], found[above]
                oddities["nested too deeply"] += 1
                continue
            key = (found[above] if above >= 0 else -1, names[one])
            if key not in known:
                known[key] = len(paths)
                paths.append(_path(paths, *key))
            parents[one], found[one] = above, known[key]
    return parents, found, paths


def _unplaced(number: int, links: Sequence[int], found: Sequence[int]) -> list[int]:
    """A span and those of its ancestors that have no path yet, the topmost first."""
    chain = []
    while number >= 0 and found[number] < 0:
        chain.append(number)
        number = links[number]
    return chain[::-1]


def _path(paths: Sequence[Path], parent: int, name: str) -> Path:
    if parent < 0:
        return Path(written(name), name, -1, 0)
    above = paths[parent]
    return Path(above.text + PATH_SEPARATOR + written(name), name, parent, above.depth + 1)


def _in_order(found: Sequence[int], paths: Sequence[Path], starts: Sequence[int]) -> tuple[list[int], list[Path]]:
    """Renumber the paths by their first start, a parent before a child that starts with it.

    Args:
        found: path of every span, spans in order of start.
        paths: the paths.
        starts: start of every span.
    """
    first: dict[int, int] = {}
    for path, start in zip(found, starts, strict=True):
        first.setdefault(path, start)
    order = sorted(first, key=lambda path: (first[path], paths[path].depth))
    rank = {old: new for new, old in enumerate(order)}
    moved = [Path(p.text, p.name, rank.get(p.parent, -1), p.depth) for p in (paths[old] for old in order)]
    return [rank[one] for one in found], moved


def _closings(recording: Recording, spans: Sequence[tuple[tuple[str, int] | None, int]]) -> list[int]:
    """When each open span is taken to have ended: at the last sighting of its process, else at the end of the run.

    Args:
        recording: the run.
        spans: process and start of each open span.
    """
    lives, poll_ns = _lives(recording, {process for process, _ in spans if process is not None})
    closings = []
    for process, start in spans:
        sightings = lives.get(process, []) if process is not None else []
        after = [(first, last) for first, last in sightings if last >= start]
        last = min(after)[1] if after else start if sightings else recording.end_ns
        # One poll before the end is as good as the end: nobody looked again.
        closings.append(recording.end_ns if last + poll_ns * 3 // 2 >= recording.end_ns else last)
    return closings


def _lives(
    recording: Recording, wanted: set[tuple[str, int]]
) -> tuple[dict[tuple[str, int], list[tuple[int, int]]], int]:
    """First and last sighting of every life of the wanted pids (a pid may be used again), and the spacing of the polls."""
    frame = recording.frames.get("process")
    lives: dict[tuple[str, int], list[tuple[int, int]]] = {}
    if not wanted or frame is None or not len(frame) or "pid" not in frame.columns:
        return lives, _DEFAULT_POLL_NS
    t_ns, known = times(frame, "t_ns")
    spacing = np.diff(distinct(t_ns[known]))
    poll_ns = int(np.median(spacing)) if len(spacing) else _DEFAULT_POLL_NS
    dead = frame["state"].isin(_DEAD).to_numpy() if "state" in frame.columns else np.zeros(len(frame), np.bool_)
    rows = np.flatnonzero(known & ~dead & frame["pid"].isin([pid for _, pid in wanted]).to_numpy())
    seen: dict[tuple[tuple[str, int], float], tuple[int, int]] = {}
    starts = floats(frame, "start_time_ns")[rows].tolist()
    some = _processes(frame.iloc[rows])
    for process, born, at in zip(some, starts, t_ns[rows].tolist(), strict=True):
        if process in wanted and process is not None:
            life = (process, born if born == born else -1.0)  # noqa: PLR0124 (NaN is not itself)
            first, last = seen.get(life, (at, at))
            seen[life] = (min(first, at), max(last, at))
    for (process, _), life_span in seen.items():
        lives.setdefault(process, []).append(life_span)
    return lives, poll_ns
