"""Stage marks: follows the file that the command appends them to, and closes the spans of processes that died.

A span is emitted when it ends. A span whose process is gone will not end by itself: it is closed, and marked as truncated, at the moment
at which its process was last known to be alive.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from gpucost.collectors import _proc
from gpucost.collectors.base import Context, Tier
from gpucost.marks import LineBuffer, MarkReader, OpenSpan

_HZ = 5.0
_BYTES_PER_SAMPLE = 256 * 1024  # some 2,000 marks: what is left waits for the next sample
_BYTES_AT_STOP = 4 * 1024 * 1024
_GONE_AFTER = 2  # samples in a row; between the first and the second, marks written just before the end are read
_START_SLACK_NS = 1_000_000_000

Moment = tuple[int, int]
"""One instant on both clocks: `time_ns`, `mono_ns`."""


class StagesCollector:
    """Rows of `stage` from the command's stage file."""

    name = "stages"

    def __init__(self, proc: _proc.Proc | None = None) -> None:
        self._proc = proc or _proc.Proc()
        self._context: Context | None = None
        self._tail = _Tail("")
        self._reader = MarkReader()
        self._buffer = LineBuffer()
        self._watched: dict[int, _Watched] = {}
        self._noted: set[str] = set()  # open spans whose start brought no time, and whose reading has been noted

    def start(self, context: Context) -> Sequence[Tier]:
        """Nothing is opened yet: the command makes the file with its first mark."""
        self._context = context
        self._tail = _Tail(context.stage_file)
        return [Tier("marks", round(1e9 / min(_HZ, context.hz)))]

    def sample(self, tier: str) -> None:  # noqa: ARG002 (there is one)
        """Read what is new, and look after the processes that have spans open."""
        context = self._context
        if context is None:
            return
        now = context.clock.time_ns(), context.clock.mono_ns()
        self._read(context, now, _BYTES_PER_SAMPLE)
        if self._tail.behind:
            return  # a process that is gone may have ended its spans in what is not read yet
        self._look_after(now)
        for watched in list(self._watched.values()):
            if watched.seen and watched.missed >= _GONE_AFTER:
                self._truncate(context, watched, watched.alive)

    def stop(self) -> None:
        """Read the rest, and close what no living process can close any more."""
        context, self._context = self._context, None
        if context is None:
            return
        now = context.clock.time_ns(), context.clock.mono_ns()
        self._read(context, now, _BYTES_AT_STOP)
        self._tail.close()
        if self._tail.behind:
            context.report(
                "stages_behind", "stage marks came faster than they could be read; the rest is in the stage file"
            )
        else:
            self._close_all(context, now)
        for problem in self._reader.problems:
            context.report("stage_marks", f"{problem.message} ({problem.count} times)", subject=problem.code)

    def _read(self, context: Context, now: Moment, limit: int) -> None:
        data = self._tail.read(limit)
        if self._tail.restarted:
            self._buffer = LineBuffer()
            context.report("stage_file_replaced", "the stage file was truncated or replaced; marks may be missing")
        for line in self._buffer.push(data):
            self._feed(context, line, now)

    def _feed(self, context: Context, line: bytes, now: Moment) -> None:
        row = self._reader.feed(line, *now)
        if self._reader.untimed != self._noted:
            for stage_id in self._reader.untimed - self._noted:
                # Kept apart, since the mark itself does not say when it was made, and a killed recorder cannot either.
                context.report("stage_started", "a stage mark without a time was read", subject=stage_id)
            self._noted = set(self._reader.untimed)
        if row is not None:
            context.emit("stage", row)
            if row.pid in self._watched:
                self._watched[row.pid].marked((row.end_time_ns, row.end_mono_ns), now)

    def _look_after(self, now: Moment) -> None:
        """Note which processes with open spans are alive."""
        spans = [(span.pid, span) for span in self._reader.open_spans() if span.pid is not None]
        for pid, span in spans:
            watched = self._watched.get(pid)
            if watched is None:
                watched = self._watched[pid] = _Watched(
                    pid, self._start_ticks(span), (span.start_time_ns, span.start_mono_ns)
                )
            watched.marked((span.start_time_ns, span.start_mono_ns), now)
        for pid in self._watched.keys() - {pid for pid, _ in spans}:
            del self._watched[pid]
        for watched in self._watched.values():
            watched.look(self._proc, now)

    def _start_ticks(self, span: OpenSpan) -> int | None:
        """When the process of a span started; None when it is gone, or not visible from here under this pid.

        A process that started after the span is another one, which got the pid of one that is gone.
        """
        found = self._proc.stat(span.pid) if span.pid is not None else None
        if found is None or _proc.start_time_ns(found.start_ticks) > span.start_time_ns + _START_SLACK_NS:
            return None
        return found.start_ticks

    def _truncate(self, context: Context, watched: "_Watched", end: Moment) -> None:
        """Close every open span of a process."""
        for span in self._reader.open_spans():
            if span.pid == watched.pid:
                self._emit_truncated(context, span, end)
        del self._watched[watched.pid]

    def _close_all(self, context: Context, now: Moment) -> None:
        """The run is over. Spans of processes that live on stay open."""
        rest = self._buffer.rest()
        if rest.rstrip().endswith(b"}"):
            self._feed(context, rest, now)  # the last line of a writer that ends none of its lines
        self._look_after(now)
        for watched in list(self._watched.values()):
            if watched.missed:
                # Alive at the last sample but one, gone at the end of the run: it ended with the run.
                self._truncate(context, watched, watched.first_missed if watched.seen else watched.alive)
        for span in self._reader.open_spans():
            if span.pid is None:
                self._emit_truncated(context, span, now)

    def _emit_truncated(self, context: Context, span: OpenSpan, end: Moment) -> None:
        row = self._reader.truncate(span.stage_id, *end)
        if row is not None:
            context.emit("stage", row)


