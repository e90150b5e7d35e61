"""The reader of the journal: takes what is whole and right from a segment, and counts what is not.

Everything in a segment is untrusted: it may end in the middle of a line, hold blocks of zeros after a power cut, or be another file
altogether. Nothing in it is evaluated, and reading it needs memory for one batch of rows.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import IO, Any

from gpucost.errors import DamagedRunError, NewerSchemaError
from gpucost.recording import MAX_TIME_NS, Problem, ProblemLog
from gpucost.rundir import printable
from gpucost.schema import SCHEMA_VERSION, TABLES, Table
from gpucost.store.journal import JOURNAL_VERSION, MAX_LINE_BYTES

BATCH_ROWS = 1 << 14

_TYPES: dict[str, frozenset[type]] = {
    "string": frozenset({str}),
    "bool": frozenset({bool}),
    "float64": frozenset({float, int}),
    "float32": frozenset({float, int}),
    "int64": frozenset({int}),
    "int32": frozenset({int}),
    "int16": frozenset({int}),
}
_LARGEST = {
    "float64": sys.float_info.max,
    "float32": 3.4028234663852886e38,
    "int64": (1 << 63) - 1,
    "int32": (1 << 31) - 1,
    "int16": (1 << 15) - 1,
}
_HEADER_START = b'{"gpucost_journal":'

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a segment."""

    table: Table
    writer: str
    seq: int
    schema_version: int
    columns: tuple[str, ...]


def read_segment(path: str) -> tuple[Header | None, list[Row], list[Problem]]:
    """All of a segment at once; see `SegmentReader`.

    Returns:
        The header (None for an empty segment, or one whose header is torn), the rows in the schema's column order, and the problems.

    Raises:
        DamagedRunError: it is not a segment, or cannot be read.
        NewerSchemaError: a newer gpucost wrote it.
    """
    reader = SegmentReader(path)
    rows = [row for batch in reader.batches() for row in batch]
    return reader.header, rows, reader.problems.found()


class SegmentReader:
    """Reads one segment in batches.

    Attributes:
        header: the header, once it has been read.
        problems: `torn_line`, `long_line`, `wrong_row`, `newer_columns`.
        torn_tail: the last line has no end; in a segment that is still being written, that is no problem, and it is not in `problems`.
    """

    def __init__(self, path: str, expect: tuple[str, str, int] | None = None) -> None:
        """Nothing is opened yet.

        Args:
            path: the segment.
            expect: table, writer and number that its name says; a header that says otherwise is damage.
        """
        self.header: Header | None = None
        self.problems = ProblemLog()
        self.torn_tail = False
        self._ended = True
        self._expect = expect
        self._path = path
        self._decode = json.JSONDecoder(parse_constant=lambda _: None).decode
        self._fitter: _Fitter | None = None

    def batches(self, size: int = BATCH_ROWS) -> Iterator[list[Row]]:
        """The rows, at most `size` at a time.

        Raises:
            FileNotFoundError: it is not there (any more).
            DamagedRunError: it is not a segment, or cannot be read.
            NewerSchemaError: a newer gpucost wrote it.
        """
        try:
            with open(self._path, "rb") as file:
                yield from self._read(file, size)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DamagedRunError(f"{printable(self._path)} cannot be read: {error.strerror}") from error

    def _read(self, file: IO[bytes], size: int) -> Iterator[list[Row]]:
        batch: list[Row] = []
        for line in self._whole_lines(file):
            value = self._value(line)
            if isinstance(value, dict) and "gpucost_journal" in value:
                self._take_header(value)
            elif self._fitter is None:
                if not _may_be_torn_header(line):
                    raise DamagedRunError(f"{printable(self._path)} is not a journal of gpucost")
            elif isinstance(value, list):
                self._take_row(value, self._fitter, batch)
            elif value is not None:
                self.problems.add("wrong_row", "a line of the journal is not a row")
            if len(batch) >= size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _whole_lines(self, file: IO[bytes]) -> Iterator[bytes]:
        """Lines without what a power cut may have put around them; bounded, whatever the file holds."""
        while line := file.readline(MAX_LINE_BYTES + 1):
            ended = line.endswith(b"\n")
            if not ended and len(line) > MAX_LINE_BYTES:
                self._skip_line(file)
                self.problems.add("long_line", f"a line of the journal is longer than {MAX_LINE_BYTES} bytes")
                if self._fitter is None and not _may_be_torn_header(line.strip(b"\0 \t\r\n")):
                    raise DamagedRunError(f"{printable(self._path)} is not a journal of gpucost")
                continue
            text = line.strip(b"\0 \t\r\n")
            if b"\0" in line:
                self.problems.add("torn_line", "the journal holds a block of zeros")
            if text:
                self._ended = ended
                yield text

    def _skip_line(self, file: IO[bytes]) -> None:
        while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass

    def _value(self, line: bytes) -> Any:
        try:
            return self._decode(line.decode("utf-8"))
        except (ValueError, RecursionError):
            if self._ended:
                self.problems.add("torn_line", "a line of the journal is not whole")
            else:
                self.torn_tail = True
            return None

    def _take_header(self, value: dict[str, Any]) -> None:
        header = _parse_header(value, self._path)
        if self._expect not in (None, (header.table.name, header.writer, header.seq)):
            raise DamagedRunError(f"{printable(self._path)} is not what its name says")
        if self.header is None:
            self.header = header
            self._fitter = _Fitter(header, self._path)
            if self._fitter.unknown:
                names = ", ".join(printable(name) for name in self._fitter.unknown[:3])
                self.problems.add(
                    "newer_columns", f"{header.table.name} has columns that this version does not know: {names}"
                )
        elif header != self.header:
            raise DamagedRunError(f"{printable(self._path)} has two different headers")

    def _take_row(self, value: list[Any], fitter: "_Fitter", batch: list[Row]) -> None:
        row = fitter.fit(value)
        if row is None:
            self.problems.add("wrong_row", f"a line of the journal does not fit the table {fitter.table}")
        else:
            batch.append(row)


