"""The one thread that touches the disk: rows come in by a queue, so a disk that stalls stalls nothing else."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from gpucost.clock import Clock
from gpucost.recorder.launch import name_thread
from gpucost.store.journal import JournalWriter

FLUSH_EVERY_S = 0.5
_SYNC_EVERY_NS = 1_000_000_000
_MAX_QUEUED_ROWS = 400_000


class Beat(Protocol):
    """Called by the writer's thread about twice a second, for other work that may wait on the disk."""

    def __call__(self) -> None:
        """Do it."""
        ...


class WriterThread(threading.Thread):
    """Moves rows from the queue into the journal, about twice a second, and rotates the journal.

    Attributes:
        dropped: rows that the full queue had to let go.
    """

    def __init__(self, journal: JournalWriter, clock: Clock, *, beat: Beat, rotated: Callable[[], None]) -> None:
        super().__init__(name="gpucost-writer", daemon=True)
        self.journal = journal
        self.clock = clock
        self.dropped = 0
        self._beat = beat
        self._rotated = rotated
        self._queue: deque[tuple[str, tuple[Any, ...]]] = deque(maxlen=_MAX_QUEUED_ROWS)
        self._stop_asked = threading.Event()
        self._synced_ns = 0

    def emit(self, table: str, row: tuple[Any, ...], /) -> None:
        """Take one row; never blocks. The oldest row goes when the queue is full."""
        if len(self._queue) == _MAX_QUEUED_ROWS:
            self.dropped += 1
        self._queue.append((table, row))

    def close(self, timeout_s: float) -> bool:
        """Write what is queued and close the journal; returns whether that was done in time."""
        self._stop_asked.set()
        self.join(timeout_s)
        return not self.is_alive()

    def run(self) -> None:
        """The thread."""
        name_thread(self.name)
        while not self._stop_asked.wait(FLUSH_EVERY_S):
            self._drain()
            self._keep_safe()
            self._beat()
        self._drain()
        self.journal.sync()
        self.journal.close()

    def _drain(self) -> None:
        tables: dict[str, list[tuple[Any, ...]]] = {}
        for _ in range(len(self._queue)):
            table, row = self._queue.popleft()
            tables.setdefault(table, []).append(row)
        for table, rows in tables.items():
            self.journal.append(table, rows)
        self.journal.flush()

    def _keep_safe(self) -> None:
        now_ns = self.clock.mono_ns()
        if now_ns - self._synced_ns >= _SYNC_EVERY_NS:
            self.journal.sync()
            self._synced_ns = now_ns
        if self.journal.due() and self.journal.rotate():
            self._rotated()
