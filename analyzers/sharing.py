"""Give what happened in every segment to the stage paths that were open in it.

Where one path is open, all of it is that path's, to the nanosecond. Where several are, their leaf spans share it, by activity or equally.
Sums over the segments of a leaf are differences of running sums, so the work grows with the number of spans, not with how many overlap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpucost.analyzers.arrays import FloatArray, IntArray, split_exactly

if TYPE_CHECKING:
    from gpucost.analyzers.activity import Leaves, Weights


def share_exactly(leaves: Leaves, weights: Weights, values: IntArray, paths: int) -> IntArray:
    """Distribute whole numbers over stage paths; each column keeps its sum exactly.

    Args:
        leaves: the leaf stages.
        weights: how those that are open together share.
        values: int64, shape (segments, columns).
        paths: how many stage paths there are.

    Returns:
        int64, shape (paths + 1, columns); the last row is time with no stage.
    """
    found = _undivided(leaves, values, paths)
    divided = values[leaves.shared].sum(axis=0)
    shares = _divided(leaves, weights, values, paths)
    for column, total in enumerate(divided.tolist()):
        found[:-1, column] += split_exactly(total, shares[:, column])
    return found


def share(leaves: Leaves, weights: Weights, values: FloatArray, paths: int) -> FloatArray:
    """Distribute quantities over stage paths; arguments and result as in `share_exactly`, in float64."""
    found = _undivided(leaves, values, paths)
    found[:-1] += _divided(leaves, weights, values, paths)
    return found


def _undivided(leaves: Leaves, values: np.ndarray, paths: int) -> np.ndarray:
    """What belongs to one path alone, or to none."""
    alone = ~leaves.shared
    owner = np.where(leaves.segments.open_paths == 0, paths, leaves.segments.only_path)[alone]
    found = np.zeros((paths + 1, values.shape[1]), values.dtype)
    np.add.at(found, owner, values[alone])
    return found


def _divided(leaves: Leaves, weights: Weights, values: np.ndarray, paths: int) -> FloatArray:
    """What several paths share, in float64."""
    found = np.zeros((paths, values.shape[1]))
    if not leaves.shared.any():
        return found
    heads = np.maximum(leaves.open_spans, 1)[:, None]
    each = np.where(leaves.shared[:, None], values, 0) / heads
    evenly = _running(each)
    undecided = _running(np.where(weights.decided[:, None], 0.0, each))
    first, after = leaves.segments.first, leaves.segments.after
    known = (leaves.process >= 0)[:, None]
    got = np.where(known, undecided[after] - undecided[first], evenly[after] - evenly[first])
    for number, (start, part) in weights.shares.items():
        own = np.flatnonzero(leaves.process == number)
        sums = _running(values[start : start + len(part)] * part[:, None])
        got[own] += sums[after[own] - start] - sums[first[own] - start]
    np.add.at(found, leaves.path, got)
    return found


def _running(values: FloatArray) -> FloatArray:
    """Sums of all rows before each row, and of all."""
    sums = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=sums[1:])
    return sums