class _Fitter:
    """Puts a line's values in the schema's order and checks each of them."""

    def __init__(self, header: Header, path: str) -> None:
        table = header.table
        kinds, required = table.kinds(), table.required()
        defaults = table.row._field_defaults
        self.table = table.name
        self.unknown = [name for name in header.columns if name not in kinds]
        missing = [
            name for name in table.columns if name not in header.columns and name in required and name not in defaults
        ]
        if missing:
            raise DamagedRunError(f"{printable(path)} lacks the column {missing[0]}")
        self._width = len(header.columns)
        self._same = header.columns == table.columns
        places = {name: place for place, name in enumerate(header.columns)}
        self._picks = [(places.get(name, -1), defaults.get(name)) for name in table.columns]
        self._allowed = [
            _TYPES[kinds[name]] | (frozenset() if name in required else {NoneType}) for name in table.columns
        ]
        self._bounds = [
            (i, *_range(name, kinds[name])) for i, name in enumerate(table.columns) if kinds[name] in _LARGEST
        ]
        self._texts = [i for i, name in enumerate(table.columns) if kinds[name] == "string"]

    def fit(self, row: list[Any]) -> Row | None:
        if len(row) != self._width:
            return None
        if not self._same:
            row = [default if place < 0 else row[place] for place, default in self._picks]
        for value, allowed in zip(row, self._allowed, strict=True):
            if type(value) not in allowed:
                return None
        for i, low, high in self._bounds:
            value = row[i]
            if value is not None and not low <= value <= high:
                return None
        for i in self._texts:
            value = row[i]
            if value is not None and not value.isascii():
                # Half of a surrogate pair is legal JSON and illegal text.
                row[i] = value.encode("utf-8", "replace").decode("utf-8")
        return tuple(row)


def _range(name: str, kind: str) -> tuple[float, float]:
    return (0, MAX_TIME_NS) if name.endswith("_ns") else (-_LARGEST[kind], _LARGEST[kind])


def _may_be_torn_header(line: bytes) -> bool:
    return line.startswith(_HEADER_START) or _HEADER_START.startswith(line)


def _parse_header(value: dict[str, Any], path: str) -> Header:
    version, schema, columns = value.get("gpucost_journal"), value.get("schema_version"), value.get("columns")
    if type(version) is not int or type(schema) is not int:
        raise DamagedRunError(f"{printable(path)} has a damaged header")
    if version > JOURNAL_VERSION or schema > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"{printable(path)} has schema version {schema}, this gpucost reads up to {SCHEMA_VERSION}",
            hint="upgrade gpucost",
        )
    table, writer, seq = value.get("table"), value.get("writer"), value.get("seq")
    named = isinstance(table, str) and table in TABLES and isinstance(writer, str) and type(seq) is int
    listed = (
        isinstance(columns, list)
        and all(isinstance(name, str) for name in columns)
        and len(set(columns)) == len(columns)
    )
    if not (named and listed):
        raise DamagedRunError(f"{printable(path)} has a damaged header")
    return Header(TABLES[str(table)], str(writer), int(str(seq)), schema, tuple(columns or ()))
