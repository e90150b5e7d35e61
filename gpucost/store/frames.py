"""From Arrow to the frames of a recording: one time axis for all hosts, time order, and the types that `gpucost.recording` promises."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

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
_SPARSE_BYTES = 12
"""What a number takes where a column is kept as positions and numbers; it is, where that takes less than all its rows would."""
_LONG = 64
"""Rows in a run, on average, from which it pays to copy whole runs."""
_WORTH_THREADS_ROWS = 200_000
_THREADS = 2

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
                keep numbers that float32 holds exactly as float32, and those that are known in few rows as sparse float64; and leave
                out columns that are unknown in every row.
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
        self._few: dict[str, dict[int, _Few]] = {}
        self._rows = 0

    def add(self, rows: pa.Table, host: str, shift_ns: int) -> None:
        """Take rows of one host; `mono_ns + shift_ns` is their time on the run's axis."""
        if not rows.num_rows:
            return
        piece = rows.select(self.read)
        for name in _CATEGORICAL.intersection(self.read):
            column = piece.column(name)
            if not pa.types.is_dictionary(column.type):
                piece = piece.set_column(piece.schema.get_field_index(name), name, column.dictionary_encode())
        aside = [name for name in piece.column_names if _is_unknown(piece, name) or self._is_put_aside(piece, name)]
        self._pieces.append(piece.drop_columns(aside))
        self._rows += piece.num_rows
        self._hosts.append((host, shift_ns, piece.num_rows))
        times = (pc.max(piece.column(name)).as_py() for name in self._times)
        self.last_ns = max((time + shift_ns for time in times if time is not None), default=self.last_ns)

    def _is_put_aside(self, piece: pa.Table, name: str) -> bool:
        """Keep a column that few rows know as positions and numbers, at once: Arrow would keep room for all that is not there."""
        column, kind = piece.column(name), self._kinds[name]
        number = kind.startswith(("float", "int")) and name not in self._required and name not in KEYS[self._table.name]
        dense = 4 if kind in ("float32", "int16", "int32") else 9
        if not (self._grouped and number) or (len(column) - column.null_count) * _SPARSE_BYTES > dense * len(column):
            return False
        self._few.setdefault(name, {})[len(self._pieces)] = _Few.of(column, self._rows)
        return True

    def frame(self, problems: ProblemLog) -> pd.DataFrame:
        """The frame; the builder is empty after this, and each column is let go as it is turned, so that rows are not in memory twice."""
        rows, self._pieces = self._joined(), []
        hosts, host_codes = self._host_codes()
        axis = {new: self._axis(rows.column(old)) for old, new in self._times.items()}
        order = self._order(rows, host_codes, next(iter(axis.values())).numbers, problems)
        columns = {name: rows.column(name) for name in rows.column_names}
        del rows
        count = len(order) if order is not None else self._rows
        data = self._data(columns, order) | {name: self._sparse(name, order, count) for name in list(self._few)}
        for name in list(axis):
            line = axis.pop(name)
            data[name] = _integers(line, nullable=name == "end_t_ns", order=order)
        data["host"] = pd.Categorical.from_codes(_taken(host_codes, order), categories=pd.Index(hosts, dtype="str"))
        return self._without_duplicates(pd.DataFrame(data, copy=False), problems)

    def _data(self, columns: dict[str, pa.ChunkedArray], order: "_Order | None") -> dict[str, object]:
        """Every column that is asked for, in the frame's order. Two at a time where there are many rows: most of that time is the system's, for memory."""
        names = [name for name in columns if name in self._columns]

        def turned(name: str) -> object:
            values = self._values(columns.pop(name), name, order)
            pa.default_memory_pool().release_unused()  # else what the column took stays with the process
            return values

        if not names or len(columns[names[0]]) < _WORTH_THREADS_ROWS:
            return {name: turned(name) for name in names}
        with ThreadPoolExecutor(_THREADS) as pool:
            return dict(zip(names, pool.map(turned, names), strict=True))

    def _sparse(self, name: str, order: "_Order | None", count: int) -> object:
        """A column of which few rows are known."""
        pieces = self._few.pop(name).values()
        rows = np.concatenate([piece.start + piece.rows for piece in pieces])
        values = np.concatenate([piece.known.cast(pa.float64(), safe=False).to_numpy() for piece in pieces])
        if order is not None:
            rows = order.places(rows)
            there = np.flatnonzero(rows >= 0)
            there = there[np.argsort(rows[there], kind="stable")]
            rows, values = rows[there], values[there]
        values[np.isinf(values)] = np.nan
        return _sparse_array(values, rows.astype(np.int32), count)

    def _joined(self) -> pa.Table:
        schema = arrow_schema(self._table)
        if self._pieces:
            kept = set(KEYS[self._table.name]) | self._required | set(self._times) if self._grouped else set(self.read)
            kept.update(*(piece.column_names for piece in self._pieces))
            present = [name for name in self.read if name in kept]
            whole = []
            for number in range(len(self._pieces)):
                piece = self._pieces.pop(0)
                for name in set(present).difference(piece.column_names):
                    few, kind = self._few.get(name, {}).get(number), schema.field(name).type
                    full = pa.nulls(piece.num_rows, kind) if few is None else few.spread(piece.num_rows, kind)
                    piece = piece.append_column(name, full)
                whole.append(piece.select(present))
            self._few = {name: pieces for name, pieces in self._few.items() if name not in kept}
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

    def _order(self, rows: pa.Table, hosts: Numbers, times: Codes, problems: ProblemLog) -> "_Order | None":
        """Where each row of the frame comes from, or None if that is where it is. Samples from before the run are left out."""
        early = times < 0 if self._table.name != "stage" else np.zeros(0, dtype=bool)
        if not self._grouped and not early.any() and (times[1:] > times[:-1]).all():
            return None
        keys = [_codes(rows.column(key)) for key in KEYS[self._table.name]]
        if self._grouped and len(keys) == 1 and not early.any() and (runs := _Runs.of(keys[0], times)) is not None:
            return runs
        order = np.lexsort([hosts, times, *reversed(keys)] if self._grouped else [hosts, *reversed(keys), times])
        if early.any():
            problems.add("before_start", "samples from before the run's start are left out", int(early.sum()))
            order = order[~early[order]]
        return _Rows(order)

    def _values(self, column: pa.ChunkedArray, name: str, order: "_Order | None") -> object:
        kind = self._kinds[name]
        required = name in self._required and name not in _OPEN_ENDED
        if name in _CATEGORICAL:
            codes, categories = _dictionary(column)
            return pd.Categorical.from_codes(_taken(codes, order), categories=pd.Index(categories, dtype="str"))
        if kind in ("string", "bool"):
            values = (column if order is None else column.take(pa.array(order.rows()))).to_pandas()
            if kind == "string":
                return values
            return values.astype("bool" if required else "boolean")
        if kind.startswith("int") and (required or name.endswith("_ns")):
            return _integers(_Integers.of(column), nullable=not required, order=order)
        narrow = self._grouped and _fits_float32(column, kind)
        floats = _floats(column, pa.float32() if narrow else pa.float64(), order)
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


