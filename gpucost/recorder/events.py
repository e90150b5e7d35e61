"""Things that happened once: rows of the event table, with repetitions folded."""

import threading
from collections.abc import Callable
from typing import Any

from gpucost.clock import Clock
from gpucost.collectors.base import Report
from gpucost.schema import EventRow

_FOLD_NS = 60_000_000_000
_STEP_NS = 500_000_000
_MAX_MESSAGE = 500
_EACH_COUNTS = frozenset({"xid", "ecc_error", "row_remap"})  # another message of these is another event


class EventLog:
    """Writes events; the same one (source, kind, subject) at most once a minute."""

    def __init__(self, emit: Callable[[str, tuple[Any, ...]], None], clock: Clock) -> None:
        self._emit = emit
        self._clock = clock
        self._last_ns: dict[tuple[str, str, str | None, str], int] = {}
        self._lock = threading.Lock()
        self._offset_ns = clock.time_ns() - clock.mono_ns()

    def report(self, source: str, kind: str, message: str, *, subject: str | None = None) -> None:
        """Record one event, unless the same one was recorded within a minute."""
        now_ns = self._clock.mono_ns()
        key = (source, kind, subject, message if kind in _EACH_COUNTS else "")
        with self._lock:
            last_ns = self._last_ns.get(key)
            if last_ns is not None and now_ns - last_ns < _FOLD_NS:
                return
            self._last_ns[key] = now_ns
        self._emit("event", EventRow(self._clock.time_ns(), now_ns, kind, source, subject, message[:_MAX_MESSAGE]))

    def reporter(self, source: str) -> Report:
        """What a collector is lent to report with."""

        def report(kind: str, message: str, *, subject: str | None = None) -> None:
            self.report(source, kind, message, subject=subject)

        return report

    def watch_clocks(self) -> None:
        """Say so when the wall clock was stepped, or the machine slept: it moved by half a second against the monotonic clock."""
        offset_ns = self._clock.time_ns() - self._clock.mono_ns()
        step_ns = offset_ns - self._offset_ns
        if abs(step_ns) >= _STEP_NS:
            self._offset_ns = offset_ns
            self.report(
                "recorder",
                "clock_stepped",
                f"the wall clock moved by {step_ns / 1e9:+.1f} s; durations are not affected",
                subject=str(step_ns),
            )
