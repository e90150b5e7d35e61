"""The writer of the journal: what the recorder samples, on disk within moments, as lines that survive the recorder's death.

One writer thread of the recorder owns a `JournalWriter`. A disk that is full, read-only, failing or gone never raises here and never
loses what comes later: rows wait in a bounded buffer, the oldest are dropped and counted, and writing goes on when it can.
"""

import errno
import json
import math
import os
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from gpucost.clock import Clock
from gpucost.rundir import segment_name
from gpucost.schema import SCHEMA_VERSION, TABLES

JOURNAL_VERSION = 1
MAX_LINE_BYTES = 256 << 10
"""No line of a journal is longer; a row that would be is dropped by the writer and skipped by the reader."""

MAX_BUFFER_BYTES = 4 << 20
MAX_BUFFER_NS = 120_000_000_000
_CHUNK_BYTES = 64 << 10
_WAIT = {errno.ENOSPC, errno.EDQUOT}
"""After these a segment can be written on with; after any other, its handle may never work again."""


class _Chunk:
    """Whole lines that wait to be written, and when the oldest of them came."""

    __slots__ = ("lines", "mono_ns", "size")

    def __init__(self, mono_ns: int) -> None:
        self.lines: list[bytes] = []
        self.size = 0
        self.mono_ns = mono_ns


class _Segment:
    """The open file of one table: how much of it is whole lines, and whether what follows them is torn."""

    __slots__ = ("dirty", "handle", "headed", "path", "size", "torn")

    def __init__(self, path: str, handle: int) -> None:
        self.path = path
        self.handle = handle
        self.size = 0
        self.headed = False
        self.torn = False
        self.dirty = False


