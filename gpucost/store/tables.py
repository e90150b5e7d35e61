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
    """The rows of one file, in pieces, and what was wrong with it."""

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
            time.sleep(_WAIT_S)
        else:
            for one in listed:
                yield read.pop(one.path)
            return
    raise DamagedRunError(f"{printable(folder)} changes faster than it can be read", hint="try again")


def _read_part(part: Part, columns: Collection[str]) -> FileRows:
    rows = FileRows()
    with PartFile(part.path, TABLES[part.table]) as file:
        rows.problems.extend(file.problems)
        if file.unknown:
            names = ", ".join(printable(name) for name in file.unknown[:3])
            rows.problems.add("newer_columns", f"{part.table} has columns that this version does not know: {names}")
        rows.batches = list(file.batches(columns))
    return rows


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