@dataclass(slots=True)
class _Watched:
    """A process that has spans open.

    Attributes:
        start_ticks: its identity beside the pid; None when it was never seen: it was gone before the first look, or lives in another PID
            namespace. It is given the benefit of the doubt until the run ends.
        alive: when it was last known to be alive: at a look, or by a mark of its own.
        missed: for how many looks in a row it has been gone.
        first_missed: the first of those looks.
    """

    pid: int
    start_ticks: int | None
    alive: Moment
    missed: int = 0
    first_missed: Moment = (0, 0)

    @property
    def seen(self) -> bool:
        """Whether it was ever seen alive."""
        return self.start_ticks is not None

    def marked(self, moment: Moment, now: Moment) -> None:
        """It has made a mark at this moment (which is what the mark says, so it need not be true)."""
        if self.alive[1] < moment[1] <= now[1]:
            self.alive = moment

    def look(self, proc: _proc.Proc, now: Moment) -> None:
        """See whether it is alive now."""
        found = proc.stat(self.pid)
        if found is not None and found.start_ticks == self.start_ticks and found.state not in "ZX":
            self.alive, self.missed = now, 0
        else:
            if not self.missed:
                self.first_missed = now
            self.missed += 1


class _Tail:
    """Follows a growing file by its path, also when it is truncated or replaced.

    Attributes:
        behind: there is more than the last read gave.
        restarted: the last read began at the start of a truncated or another file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._inode: tuple[int, int] | None = None
        self._offset = 0
        self.behind = False
        self.restarted = False

    def read(self, limit: int) -> bytes:
        """What is new since the last read, at most `limit` bytes."""
        self.restarted = self.behind = False
        try:
            if self._fd < 0 and not self._open():
                return b""
            found = os.fstat(self._fd)
            if found.st_size < self._offset:
                self._offset, self.restarted = 0, True
            data = os.pread(self._fd, limit, self._offset)
            self._offset += len(data)
            self.behind = self._offset < os.fstat(self._fd).st_size
            if not self.behind and not data and self._is_replaced():
                self.close()
        except OSError:
            return b""
        return data

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> bool:
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            return False
        inode = found.st_dev, found.st_ino
        self.restarted = self._inode is not None and self._inode != inode
        if self._inode != inode:
            self._offset = 0
        self._fd, self._inode = fd, inode
        return True

    def _is_replaced(self) -> bool:
        """Whether another file has the path now."""
        try:
            found = os.stat(self._path)
        except OSError:
            return False  # gone: what is written to the old one is still read
        return (found.st_dev, found.st_ino) != self._inode
