"""The ledger: every instant of every held GPU under exactly one stage path and one use, and its sums over stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpucost.analyzers.arrays import IntArray, strings, table, union
from gpucost.analyzers.model import NO_STAGE, USES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpucost.analyzers.arrays import FloatArray
    from gpucost.analyzers.stages import Spans

_FEWEST_PERIODS = 2
"""A stage whose median span is shorter than this many sampling periods cannot be resolved by the samples."""


def ledger(uuids: Sequence[str], spans: Spans, cubes: Sequence[IntArray]) -> pd.DataFrame:
    """The non-empty cells of the cube GPU x stage path x use.

    Args:
        uuids: of the held GPUs.
        spans: the stages.
        cubes: for each GPU, nanoseconds by stage path (no stage last) and use.
    """
    texts = [*(path.text for path in spans.paths), NO_STAGE]
    gpu, path, use = np.nonzero(np.stack(cubes)) if cubes else (np.zeros(0, np.int64),) * 3
    duration = np.stack(cubes)[gpu, path, use] if cubes else np.zeros(0, np.int64)
    return table(
        {
            "gpu_uuid": strings(uuids, gpu),
            "stage_path": strings(texts, path),
            "use": strings(USES, use),
            "duration_ns": duration.astype(np.int64),
        }
    )


def stages(
    spans: Spans, cubes: Sequence[IntArray], energy_j: Sequence[FloatArray], end_ns: int, period_ns: int
) -> pd.DataFrame:
    """Every stage path with its time by use, its own and with its sub-stages.

    Args:
        spans: the stages.
        cubes: for each GPU, nanoseconds by stage path (no stage last) and use.
        energy_j: for each GPU, joules by stage path (no stage last), NaN where unknown.
        end_ns: the run's length.
        period_ns: the sampling period.
    """
    count = len(spans.paths)
    own = sum(cubes, start=np.zeros((count + 1, len(USES)), np.int64))
    joules = _sum_known(energy_j, count + 1)
    total, total_joules = _with_children(spans, own, joules)
    columns: dict[str, Any] = {
        "stage_path": [*(path.text for path in spans.paths), NO_STAGE],
        "name": [*(path.name for path in spans.paths), NO_STAGE],
        "parent_path": [*(spans.paths[p.parent].text if p.parent >= 0 else None for p in spans.paths), None],
        "depth": np.array([*(path.depth for path in spans.paths), 0], np.int64),
        **_span_columns(spans, end_ns, period_ns),
    }
    for place, use in enumerate(USES):
        columns[f"self_{use}_ns"] = own[:, place]
    for place, use in enumerate(USES):
        columns[f"total_{use}_ns"] = total[:, place]
    columns |= {"self_ns": own.sum(axis=1), "total_ns": total.sum(axis=1)}
    columns |= {"self_energy_j": joules, "total_energy_j": total_joules}
    return table(columns)


def _sum_known(parts: Sequence[FloatArray], size: int) -> FloatArray:
    """Sum of several columns; NaN only where none is known."""
    if not parts:
        return np.full(size, np.nan)
    stack = np.stack(parts)
    known = np.isfinite(stack)
    return np.where(known.any(axis=0), np.where(known, stack, 0.0).sum(axis=0), np.nan)


def _with_children(spans: Spans, own: IntArray, joules: FloatArray) -> tuple[IntArray, FloatArray]:
    """Sums over each path and all paths below it."""
    total, energy = own.copy(), np.nan_to_num(joules)
    known = np.isfinite(joules)
    for place in sorted(range(len(spans.paths)), key=lambda one: -spans.paths[one].depth):
        parent = spans.paths[place].parent
        if parent >= 0:
            total[parent] += total[place]
            energy[parent] += energy[place]
            known[parent] |= known[place]
    return total, np.where(known, energy, np.nan)


def _span_columns(spans: Spans, end_ns: int, period_ns: int) -> dict[str, Any]:
    count = len(spans.paths)
    group, start, end = union(spans.path, spans.start_ns, spans.end_ns)
    wall, first, last = np.zeros(count + 1, np.int64), np.full(count + 1, end_ns), np.zeros(count + 1, np.int64)
    np.add.at(wall, group, end - start)
    np.minimum.at(first, spans.path, spans.start_ns)
    np.maximum.at(last, spans.path, spans.end_ns)
    wall[-1], first[-1], last[-1] = _uncovered(spans, end_ns)
    lengths = pd.Series(spans.end_ns - spans.start_ns).groupby(spans.path).median()
    short = np.zeros(count + 1, np.bool_)
    short[:-1] = lengths.to_numpy() < _FEWEST_PERIODS * period_ns
    return {
        "spans": np.bincount(spans.path, minlength=count + 1),
        "truncated": np.bincount(spans.path, spans.truncated, minlength=count + 1).astype(np.int64),
        "wall_ns": wall,
        "first_start_ns": first,
        "last_end_ns": last,
        "short": short,
    }


def _uncovered(spans: Spans, end_ns: int) -> tuple[int, int, int]:
    """Time in which no stage is open: how long, its first start and its last end."""
    _, start, end = union(np.zeros(len(spans), np.int64), spans.start_ns, spans.end_ns)
    starts, ends = np.append(0, end), np.append(start, end_ns)
    some = ends > starts
    if not some.any():
        return 0, 0, 0
    return int((ends - starts)[some].sum()), int(starts[some][0]), int(ends[some][-1])


def open_shares(spans: Spans, bounds: IntArray) -> pd.DataFrame:
    """For every stage path and bucket, the share of the bucket in which a span of the path is open.

    Args:
        spans: the stages.
        bounds: the buckets' boundaries.
    """
    count, parts = len(spans.paths), max(len(bounds) - 1, 0)
    covered = np.zeros((count, parts))
    group, start, end = union(spans.path, spans.start_ns, spans.end_ns)
    for chunk in np.array_split(np.arange(len(group)), len(group) // 10_000 + 1):
        low = np.maximum(start[chunk, None], bounds[None, :-1])
        high = np.minimum(end[chunk, None], bounds[None, 1:])
        np.add.at(covered, group[chunk], np.maximum(high - low, 0))
    lengths = np.diff(bounds)
    share = np.where(lengths > 0, covered / np.maximum(lengths, 1), 0.0)
    return table(
        {
            "stage_path": strings([path.text for path in spans.paths], np.repeat(np.arange(count), parts)),
            "bucket": np.tile(np.arange(parts), count),
            "open_share": share.ravel(),
        }
    )
