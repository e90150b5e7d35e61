"""Sealed parts: one Parquet file of one table, how it is written so that it is small and durable, and how it is read without trust.

Rows are put in the order of what they are about (GPU, pid) within a row group, times and counters are stored as deltas, what has few
values as a dictionary. These encodings are all ones that the common readers of Parquet know. Pages carry checksums.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gpucost.errors import DamagedRunError, NewerSchemaError
from gpucost.recording import MAX_TIME_NS, Problem
from gpucost.rundir import new_token, part_name, printable
from gpucost.schema import SCHEMA_VERSION, Table
from gpucost.store.manifest_io import remove_quietly, sync_directory

ROW_GROUP_ROWS = 1 << 17
TEMPORARY_PREFIX = ".part-"

KEYS: dict[str, tuple[str, ...]] = {
    "gpu": ("gpu_uuid",),
    "gpu_process": ("gpu_uuid", "pid"),
    "gpu_sample": ("gpu_uuid",),
    "process": ("pid", "start_time_ns"),
    "machine": (),
    "stage": ("stage_id",),
    "event": (),
    "recorder": ("collector",),
}
"""What a row of a table is about, besides its time: the columns that tell apart rows of one instant."""

_VERSION_KEY = b"gpucost.schema_version"
_MAX_VERSION_DIGITS = 9
_TABLE_KEY = b"gpucost.table"
_WRITER_KEY = b"gpucost.writer"
_SEQ_KEY = b"gpucost.seq"
_PROBLEMS_KEY = b"gpucost.problems"

_TYPES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "int16": pa.int16(),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "string": pa.string(),
    "bool": pa.bool_(),
}
_COMPRESSION_LEVEL = 9
_MAX_PROBLEMS = 100


def arrow_schema(table: Table) -> pa.Schema:
    """The Parquet columns of a table; what is never unknown is not nullable."""
    required = table.required()
    return pa.schema(
        [pa.field(name, _TYPES[kind], nullable=name not in required) for name, kind in table.kinds().items()]
    )


def rows_to_arrow(table: Table, rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Rows in column order, with values of the right types, as an Arrow table."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(table.columns)
    arrays = []
    for values, kind in zip(columns, table.kinds().values(), strict=True):
        whole = kind.startswith("float") and any(type(value) is int for value in values)
        found = [None if value is None else float(value) for value in values] if whole else values
        arrays.append(pa.array(found, type=_TYPES[kind]))
    return pa.Table.from_arrays(arrays, names=list(table.columns))


def write_part(
    folder: str,
    table: Table,
    writer: str,
    seqs: tuple[int, int],
    batches: Iterable[pa.Table],
    problems: Sequence[Problem],
    expected_rows: int | None = None,
) -> int:
    """Write one part and put it in place in one step: aside, synced, renamed, and the rename synced.

    Args:
        folder: the table's folder; made if it is not there.
        table: which table.
        writer: whose segments they are.
        seqs: the first and last of them.
        batches: the rows, in pieces of any size; memory holds about a row group of them.
        problems: what was wrong with the source; kept in the file's metadata.
        expected_rows: how many rows there must be; with any other number the part is not put in place.

    Returns:
        The number of rows.

    Raises:
        OSError: it cannot be written; nothing is left behind.
        DamagedRunError: the rows are not as many as expected; nothing is left behind.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, part_name(writer, *seqs))
    temporary = os.path.join(folder, f"{TEMPORARY_PREFIX}{os.getpid()}-{new_token(4)}.tmp")
    metadata = {
        _VERSION_KEY: str(SCHEMA_VERSION).encode(),
        _TABLE_KEY: table.name.encode(),
        _WRITER_KEY: writer.encode(),
        _SEQ_KEY: f"{seqs[0]}-{seqs[1]}".encode(),
    }
    if problems:
        metadata[_PROBLEMS_KEY] = json.dumps([[p.code, p.message, p.count] for p in problems]).encode()
    try:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with os.fdopen(handle, "wb") as file:
            count = _write(file, table, metadata, batches)
            _expect(count, expected_rows, path)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        remove_quietly(temporary)
        raise
    sync_directory(folder)
    return count


def _write(file: IO[bytes], table: Table, metadata: Mapping[bytes, bytes], batches: Iterable[pa.Table]) -> int:
    schema = arrow_schema(table).with_metadata(metadata)
    deltas, plain = _encodings(table)
    others = [name for name in table.columns if name not in deltas and name not in plain]
    encodings = dict.fromkeys(deltas, "DELTA_BINARY_PACKED") | dict.fromkeys(plain, "PLAIN")
    count = 0
    with pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=_COMPRESSION_LEVEL,
        use_dictionary=others,
        column_encoding=encodings,
        write_page_checksum=True,
    ) as writer:
        for group in _row_groups(batches):
            count += group.num_rows
            writer.write_table(_by_key(table, group.select(table.columns).cast(schema)), row_group_size=ROW_GROUP_ROWS)
    return count


def _expect(count: int, expected: int | None, path: str) -> None:
    if expected not in (None, count):
        raise _damaged(path, f"it would have {count} rows instead of {expected}")


def _encodings(table: Table) -> tuple[list[str], list[str]]:
    """Columns that are stored as deltas, and columns whose values are too many for a dictionary."""
    kinds = table.kinds()
    deltas = [name for name, kind in kinds.items() if kind == "int64" and name.endswith(("_ns", "_bytes", "_switches"))]
    noisy = ("energy_j", "power_w", "power_average_w", "cpu_s", "sample_s", "driver_s")
    return deltas, [name for name in kinds if name in noisy]


