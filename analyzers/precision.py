"""How far the energy of a stage can be trusted: a sensor that is renewed ten times a second says little about a stage of 0.2 s.

At each edge of a span the energy is known up to half of what the GPU used within one resolution of the sensor. A span of n resolutions at
steady power is so known to one part in n; below two of them, or where half of the energy may be a neighbour's, nothing can be told. A span
that comes again and again is known no better for it: a loop can keep step with the sensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpucost.analyzers.arrays import BoolArray, FloatArray, IntArray, union

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpucost.analyzers.stages import Spans
    from gpucost.analyzers.timeline import Partition, Ticks

TOO_SHORT = 2.0
"""A median span of fewer resolutions than this tells nothing about energy."""

ROUGH_PCT = 10.0
"""A greater error, that of a span of fewer than ten resolutions, is worth a note."""

AVERAGE_NS = 1_000_000_000
"""Where the driver gives only its own average of power, that is over a second."""

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Sensor:
    """How finely the energy of one GPU is known in time.

    Attributes:
        resolution_ns: the counter is no finer than its update period, as the recorder measured it, and no finer than it was read.
        read_ns: when something new was read of it.
    """

    resolution_ns: int
    read_ns: IntArray


def sensor_of(ticks: Ticks, measured: Mapping[str, Any] | None) -> Sensor | None:
    """How finely the energy of one GPU is known in time; None where neither counter nor power is.

    Args:
        ticks: the GPU's readings.
        measured: the manifest's update periods of this GPU by column, nanoseconds.
    """
    read_ns = ticks.t_ns[_renewed(ticks)]
    if len(read_ns) < 2:  # noqa: PLR2004 (a distance needs two)
        return None
    by_counter = _has_counter(ticks)
    finest = int(np.median(np.diff(read_ns)))
    if not by_counter and not np.isfinite(ticks.power_w).any():
        finest = max(finest, AVERAGE_NS)
    known = (measured or {}).get("energy_j" if by_counter else "power_w")
    if isinstance(known, (int, float)) and 0 < known < 1e11:  # noqa: PLR2004
        finest = max(finest, int(known))
    return Sensor(finest, read_ns)


def _has_counter(ticks: Ticks) -> bool:
    return int(np.isfinite(ticks.energy_j).sum()) > 1


def _renewed(ticks: Ticks) -> IntArray:
    """The readings that say something new of the energy: of the counter where it had been renewed, else of power."""
    if not _has_counter(ticks):
        return np.flatnonzero(np.isfinite(ticks.power_w) | np.isfinite(ticks.power_average_w))
    read = np.flatnonzero(np.isfinite(ticks.energy_j))
    values = ticks.energy_j[read]
    renewed: IntArray = read[np.append(True, values[1:] != values[:-1])]
    return renewed


@dataclass(frozen=True, slots=True)
class Edges:
    """What the edges of the stages leave open on one GPU, by stage path (no stage last).

    Attributes:
        open_j: joules that may belong to a neighbour in time.
        spent_j: joules that the GPU used while a span of the path was open.
    """

    open_j: FloatArray
    spent_j: FloatArray


def edges_of(spans: Spans, end_ns: int, parts: Partition, power_w: FloatArray, sensor: Sensor | None) -> Edges:
    """What one GPU used in the stages, and how much of it the sensor cannot place on either side of their edges.

    Half of what was used within one resolution of an edge (or between the two readings that enclose it, where these are further apart) may
    lie on its other side. The dearer side counts: beside a stage that works hard, a stage that waits is known badly.

    Args:
        spans: the stages.
        end_ns: the run's length.
        parts: the GPU's held window, cut at the ticks.
        power_w: the mean power of every interval, NaN where unknown.
        sensor: how finely its energy is known in time; None where nothing is known of it.
    """
    count = len(spans.paths) + 1
    if sensor is None or not len(parts):
        return Edges(np.zeros(count), np.zeros(count))
    path, start, end, inner = _with_no_stage(spans, end_ns)
    bounds = np.append(parts.start_ns, parts.end_ns[-1])
    reached = np.append(0.0, np.cumsum(np.where(np.isfinite(power_w), power_w, 0.0) * parts.duration_ns / 1e9))

    def used(low: IntArray, high: IntArray) -> FloatArray:
        """Joules from one moment to another."""
        found: FloatArray = np.interp(high, bounds, reached) - np.interp(low, bounds, reached)
        return found

    resolution, read = sensor.resolution_ns, sensor.read_ns

    def doubtful(edge: IntArray) -> FloatArray:
        after = np.clip(np.searchsorted(read, edge), 1, len(read) - 1)
        between = used(read[after - 1], read[after])
        return np.maximum(np.maximum(used(edge - resolution, edge), used(edge, edge + resolution)), between) / 2

    open_j = doubtful(start) * (inner | (start > 0)) + doubtful(end) * (inner | (end < end_ns))
    sums = [np.bincount(path, joules, count).astype(np.float64) for joules in (open_j, used(start, end))]
    return Edges(*sums)


def _with_no_stage(spans: Spans, end_ns: int) -> tuple[IntArray, IntArray, IntArray, BoolArray]:
    """Path, start and end of every span and of every stretch without one, and which are spans (the run's own edges are not in doubt)."""
    _, starts, ends = union(np.zeros(len(spans), np.int64), spans.start_ns, spans.end_ns)
    free_from, free_to = np.append(0, ends), np.append(starts, end_ns)
    some = free_to > free_from
    nobody = np.full(int(some.sum()), len(spans.paths), np.int64)
    return (
        np.append(spans.path, nobody),
        np.append(spans.start_ns, free_from[some]),
        np.append(spans.end_ns, free_to[some]),
        np.append(np.ones(len(spans), np.bool_), np.zeros(len(nobody), np.bool_)),
    )


@dataclass(frozen=True, slots=True)
class Errors:
    """How far the energy of every stage path (no stage last) is known; NaN where nothing is known of it.

    Attributes:
        total_pct: of its energy with its sub-stages.
        self_pct: of its own.
        too_short: its spans are too short for the sensor to tell anything of it; `self_too_short` the same of its own energy.
    """

    total_pct: FloatArray
    self_pct: FloatArray
    too_short: BoolArray
    self_too_short: BoolArray


def errors_of(spans: Spans, edges: Sequence[Edges], resolutions: Sequence[int | None], stages: pd.DataFrame) -> Errors:
    """How far the stages' energies are known, over all GPUs.

    Args:
        spans: the stages.
        edges: of every GPU.
        resolutions: of every GPU; the coarsest decides what is too short.
        stages: one row for every path, with `self_ns`, `self_energy_j` and `total_energy_j`.
    """
    open_j = sum((one.open_j for one in edges), start=np.zeros(len(spans.paths) + 1))
    spent_j = sum((one.spent_j for one in edges), start=np.zeros(len(spans.paths) + 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.where(spent_j > 0, open_j / spent_j, np.nan)
        # Where stages share a GPU, they share the doubt.
        charged = np.nan_to_num(total * stages["total_energy_j"].to_numpy())
        own = charged.copy()
        for place, path in enumerate(spans.paths):
            if path.parent >= 0:
                own[path.parent] += charged[place]
        own_j = stages["self_energy_j"].to_numpy()
        self_share = np.where(own_j > 0, own / own_j, np.where(own > 0, np.inf, np.nan))
    self_share[stages["self_ns"].to_numpy() == 0] = 0.0
    short = np.zeros(len(total), np.bool_)
    known = [value for value in resolutions if value]
    if known:
        medians = pd.Series(spans.end_ns - spans.start_ns).groupby(spans.path).median()
        short[medians.index.to_numpy()] = medians.to_numpy() < TOO_SHORT * max(known)
    self_known = np.isfinite(total)
    return Errors(
        total_pct=100.0 * total,
        self_pct=np.where(self_known, 100.0 * self_share, np.nan),
        too_short=self_known & (short | (total > 1 / TOO_SHORT)),
        self_too_short=self_known & (short | (self_share > 1 / TOO_SHORT)) & (stages["self_ns"].to_numpy() > 0),
    )


def notes(spans: Spans, errors: Errors) -> list[str]:
    """What a reader of the stages' energies must know."""
    names = [path.text for path in spans.paths]
    short = [names[place] for place in np.flatnonzero(errors.too_short[:-1])]
    rough = [
        f"{names[place]} ±{errors.total_pct[place]:.0f} %"
        for place in np.flatnonzero(~errors.too_short[:-1] & (errors.total_pct[:-1] > ROUGH_PCT))
    ]
    found = []
    if short:
        found.append(f"energy of stages too short for the sensor to tell: {_some(short)}")
    if rough:
        found.append(f"energy of stages that last only a few updates of the sensor: {_some(rough)}")
    return found


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
