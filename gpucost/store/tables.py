"""Reading one table of one host, from its parts and the segments that are not sealed yet, while a sealer may be at work."""

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from gpucost.errors import DamagedRunError
from gpucost.recording import ProblemLog
from gpucost.rundir import printable
from gpucost.schema import TABLES, Table
from gpucost.store.layout import Part, Segment, list_host
from gpucost.store.parquet import PartFile, rows_to_arrow
from gpucost.store.segment import SegmentReader

_TRIES = 200
_WAIT_S = 0.02


@dataclass(slots=True)
class FileRows:
    """The rows of one file, in pieces, and what was wrong with it. A column without a single value in a piece may have Arrow's type `null`."""

    batches: list[pa.Table] = field(default_factory=list)
    problems: ProblemLog = field(default_factory=ProblemLog)


def read_table(folder: str, table: Table, columns: Collection[str], *, live: bool = False) -> Iterator[FileRows]:
    """The rows of one table of a host's folder, file by file, each row once.

    Args:
        folder: the host's folder.
        table: the table.
        columns: the columns to read (of segments, all are).
        live: its recorder is still writing, so that a last line without an end is no problem.

    Raises:
        DamagedRunError: a part cannot be read, or the files change faster than they can be read.
        NewerSchemaError: a newer gpucost wrote one.
    """
    read: dict[str, FileRows] = {}
    before: list[Part | Segment] = []
    for _ in range(_TRIES):
        parts, segments = list_host(folder).of(table.name)
        listed: list[Part | Segment] = [*parts, *segments]
        try:
            for one in listed:
                if one.path not in read:
                    read[one.path] = (
                        _read_part(one, columns) if isinstance(one, Part) else _read_segment(one, live=live)
                    )
        except FileNotFoundError:
            # A sealer has put a part in its place; what is listed now is read instead, and what was read before is not read again.
            if listed == before:
                break  # nobody is at work here: the name leads to nothing
            before = listed
            time.sleep(_WAIT_S)
        else:
            for one in listed:
                yield read.pop(one.path)
            return
    if listed == before:
        lost = next(one.path for one in listed if one.path not in read)
        raise DamagedRunError(
            f"{printable(lost)} is a link to a file that is not there", hint="mend or remove the link"
        )
    raise DamagedRunError(f"{printable(folder)} changes faster than it can be read", hint="try again")


def _read_part(part: Part, columns: Collection[str]) -> FileRows:
    rows = FileRows()
    with PartFile(part.path, TABLES[part.table]) as file:
        rows.problems.extend(file.problems)
        if file.unknown:
            names = ", ".join(printable(name) for name in file.unknown[:3])
            rows.problems.add("newer_columns", f"{part.table} has columns that this version does not know: {names}")
        rows.batches = [_light(batch) for batch in file.batches(columns)]
    return rows


def _light(batch: pa.Table) -> pa.Table:
    """A batch in which a column without a single value takes no room: Arrow keeps some for every number that is not there."""
    for place, name in enumerate(batch.column_names):
        if 0 < batch.num_rows == batch.column(place).null_count:
            batch = batch.set_column(place, name, pa.nulls(batch.num_rows))
    return batch


def _read_segment(segment: Segment, *, live: bool) -> FileRows:
    rows, reader = FileRows(), SegmentReader(segment.path, expect=segment[:3])
    try:
        rows.batches = [rows_to_arrow(TABLES[segment.table], batch) for batch in reader.batches()]
    except DamagedRunError as error:
        rows.problems.add("damaged_segment", f"{error}; gpucost recover RUN sets it aside")
        return rows
    rows.problems.extend(reader.problems.found())
    if reader.torn_tail and not live:
        rows.problems.add("torn_line", "a line of the journal is not whole")
    return rows
