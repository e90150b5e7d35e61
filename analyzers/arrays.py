"""Columns of frames as numpy arrays, and small operations on intervals that several analyses share.

A frame may come from an older or another recorder: a column that is missing or holds nonsense reads as unknown, never as an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

_MOST = float(np.finfo(np.float64).max)

FAR_NS = 1 << 60
"""36 years: what lies further from the run's start is not a time of the run."""


class Rows(Mapping[str, "IntArray"]):
    """Row numbers by a text, each in the frame's order. Those of texts whose rows lie side by side are made when they are asked for."""

    def __init__(self, spans: dict[str, tuple[int, int]], scattered: dict[str, IntArray]) -> None:
        self._spans, self._scattered = spans, scattered

    def __getitem__(self, name: str) -> IntArray:
        span = self._spans.get(name)
        return self._scattered[name] if span is None else np.arange(*span, dtype=np.int64)

    def __iter__(self) -> Iterator[str]:
        yield from self._spans
        yield from self._scattered

    def __len__(self) -> int:
        return len(self._spans) + len(self._scattered)


def rows_of(frame: pd.DataFrame, column: str) -> Rows:
    """Row numbers by the text in a column; rows without a text are left out."""
    if column not in frame.columns or not len(frame):
        return Rows({}, {})
    values = frame[column]
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, names = values.cat.codes.to_numpy(), values.cat.categories
    else:
        codes, names = pd.factorize(values)
    heads = np.append(0, np.flatnonzero(codes[1:] != codes[:-1]) + 1)
    tails = np.append(heads[1:], len(codes))
    found, runs = np.unique(codes[heads], return_counts=True)
    spans, scattered = {}, {}
    for code, count in zip(found.tolist(), runs.tolist(), strict=True):
        if code < 0:
            continue
        if count == 1:
            run = np.flatnonzero(codes[heads] == code)[0]
            spans[str(names[code])] = int(heads[run]), int(tails[run])
        else:
            scattered[str(names[code])] = np.flatnonzero(codes == code).astype(np.int64)
    return Rows(spans, scattered)


def _picked(values: pd.Series, rows: IntArray | None) -> pd.Series:
    """Some rows, in ascending order, of a column; without a copy where they lie side by side."""
    if rows is None:
        return values
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
        return values.iloc[rows[0] : rows[-1] + 1]
    return pd.Series(values.array.take(rows))


def floats(
    frame: pd.DataFrame, column: str, rows: IntArray | None = None, *, low: float = -_MOST, high: float = _MOST
) -> FloatArray:
    """A column as float64, NaN where it is null, missing, not finite or outside [low, high]."""
    if column not in frame.columns:
        return np.full(len(frame) if rows is None else len(rows), np.nan)
    values = _picked(frame[column], rows)
    if not pd.api.types.is_numeric_dtype(values.dtype):
        values = pd.to_numeric(values, errors="coerce")
    found = np.array(values.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)
    found[~((found >= low) & (found <= high))] = np.nan
    return found


def known_floats(
    frame: pd.DataFrame, column: str, rows: IntArray, *, low: float = -_MOST, high: float = _MOST
) -> tuple[IntArray, FloatArray]:
    """The positions in `rows` at which a column is known, ascending, and what it is there; as `floats`, but quick for a sparse column."""
    sparse = column in frame.columns and isinstance(frame[column].dtype, pd.SparseDtype)
    if sparse and len(rows) and rows[-1] - rows[0] == len(rows) - 1:
        array = frame[column].array
        first, end = np.searchsorted(array.sp_index.indices, [rows[0], rows[-1] + 1])
        at = array.sp_index.indices[first:end].astype(np.int64) - rows[0]
        values = array.sp_values[first:end].astype(np.float64)
    else:
        values = floats(frame, column, rows, low=low, high=high)
        at = np.arange(len(values))
    some = (values >= low) & (values <= high)
    return at[some], values[some]


def times(frame: pd.DataFrame, column: str, rows: IntArray | None = None) -> tuple[IntArray, BoolArray]:
    """A column of nanoseconds as int64, and where it is known (not null, and less than `FAR_NS` from zero)."""
    size = len(frame) if rows is None else len(rows)
    if column not in frame.columns:
        return np.zeros(size, np.int64), np.zeros(size, np.bool_)
    values = _picked(frame[column], rows)
    if values.dtype == np.int64:
        found = values.to_numpy()
        known = np.ones(size, np.bool_)
    elif pd.api.types.is_integer_dtype(values.dtype):
        known = ~values.isna().to_numpy(dtype=np.bool_)
        found = values.fillna(0).to_numpy(dtype=np.int64)
    else:
        numbers = floats(frame, column, rows, low=-FAR_NS, high=FAR_NS)
        known = np.isfinite(numbers)
        found = np.rint(np.where(known, numbers, 0)).astype(np.int64)
    known = known & (found > -FAR_NS) & (found < FAR_NS)
    return np.where(known, found, 0), known


