"""From Arrow to the frames of a recording: one time axis for all hosts, time order, and the types that `gpucost.recording` promises."""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gpucost.recording import ProblemLog
from gpucost.schema import Table
from gpucost.store.parquet import KEYS, arrow_schema

CLIP_NS = 1_000_000_000
"""A sample up to this long before the run's start counts as at its start: the recorder looked while the command was being started."""

_TIMES = {"mono_ns": "t_ns"}
_STAGE_TIMES = {"start_mono_ns": "start_t_ns", "end_mono_ns": "end_t_ns"}
_OPEN_ENDED = frozenset({"end_time_ns", "end_mono_ns"})
_CATEGORICAL = frozenset({"gpu_uuid"})
_MOST_FLOAT32 = 1 << 24
"""Whole numbers up to this are exact as float32."""

Codes = NDArray[np.int64]
Numbers = NDArray[Any]


class FrameBuilder:
    """Collects the rows of one table from every host and file, and makes a frame of them.

    Attributes:
        read: the columns that must be read; those asked for and those that place a row in time and order.
        last_ns: the latest time on the run's axis, or None while there are no rows.
    """

    def __init__(self, table: Table, columns: Collection[str] | None = None, *, grouped: bool = False) -> None:
        """Start with no rows.

        Args:
            table: the table.
            columns: the columns that the frame is to have; None for all. The keys of its rows and their times on the run's axis always come.
            grouped: order the rows by what they are about, and by time within that, which is how parts hold them, so it takes less time;
                keep numbers that float32 holds exactly as float32; and leave out columns that are unknown in every row.
        """
        self._grouped = grouped and bool(KEYS[table.name])
        self._table = table
        self._kinds, self._required = table.kinds(), table.required()
        self._times = _STAGE_TIMES if table.name == "stage" else _TIMES
        keep = set(table.columns if columns is None else columns) | set(KEYS[table.name])
        self._columns = [name for name in table.columns if name in keep]
        self.read = [name for name in table.columns if name in keep or name in self._times]
        self.last_ns: int | None = None
        self._pieces: list[pa.Table] = []
        self._hosts: list[tuple[str, int, int]] = []

    def add(self, rows: pa.Table, host: str, shift_ns: int) -> None:
        """Take rows of one host; `mono_ns + shift_ns` is their time on the run's axis."""
        if not rows.num_rows:
            return
        piece = rows.select(self.read)
        for name in _CATEGORICAL.intersection(self.read):
            column = piece.column(name)
            if not pa.types.is_dictionary(column.type):
                piece = piece.set_column(piece.schema.get_field_index(name), name, column.dictionary_encode())
        self._pieces.append(piece.drop_columns([name for name in piece.column_names if _is_unknown(piece, name)]))
        self._hosts.append((host, shift_ns, piece.num_rows))
        times = (pc.max(piece.column(name)).as_py() for name in self._times)
        self.last_ns = max((time + shift_ns for time in times if time is not None), default=self.last_ns)

    def frame(self, problems: ProblemLog) -> pd.DataFrame:
        """The frame; the builder is empty after this, and each column is let go as it is turned, so that rows are not in memory twice."""
        rows, self._pieces = self._joined(), []
        hosts, host_codes = self._host_codes()
        axis = {new: self._axis(rows.column(old)) for old, new in self._times.items()}
        order = self._order(rows, host_codes, next(iter(axis.values())).numbers, problems)
        places = _places(order, rows.num_rows)
        data: dict[str, object] = {}
        for name in rows.column_names:
            if name in self._columns:
                data[name] = self._values(rows, name, order, places)
            rows = rows.drop_columns([name])
            pa.default_memory_pool().release_unused()
        for name in list(axis):
            line = axis.pop(name)
            data[name] = _integers(line, nullable=name == "end_t_ns", order=order)
        data["host"] = pd.Categorical.from_codes(_taken(host_codes, order), categories=pd.Index(hosts, dtype="str"))
        return self._without_duplicates(pd.DataFrame(data, copy=False), problems)

    def _joined(self) -> pa.Table:
        schema = arrow_schema(self._table)
        if self._pieces:
            kept = set(KEYS[self._table.name]) | self._required | set(self._times) if self._grouped else set(self.read)
            kept.update(*(piece.column_names for piece in self._pieces))
            present = [name for name in self.read if name in kept]
            whole = []
            while self._pieces:
                piece = self._pieces.pop(0)
                for name in set(present).difference(piece.column_names):
                    piece = piece.append_column(name, pa.nulls(piece.num_rows, schema.field(name).type))
                whole.append(piece.select(present))
            return pa.concat_tables(whole).unify_dictionaries()
        fields = [schema.field(name) for name in self.read]
        typed = [
            field.with_type(pa.dictionary(pa.int32(), pa.string())) if field.name in _CATEGORICAL else field
            for field in fields
        ]
        return pa.schema(typed).empty_table()

    def _host_codes(self) -> tuple[list[str], Numbers]:
        names = sorted({host for host, _, _ in self._hosts})
        counts = [count for _, _, count in self._hosts]
        codes = np.repeat(np.array([names.index(host) for host, _, _ in self._hosts], dtype=np.int16), counts)
        return names, codes

    def _axis(self, column: pa.ChunkedArray) -> "_Integers":
        """Monotonic times on the run's axis, those just before its start at its start; unknown stays unknown."""
        found = _Integers.of(column)
        start = 0
        for _, shift_ns, count in self._hosts:
            found.numbers[start : start + count] += shift_ns
            start += count
        if len(found.numbers) and found.numbers.min() < 0:
            found.numbers[(found.numbers < 0) & (found.numbers >= -CLIP_NS)] = 0
        return found

    def _order(self, rows: pa.Table, hosts: Numbers, times: Codes, problems: ProblemLog) -> Codes | None:
        """Where each row of the frame comes from, or None if that is where it is. Samples from before the run are left out."""
        early = times < 0 if self._table.name != "stage" else np.zeros(0, dtype=bool)
        if not self._grouped and not early.any() and (times[1:] > times[:-1]).all():
            return None
        keys = [_codes(rows.column(key)) for key in KEYS[self._table.name]]
        order = _grouped_order(keys, hosts, times) if self._grouped else np.lexsort([hosts, *reversed(keys), times])
        if early.any():
            problems.add("before_start", "samples from before the run's start are left out", int(early.sum()))
            order = order[~early[order]]
        return order

    def _values(self, rows: pa.Table, name: str, order: Codes | None, places: Codes | None) -> object:
        column, kind = rows.column(name), self._kinds[name]
        required = name in self._required and name not in _OPEN_ENDED
        if name in _CATEGORICAL:
            codes, categories = _dictionary(column)
            return pd.Categorical.from_codes(_taken(codes, order), categories=pd.Index(categories, dtype="str"))
        if kind == "string":
            return (column if order is None else column.take(pa.array(order))).to_pandas()
        if kind == "bool":
            values = (column if order is None else column.take(pa.array(order))).to_pandas()
            return values.astype("bool" if required else "boolean")
        if kind.startswith("int") and (required or name.endswith("_ns")):
            return _integers(_Integers.of(column), nullable=not required, order=order)
        narrow = self._grouped and _fits_float32(column, kind)
        floats = _floats(
            column, pa.float32() if narrow else pa.float64(), places, rows.num_rows if order is None else len(order)
        )
        if kind.startswith("float"):
            floats = np.where(np.isinf(floats), np.nan, floats) if np.isinf(floats).any() else floats
        return floats

    def _without_duplicates(self, frame: pd.DataFrame, problems: ProblemLog) -> pd.DataFrame:
        """Rows that are the same in every column are one row; they lie side by side."""
        time = next(iter(self._times.values()))
        same = np.zeros(len(frame), dtype=bool)
        if len(frame) > 1:
            same[1:] = np.diff(frame[time].to_numpy()) == 0
            for key in KEYS[self._table.name]:
                values = frame[key].cat.codes.to_numpy() if key in _CATEGORICAL else frame[key].to_numpy()
                same[1:] &= values[1:] == values[:-1]
        if not same.any():
            return frame
        near = same.copy()
        near[:-1] |= same[1:]
        double = frame[near].duplicated()
        problems.add("duplicate_rows", f"rows of {self._table.name} were there twice", int(double.sum()))
        return frame.drop(index=double.index[double]).reset_index(drop=True)