class JournalWriter:
    """Appends rows to one segment a table; not safe for several threads at once.

    Attributes:
        bytes_written: cumulative, all tables.
        rows_dropped: cumulative; rows that could not be written, or were not rows of their table.
        last_error: the last failure to write in one line, or None when the last attempt succeeded.
    """

    def __init__(
        self,
        directory: str,
        writer: str,
        clock: Clock,
        *,
        max_bytes: int = 8 << 20,
        max_age_ns: int = 300_000_000_000,
    ) -> None:
        """Nothing is opened until there is something to write.

        Args:
            directory: the journal's folder, from `gpucost.rundir.journal_dir`.
            writer: this recorder's token, from `gpucost.rundir.new_token`.
            clock: tells how old rows and segments are.
            max_bytes: a table's segment of this size is due for rotation.
            max_age_ns: segments of this age are due for rotation.
        """
        self.bytes_written = 0
        self.rows_dropped = 0
        self.last_error: str | None = None
        self._directory = directory
        self._writer = writer
        self._clock = clock
        self._max_bytes = max_bytes
        self._max_age_ns = max_age_ns
        self._opened_ns = clock.mono_ns()
        self._segments: dict[str, _Segment] = {}
        self._seqs: dict[str, int] = {}
        self._closed: list[str] = []
        self._waiting: dict[str, deque[_Chunk]] = {name: deque() for name in TABLES}
        self._waiting_bytes = 0
        self._new_names = False
        self._synced_ancestors = False
        self._widths = {name: len(table.columns) for name, table in TABLES.items()}
        self._encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode

    def append(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        """Take rows of a table, in column order. Nothing is written yet, but for a buffer that is full.

        NaN and infinity become null. A row of the wrong width, or with a value that JSON cannot hold, is dropped and counted.
        """
        waiting = self._waiting.get(table)
        if waiting is None:
            self.rows_dropped += sum(1 for _ in rows)
            self.last_error = f"there is no table {table!r}"
            return
        now = self._clock.mono_ns()
        for row in rows:
            line = self._line(row, self._widths[table])
            if line is None:
                self.rows_dropped += 1
                continue
            if not waiting or waiting[-1].size >= _CHUNK_BYTES:
                waiting.append(_Chunk(now))
            waiting[-1].lines.append(line)
            waiting[-1].size += len(line)
            self._waiting_bytes += len(line)
            if self._waiting_bytes > MAX_BUFFER_BYTES:
                self.flush()

    def flush(self) -> bool:
        """Hand everything that waits to the operating system, so that it survives the death of this process.

        Returns:
            Whether all of it was written. What was not, stays and is tried again by the next call, within the buffer's bounds.
        """
        failed = None
        for table, waiting in self._waiting.items():
            try:
                while waiting:
                    self._write_chunk(table, waiting[0])
                    self._waiting_bytes -= waiting[0].size
                    waiting.popleft()
            except OSError as error:
                failed = error
        self.last_error = None if failed is None else _describe(failed)
        if failed is not None:
            self._drop_old(self._clock.mono_ns())
        return failed is None

    def sync(self) -> bool:
        """Flush, and make it durable, so that it survives a power cut. May block for as long as the disk does.

        Returns:
            Whether all of it succeeded.
        """
        good = self.flush()
        for table, segment in list(self._segments.items()):
            try:
                self._sync_segment(segment)
            except OSError as error:
                self._retire(table)
                self.last_error = _describe(error)
                good = False
        if self._new_names:
            self._new_names = False
            self._sync_names()
        return good

    def due(self) -> bool:
        """Whether it is time to rotate: the segments are old, or one is large."""
        if not self._segments:
            return False
        old = self._clock.mono_ns() - self._opened_ns >= self._max_age_ns
        return old or any(segment.size >= self._max_bytes for segment in self._segments.values())

    def rotate(self) -> list[str]:
        """Sync and close every open segment; the next row of a table opens the segment after it.

        Returns:
            The paths of all segments closed since the last call, for a sealer to take.
        """
        self.sync()
        for table in list(self._segments):
            self._retire(table)
        self._opened_ns = self._clock.mono_ns()
        closed, self._closed = self._closed, []
        return closed

    def close(self) -> list[str]:
        """As `rotate`; rows that still cannot be written are counted as dropped."""
        closed = self.rotate()
        for waiting in self._waiting.values():
            while waiting:
                self._drop_oldest(waiting)
        return closed

    def _line(self, row: Sequence[Any], width: int) -> bytes | None:
        """A row as one line of JSON, or None for what cannot be one."""
        try:
            if len(row) != width:
                return None
            try:
                text = self._encode(row)
            except (ValueError, TypeError):
                text = self._encode([_plain(value) for value in row])
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            return None
        return text.encode("ascii") + b"\n" if len(text) < MAX_LINE_BYTES else None

    def _write_chunk(self, table: str, chunk: _Chunk) -> None:
        """Write a chunk; on failure, lines that made it whole are taken out of it, so that no line is ever written twice."""
        segment = self._segments.get(table)
        if segment is not None and os.fstat(segment.handle).st_nlink == 0:
            self._retire(table)  # somebody removed the file: what is written to it is written to nowhere
            segment = None
        segment = segment or self._open(table)
        lead = [b"\n"] if segment.torn else []
        if not segment.headed:
            lead.append(self._header(table, segment))
        data = b"".join(lead + chunk.lines)
        written = 0
        try:
            while written < len(data):
                written += os.write(segment.handle, data[written:] if written else data)
        except OSError as error:
            self._keep_whole_lines(segment, lead, chunk, written)
            if error.errno not in _WAIT:
                self._abandon(table)
            raise
        self._count(segment, len(data))
        segment.torn = False
        segment.headed = True

    def _keep_whole_lines(self, segment: _Segment, lead: list[bytes], chunk: _Chunk, written: int) -> None:
        whole = 0
        for piece in lead:
            if whole + len(piece) <= written:
                whole += len(piece)
                segment.headed = segment.headed or piece != b"\n"
                segment.torn = False
            else:
                break
        else:
            while chunk.lines and whole + len(chunk.lines[0]) <= written:
                line = chunk.lines.pop(0)
                whole += len(line)
                chunk.size -= len(line)
                self._waiting_bytes -= len(line)
        self._count(segment, whole)
        if whole < written:
            try:
                os.ftruncate(segment.handle, segment.size)
            except OSError:
                segment.torn = True
                segment.size += written - whole

    def _count(self, segment: _Segment, size: int) -> None:
        segment.size += size
        segment.dirty = segment.dirty or size > 0
        self.bytes_written += size

    def _open(self, table: str) -> _Segment:
        seq = self._seqs.get(table, 0) + 1
        path = os.path.join(self._directory, segment_name(table, self._writer, seq))
        flags = (
            os.O_WRONLY
            | os.O_APPEND
            | os.O_CREAT
            | os.O_EXCL
            | getattr(os, "O_CLOEXEC", 0)
            | getattr(os, "O_NOFOLLOW", 0)
        )
        try:
            handle = os.open(path, flags, 0o600)
        except FileExistsError:
            # Somebody put a file of that name there; it is theirs, and the next number is ours.
            self._seqs[table] = seq
            raise
        if not self._segments:
            self._opened_ns = self._clock.mono_ns()
        self._seqs[table] = seq
        self._new_names = True
        segment = self._segments[table] = _Segment(path, handle)
        return segment

    def _header(self, table: str, segment: _Segment) -> bytes:
        header = {
            "gpucost_journal": JOURNAL_VERSION,
            "table": table,
            "schema_version": SCHEMA_VERSION,
            "columns": list(TABLES[table].columns),
            "writer": self._writer,
            "seq": int(segment.path.rsplit(".", 2)[1]),
        }
        return self._encode(header).encode("ascii") + b"\n"

    def _sync_segment(self, segment: _Segment) -> None:
        if segment.dirty:
            segment.dirty = False
            os.fsync(segment.handle)

    def _sync_names(self) -> None:
        """Make the names of new segments durable, and once those of the folders above them."""
        folder = os.path.abspath(self._directory)
        for _ in range(1 if self._synced_ancestors else 4):
            try:
                handle = os.open(folder, os.O_RDONLY)
            except OSError:
                return
            try:
                os.fsync(handle)
            except OSError:
                return
            finally:
                os.close(handle)
            folder = os.path.dirname(folder)
        self._synced_ancestors = True

    def _retire(self, table: str) -> None:
        """Close a table's segment, so that the next row opens the one after it."""
        segment = self._segments.pop(table)
        try:
            os.close(segment.handle)
        except OSError as error:
            self.last_error = _describe(error)
        self._closed.append(segment.path)

    def _abandon(self, table: str) -> None:
        """Give a segment's handle up; one that holds nothing is removed, so that failing over and over makes no files."""
        empty = self._segments[table].size == 0
        self._retire(table)
        if empty:
            try:
                os.unlink(self._closed.pop())
            except OSError as error:
                self.last_error = _describe(error)

    def _drop_old(self, now: int) -> None:
        for waiting in self._waiting.values():
            while waiting and now - waiting[0].mono_ns > MAX_BUFFER_NS:
                self._drop_oldest(waiting)
        while self._waiting_bytes > MAX_BUFFER_BYTES:
            oldest = min(
                (waiting for waiting in self._waiting.values() if waiting), key=lambda waiting: waiting[0].mono_ns
            )
            self._drop_oldest(oldest)

    def _drop_oldest(self, waiting: deque[_Chunk]) -> None:
        chunk = waiting.popleft()
        self.rows_dropped += len(chunk.lines)
        self._waiting_bytes -= chunk.size


def _plain(value: Any) -> Any:
    """A value that JSON can hold: unknown for NaN and infinity, a plain number for what counts as one."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    for convert in (getattr(value, "__index__", None), getattr(value, "__float__", None)):
        if convert is not None:
            return _plain(convert())
    raise TypeError


def _describe(error: OSError) -> str:
    return error.strerror or str(error)