def _row_groups(batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for batch in batches:
        waiting.append(batch)
        if sum(piece.num_rows for piece in waiting) >= ROW_GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _by_key(table: Table, rows: pa.Table) -> pa.Table:
    """Rows of one subject side by side, where their values repeat and their counters grow; a stable order."""
    keys = KEYS[table.name]
    if not keys or table.name == "stage":
        return rows
    return rows.take(pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in (*keys, "mono_ns")]))


class PartFile:
    """A part that is open for reading. Nothing it says is trusted.

    Attributes:
        rows: how many there are.
        problems: what was wrong with the segments that it was made of.
        unknown: columns that this version does not know.
    """

    def __init__(self, path: str, table: Table) -> None:
        """Open a part.

        Raises:
            FileNotFoundError: it is not there (any more).
            DamagedRunError: it is not a whole part of this table.
            NewerSchemaError: a newer gpucost wrote it.
        """
        self._path = path
        self._table = table
        self._kinds, self._required = table.kinds(), table.required()
        with self._damage():
            dictionary = ["gpu_uuid"] if "gpu_uuid" in self._kinds else []
            self._file = pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=dictionary)
            self._metadata: dict[bytes, bytes] = self._file.metadata.metadata or {}
            self._names = list(self._file.schema_arrow.names)
            self.rows = int(self._file.metadata.num_rows)
            self.problems = _parse_problems(self._metadata.get(_PROBLEMS_KEY))
        self._check_metadata()
        self.unknown = [name for name in self._names if name not in self._kinds]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def batches(self, columns: Collection[str] | None = None) -> Iterator[pa.Table]:
        """Its rows, a row group at a time, with the schema's columns of the schema's types (`gpu_uuid` as a dictionary).

        Args:
            columns: only these; None for all. A column that the part lacks is null.

        Raises:
            DamagedRunError: it is not whole, or a value is not what the schema allows.
        """
        wanted = [name for name in self._table.columns if columns is None or name in columns]
        present = [name for name in wanted if name in self._names]
        for index in range(self._file.num_row_groups):
            with self._damage():
                group = self._file.read_row_group(index, columns=present)
                batch = pa.table({name: self._column(group, name) for name in wanted})
            yield batch

    def verify(self) -> None:
        """Read all of it.

        Raises:
            DamagedRunError: something of it cannot be read.
        """
        if sum(batch.num_rows for batch in self.batches()) != self.rows:
            raise _damaged(self._path, "rows are missing")

    def _check_metadata(self) -> None:
        version = self._metadata.get(_VERSION_KEY, b"")
        if (
            not (version.isdigit() and len(version) <= _MAX_VERSION_DIGITS)
            or self._metadata.get(_TABLE_KEY) != self._table.name.encode()
        ):
            raise _damaged(self._path, "it is not a part of this table")
        if int(version) > SCHEMA_VERSION:
            raise NewerSchemaError(
                f"{printable(self._path)} has schema version {int(version)}, this gpucost reads up to {SCHEMA_VERSION}",
                hint="upgrade gpucost",
            )
        if len(set(self._names)) != len(self._names):
            raise _damaged(self._path, "two columns have one name")

    def _column(self, group: pa.Table, name: str) -> pa.ChunkedArray:
        wanted = _TYPES[self._kinds[name]]
        if name not in self._names:
            return self._missing(name, group.num_rows, wanted)
        column = _converted(group.column(name), wanted, keep_dictionary=name == "gpu_uuid")
        if pa.types.is_string(wanted):
            column.validate(full=True)
        if name in self._required and column.null_count:
            raise ValueError(f"{name} is unknown in some rows")
        if name.endswith("_ns") and len(column):
            low, high = pc.min_max(column).as_py().values()
            if low is not None and not 0 <= low <= high <= MAX_TIME_NS:
                raise ValueError(f"{name} is out of range")
        return column

    def _missing(self, name: str, rows: int, wanted: pa.DataType) -> pa.ChunkedArray:
        default = self._table.row._field_defaults.get(name)
        if name in self._required and default is None:
            raise ValueError(f"it lacks the column {name}")
        return pa.chunked_array([pa.array([default] * rows, type=wanted)])

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (
            pa.ArrowException,
            OSError,
            ValueError,
            TypeError,
            KeyError,
            OverflowError,
            MemoryError,
            RecursionError,
        ) as error:
            raise _damaged(self._path, str(error)) from error


def _converted(column: pa.ChunkedArray, wanted: pa.DataType, *, keep_dictionary: bool) -> pa.ChunkedArray:
    """A column with the schema's type, if no value changes by it."""
    held = column.type
    if pa.types.is_dictionary(held):
        column.validate(full=True)
        if pa.types.is_string(held.value_type) and keep_dictionary:
            return column
        held = held.value_type
    text = pa.types.is_string(held) or pa.types.is_large_string(held)
    number = pa.types.is_integer(held) or pa.types.is_floating(held)
    if (
        text != pa.types.is_string(wanted)
        or pa.types.is_boolean(held) != pa.types.is_boolean(wanted)
        or not (text or number or held == wanted)
    ):
        raise TypeError(f"a column is {held} and should be {wanted}")
    return column.cast(wanted)


def _damaged(path: str, why: str) -> DamagedRunError:
    line = printable(" ".join(why.split())[:200])
    return DamagedRunError(
        f"{printable(path)} is damaged: {line}", hint="gpucost recover RUN sets it aside and keeps the rest"
    )


def _parse_problems(data: bytes | None) -> list[Problem]:
    if data is None:
        return []
    found = json.loads(data)
    return [Problem(str(code)[:40], str(message)[:400], int(count)) for code, message, count in found[:_MAX_PROBLEMS]]