class _Few(NamedTuple):
    """A column of a piece in which few rows are known: which, and what.

    Attributes:
        start: the piece's first row in the table.
        rows: in the piece, ascending.
        known: what those rows have.
    """

    start: int
    rows: Codes
    known: pa.ChunkedArray

    @classmethod
    def of(cls, column: pa.ChunkedArray, start: int) -> "_Few":
        return cls(start, np.flatnonzero(column.is_valid().to_numpy()), column.drop_null())

    def spread(self, count: int, kind: pa.DataType) -> pa.ChunkedArray:
        """The column with all its rows again."""
        place = np.zeros(count, dtype=np.int64)
        place[self.rows] = np.arange(len(self.rows))
        unknown = np.ones(count, dtype=bool)
        unknown[self.rows] = False
        return self.known.take(pa.array(place, mask=unknown)).cast(kind)


def _sparse_array(values: Numbers, rows: Numbers, count: int) -> object:
    """A sparse column that never was a dense one; pandas before 3.1 has no public way to it."""
    make = getattr(pd.arrays.SparseArray, "from_indices", None)
    if make is not None:
        return make(values, rows, count, fill_value=np.nan)
    from pandas._libs.sparse import IntIndex

    index = IntIndex(count, rows)  # type: ignore[call-arg]
    return pd.arrays.SparseArray(values, sparse_index=index, fill_value=np.nan, dtype=pd.SparseDtype("float64", np.nan))


def _is_unknown(piece: pa.Table, name: str) -> bool:
    """Whether a column has no value in any row of a piece: then it is left out, because Arrow would keep room for all that is not there."""
    return bool(piece.column(name).null_count == piece.num_rows)


class _Order(Protocol):
    """Where each row of a frame comes from."""

    def rows(self) -> Codes:
        """Row numbers of the source, in the frame's order."""
        ...

    def put(self, piece: Numbers, start: int, into: Numbers) -> None:
        """Put the source's rows from `start` on where they go."""
        ...

    def taken(self, values: Numbers) -> Numbers:
        """A column of the source in the frame's order."""
        ...

    def places(self, rows: Codes) -> Codes:
        """Where these rows of the source go, -1 for those that are left out."""
        ...

    def __len__(self) -> int: ...