def _is_unknown(piece: pa.Table, name: str) -> bool:
    """Whether a column has no value in any row of a piece: then it is left out, because Arrow would keep room for all that is not there."""
    return bool(piece.column(name).null_count == piece.num_rows)


def _grouped_order(keys: list[Numbers], hosts: Numbers, times: Codes) -> Codes:
    """By key, then by time; where each key's rows come in time order, as from one recorder, only the keys need sorting."""
    if len(keys) == 1:
        (key,) = keys
        order: Codes = np.argsort(key, kind="stable")
        ordered, grouped = times[order], key[order]
        if ((ordered[1:] > ordered[:-1]) | (grouped[1:] != grouped[:-1])).all():
            return order
    return np.lexsort([hosts, times, *reversed(keys)])


class _Integers(NamedTuple):
    """Whole numbers of our own, and where they are unknown (None: nowhere)."""

    numbers: Codes
    unknown: Numbers | None

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "_Integers":
        unknown = column.is_null().to_numpy() if column.null_count else None
        return cls(np.array(column.cast(pa.int64()).fill_null(0).to_numpy()), unknown)


def _integers(found: _Integers, *, nullable: bool, order: Codes | None) -> object:
    values = _taken(found.numbers, order)
    if not nullable:
        return values
    unknown = np.zeros(len(found.numbers), dtype=bool) if found.unknown is None else found.unknown
    return pd.arrays.IntegerArray(values, _taken(unknown, order))