def truths(frame: pd.DataFrame, column: str, rows: IntArray | None = None) -> FloatArray:
    """A nullable boolean column as 1, 0 and NaN."""
    return floats(frame, column, rows, low=0, high=1)


def texts(frame: pd.DataFrame, column: str) -> list[str | None]:
    """A column of text, None where it is null or missing."""
    if column not in frame.columns:
        return [None] * len(frame)
    return [value if isinstance(value, str) else None for value in frame[column].tolist()]


def distinct_texts(frame: pd.DataFrame, column: str) -> set[str]:
    """The different texts of a column."""
    if column not in frame.columns:
        return set()
    return {value for value in frame[column].unique().tolist() if isinstance(value, str)}


def distinct(values: IntArray) -> IntArray:
    """The different values in ascending order; fast where they are nearly so already, as times are."""
    ordered = np.sort(values, kind="stable")
    first = np.ones(len(ordered), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def table(columns: Mapping[str, Any], index: str | None = None) -> pd.DataFrame:
    """A frame of equally long columns. Text keeps the object type: a name may hold what a typed column cannot.

    Args:
        columns: name to values, in order; an array keeps its type, anything else is text.
        index: the column that becomes the frame's index.
    """
    count = len(next(iter(columns.values()))) if columns else 0
    rows = pd.RangeIndex(count)
    frame = pd.DataFrame({name: _column(values, rows) for name, values in columns.items()}, index=rows, copy=False)
    return frame if index is None else frame.set_index(index)


def _column(values: Any, rows: pd.RangeIndex) -> pd.Series:
    dtype = values.dtype if isinstance(values, np.ndarray) else np.dtype(object)
    return pd.Series(values, index=rows, dtype=dtype, copy=False)


def split_exactly(total: int, shares: FloatArray) -> IntArray:
    """Split a whole number in proportion to shares, so that the parts add up to it exactly.

    Each part ends at the rounded cumulative share, so it is off by less than one, and a share of zero gets nothing.
    """
    parts = np.zeros(len(shares), np.int64)
    sums = np.cumsum(shares)
    if total <= 0 or not len(shares) or sums[-1] <= 0:
        return parts
    ends = np.minimum(np.rint(sums * (total / sums[-1])).astype(np.int64), total)
    ends[np.searchsorted(sums, sums[-1], side="left") :] = total
    parts[0] = ends[0]
    parts[1:] = np.diff(ends)
    return parts


def union(group: IntArray, start: IntArray, end: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Merge intervals that touch or overlap, within each group.

    Args:
        group: what each interval belongs to, numbered from 0.
        start: where it starts.
        end: where it ends; an interval that does not end after its start is nothing.

    Returns:
        group, start and end of the merged intervals, ordered by group, then start.
    """
    some = end > start
    group, start, end = group[some], start[some], end[some]
    if not len(group):
        return group, start, end
    order = np.lexsort((start, group))
    group, start, end = group[order], start[order], end[order]
    # Ranks keep each group's ends above all of the group before, so that one running maximum serves all groups.
    ends = distinct(end)
    rank = np.searchsorted(ends, end) + group * (len(end) + 1)
    reach = np.maximum.accumulate(rank)
    furthest = ends[reach - group * (len(end) + 1)]
    first = np.ones(len(group), np.bool_)
    first[1:] = (group[1:] != group[:-1]) | (start[1:] > furthest[:-1])
    heads = np.flatnonzero(first)
    tails = np.append(heads[1:], len(group)) - 1
    return group[heads], start[heads], furthest[tails]


def stretches(mask: BoolArray) -> tuple[IntArray, IntArray]:
    """The maximal runs of True: their first positions, and the positions after their last."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0)).astype(np.int64)
    return edges[0::2], edges[1::2]


def strings(values: Sequence[str], positions: IntArray) -> npt.NDArray[np.object_]:
    """Texts picked by position, as an object array."""
    pool = np.empty(len(values), dtype=object)
    pool[:] = list(values)
    picked: npt.NDArray[np.object_] = pool[positions]
    return picked