class _Rows:
    """Any order, row by row; rows may be left out."""

    def __init__(self, rows: Codes) -> None:
        self._rows = rows
        self._places: Codes | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self) -> Codes:
        return self._rows

    def put(self, piece: Numbers, start: int, into: Numbers) -> None:
        places = self.places(np.arange(start, start + len(piece)))
        kept = places >= 0
        into[places[kept]] = piece[kept]

    def places(self, rows: Codes) -> Codes:
        if self._places is None:
            self._places = np.full(int(self._rows.max(initial=-1)) + 1, -1, dtype=np.int64)
            self._places[self._rows] = np.arange(len(self._rows))
        known = rows < len(self._places)
        return (
            np.where(known, self._places[np.where(known, rows, 0)], -1) if len(self._places) else np.full(len(rows), -1)
        )

    def taken(self, values: Numbers) -> Numbers:
        taken: Numbers = values[self._rows]
        return taken


class _Runs:
    """Rows that lie in long runs of one key already, so that they can be copied run by run: how parts hold them.

    Attributes:
        starts: of the runs in the source, ascending from 0.
        ends: of the runs; each begins where the one before ends.
        goes: where in the frame each begins.
    """

    def __init__(self, starts: Codes, ends: Codes, order: Codes) -> None:
        self.starts, self.ends = starts, ends
        self._order = order
        lengths = (ends - starts)[order]
        self.goes = np.empty(len(starts), dtype=np.int64)
        self.goes[order] = np.cumsum(lengths) - lengths

    @classmethod
    def of(cls, keys: Numbers, times: Codes) -> "_Runs | None":
        """By key, then by time; None where a key's runs do not come in time order, or are not long."""
        if not len(keys):
            return None
        heads = np.append(0, np.flatnonzero(keys[1:] != keys[:-1]) + 1)
        if len(heads) * _LONG > len(keys):
            return None
        tails = np.append(heads[1:], len(keys))
        back = np.flatnonzero(times[1:] <= times[:-1]) + 1
        order = np.argsort(keys[heads], kind="stable")
        first, last, key = times[heads[order]], times[tails[order] - 1], keys[heads[order]]
        if not np.isin(back, heads).all() or ((first[1:] <= last[:-1]) & (key[1:] == key[:-1])).any():
            return None
        return cls(heads, tails, order)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def rows(self) -> Codes:
        return self.taken(np.arange(len(self)))

    def put(self, piece: Numbers, start: int, into: Numbers) -> None:
        end = start + len(piece)
        for run in range(int(np.searchsorted(self.ends, start, side="right")), int(np.searchsorted(self.starts, end))):
            low, high = max(start, int(self.starts[run])), min(end, int(self.ends[run]))
            place = int(self.goes[run]) + low - int(self.starts[run])
            into[place : place + high - low] = piece[low - start : high - start]

    def places(self, rows: Codes) -> Codes:
        run = np.searchsorted(self.starts, rows, side="right") - 1
        return rows - self.starts[run] + self.goes[run]

    def taken(self, values: Numbers) -> Numbers:
        if len(self.starts) == 1:
            return values
        return np.concatenate([values[self.starts[run] : self.ends[run]] for run in self._order])


class _Integers(NamedTuple):
    """Whole numbers of our own, and where they are unknown (None: nowhere)."""

    numbers: Codes
    unknown: Numbers | None

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "_Integers":
        unknown = column.is_null().to_numpy() if column.null_count else None
        return cls(np.array(column.cast(pa.int64()).fill_null(0).to_numpy()), unknown)


def _integers(found: _Integers, *, nullable: bool, order: _Order | None) -> object:
    values = _taken(found.numbers, order)
    if not nullable:
        return values
    unknown = np.zeros(len(found.numbers), dtype=bool) if found.unknown is None else found.unknown
    return pd.arrays.IntegerArray(values, _taken(unknown, order))


def _fits_float32(column: pa.ChunkedArray, kind: str) -> bool:
    """Whether float32 holds every number of the column exactly."""
    if kind in ("float32", "int16"):
        return True
    low, high = pc.min_max(column).as_py().values() if kind.startswith("int") else (None, None)
    return low is not None and max(-low, high) <= _MOST_FLOAT32


def _floats(column: pa.ChunkedArray, kind: pa.DataType, order: _Order | None) -> Numbers:
    """Numbers in the frame's order, NaN where unknown. Each piece goes to its place at once: the whole is never held twice."""
    found = np.empty(len(column) if order is None else len(order), dtype=kind.to_pandas_dtype())
    start = 0
    for chunk in column.chunks:
        piece = chunk.cast(kind, safe=False).to_numpy(zero_copy_only=False)
        if order is None:
            found[start : start + len(piece)] = piece
        else:
            order.put(piece, start, found)
        start += len(piece)
    return found


def _taken(values: Numbers, order: _Order | None) -> Numbers:
    return values if order is None else order.taken(values)


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