def _places(order: Codes | None, count: int) -> Codes | None:
    """Where each of `count` rows goes, when the frame is to have the rows `order`; those left out go behind the last."""
    if order is None:
        return None
    places = np.full(count, len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return places


def _fits_float32(column: pa.ChunkedArray, kind: str) -> bool:
    """Whether float32 holds every number of the column exactly."""
    if kind in ("float32", "int16"):
        return True
    low, high = pc.min_max(column).as_py().values() if kind.startswith("int") else (None, None)
    return low is not None and max(-low, high) <= _MOST_FLOAT32


def _floats(column: pa.ChunkedArray, kind: pa.DataType, places: Codes | None, kept: int) -> Numbers:
    """The first `kept` of the numbers in their places, NaN where unknown. Each piece goes there at once: the whole is never held twice."""
    found = np.empty(len(column) + 1, dtype=kind.to_pandas_dtype())
    start = 0
    for chunk in column.chunks:
        end = start + len(chunk)
        found[slice(start, end) if places is None else places[start:end]] = chunk.cast(kind, safe=False).to_numpy(
            zero_copy_only=False
        )
        start = end
    return found[:kept]


def _taken(values: Numbers, order: Codes | None) -> Numbers:
    return values if order is None else values[order]


def _codes(column: pa.ChunkedArray) -> Numbers:
    """Numbers that sort as the column does."""
    if pa.types.is_dictionary(column.type):
        return _dictionary(column)[0]
    if pa.types.is_string(column.type):
        return _dictionary(column.dictionary_encode().unify_dictionaries())[0]
    numbers: Numbers = column.to_numpy()
    return numbers


def _dictionary(column: pa.ChunkedArray) -> tuple[Numbers, list[str]]:
    """Codes into sorted categories, each of them once."""
    values = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
    categories = sorted(set(values))
    places = {value: place for place, value in enumerate(categories)}
    smallest = np.min_scalar_type(-max(1, len(categories)))
    renumber = np.array([places[value] for value in values], dtype=smallest)
    pieces = [renumber[chunk.indices.to_numpy()] for chunk in column.chunks]
    return (np.concatenate(pieces) if pieces else np.array([], dtype=smallest)), categories
