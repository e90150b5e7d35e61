"""How much of a run was measured, what was not, and what a reader of the figures must know."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpucost.analyzers.arrays import IntArray, stretches, texts, times
from gpucost.analyzers.uses import GPU_LOST, INVALID, KNOWN, NO_SAMPLE, NOT_CLOSED, REASONS, UNKNOWN, UNSUPPORTED

if TYPE_CHECKING:
    import pandas as pd

    from gpucost.analyzers.energy import Energy
    from gpucost.analyzers.holding import Holding
    from gpucost.analyzers.stages import Spans
    from gpucost.analyzers.timeline import Ticks
    from gpucost.analyzers.uses import Used

_LOST_SLACK_NS = 2_000_000_000
"""The loss may be reported a little before or after the last reading."""

MPS_CLIENTS_HIDDEN = "mps_clients_hidden"
"""The driver listed a server of MPS and none of its clients."""

GPU_SILENT = "gpu_silent"
"""The driver tells nothing of a GPU."""

_STAGE_NOTES = {
    "not started": "stage marks without a start: {} left out",
    "ends before its start": "stage spans that end before they start: {} counted as lasting no time",
    "left open": "stage spans left open: {} closed at the last sighting of their process, or at the end of the run",
    "parent not found": "stage spans whose parent is not in the recording: {} counted as top stages",
    "its own ancestor": "stage spans that contain themselves through their parents: {} cycles cut",
    "nested too deeply": "stage spans nested too deeply: {} counted to an ancestor",
}


@dataclass(frozen=True, slots=True)
class Unknown:
    """The unknown time of one GPU.

    Attributes:
        start_ns: int64, of each interval.
        end_ns: int64.
        reason: why it is unknown.
        gaps: how many unknown stretches there are; neighbouring intervals of several reasons make one.
        longest_ns: the longest of them.
    """

    start_ns: IntArray
    end_ns: IntArray
    reason: list[str]
    gaps: int
    longest_ns: int


def subjects_of(frame: pd.DataFrame | None, kind: str) -> set[str]:
    """UUIDs of the GPUs that an event of this kind is about, from the table `event`."""
    if frame is None:
        return set()
    pairs = zip(texts(frame, "kind"), texts(frame, "subject"), strict=True)
    return {subject for found, subject in pairs if found == kind and subject is not None}


def lost_times(frame: pd.DataFrame | None) -> dict[str, list[int]]:
    """When each GPU was reported lost, by UUID, from the table `event`."""
    lost: dict[str, list[int]] = {}
    if frame is not None:
        t_ns, known = times(frame, "t_ns")
        kinds, subjects = texts(frame, "kind"), texts(frame, "subject")
        for row in np.flatnonzero(known).tolist():
            if kinds[row] == GPU_LOST and (subject := subjects[row]) is not None:
                lost.setdefault(subject, []).append(int(t_ns[row]))
    return lost


def unknown_of(used: Used, ticks: Ticks, lost_ns: list[int], *, closed: bool, silent: bool = False) -> Unknown:
    """The intervals of one GPU that no valid measurement covers, neighbours of one reason merged.

    Args:
        used: what its intervals were used for.
        ticks: its readings.
        lost_ns: when it was reported lost.
        closed: the recorder saw the run's end, or is still there.
        silent: the driver tells nothing of it.
    """
    mask = used.rest == UNKNOWN
    first, after = stretches(mask)
    starts, ends = used.parts.start_ns, used.parts.end_ns
    code = used.reason.copy()
    if silent and not len(ticks):
        code[code == REASONS.index(NO_SAMPLE)] = REASONS.index(UNSUPPORTED)
    if not np.isfinite(ticks.util).any():
        code[code == REASONS.index(INVALID)] = REASONS.index(UNSUPPORTED)
    if len(code) and not closed and code[-1] == REASONS.index(NO_SAMPLE):
        code[-1] = REASONS.index(NOT_CLOSED)
    for moment in lost_ns:
        for stretch in np.flatnonzero((starts[first] - _LOST_SLACK_NS <= moment) & (moment <= ends[after - 1])):
            code[first[stretch] : after[stretch]] = REASONS.index(GPU_LOST)
    label = np.where(mask, code, REASONS.index(KNOWN))
    heads = np.flatnonzero(np.diff(label, prepend=-1))
    tails = np.append(heads, len(label))[1:] - 1
    some = label[heads] != REASONS.index(KNOWN)
    heads, tails = heads[some], tails[some]
    lengths = ends[after - 1] - starts[first]
    return Unknown(
        start_ns=starts[heads],
        end_ns=ends[tails],
        reason=[REASONS[value] for value in code[heads].tolist()],
        gaps=len(first),
        longest_ns=int(lengths.max()) if len(lengths) else 0,
    )


def gpu_notes(uuid: str, ticks: Ticks, holding: Holding, energy: Energy) -> list[str]:
    """What a reader must know of one GPU's figures."""
    notes = []
    if not len(ticks):
        notes.append(f"{uuid}: no readings; all its time is unknown")
    elif holding.blind:
        notes.append(f"{uuid}: its process list stayed empty while it worked, so memory says whether the run holds it")
    elif holding.unseen_as_run:
        notes.append(
            f"{uuid}: its processes belong to another namespace, or work through MPS, and count as the run's; "
            "memory says when it is held"
        )
    elif holding.basis == "memory":
        notes.append(
            f"{uuid}: its process list cannot be read; memory above the driver's reserve says whether the run holds it"
        )
    elif holding.basis == "none":
        notes.append(
            f"{uuid}: neither its process list nor its memory can be read; it counts as held while kernels run"
        )
    if holding.unseen_as_foreign:
        notes.append(f"{uuid}: processes that cannot be seen from here count as foreign")
    if energy.resets:
        notes.append(
            f"{uuid}: its energy counter fell or leapt {energy.resets} times; power stands in for those intervals"
        )
    return notes


def stage_notes(spans: Spans) -> list[str]:
    """What was odd about the stage marks."""
    counts = Counter(spans.oddities)
    return [text.format(counts[kind]) for kind, text in _STAGE_NOTES.items() if counts[kind]]
