"""Things that happened once: rows of the event table, with repetitions folded."""

import threading
from collections.abc import Callable
from typing import Any

from gpucost.clock import Clock
from gpucost.collectors.base import Report
from gpucost.schema import EventRow

_FOLD_NS = 60_000_000_000
_MAX_SUBJECTS = 2000  # more than that are looked through for what is old
_MAX_A_MINUTE = 20  # different messages of one kind about one thing
_STEP_NS = 500_000_000
_MAX_MESSAGE = 500


class EventLog:
    """Writes events: the same one at most once a minute, and of one kind about one thing no more than a few."""

    def __init__(self, emit: Callable[[str, tuple[Any, ...]], None], clock: Clock) -> None:
        self._emit = emit
        self._clock = clock
        self._recent: dict[tuple[str, str, str | None], dict[str, int]] = {}
        self._lock = threading.Lock()
        self._offset_ns = clock.time_ns() - clock.mono_ns()

    def report(self, source: str, kind: str, message: str, *, subject: str | None = None) -> None:
        """Record one event, unless the same one was recorded within a minute."""
        now_ns = self._clock.mono_ns()
        with self._lock:
            if len(self._recent) >= _MAX_SUBJECTS:
                self._forget(now_ns)
            recent = self._recent.setdefault((source, kind, subject), {})
            for old in [text for text, then_ns in recent.items() if now_ns - then_ns >= _FOLD_NS]:
                del recent[old]
            if message in recent or len(recent) >= _MAX_A_MINUTE:
                return
            recent[message] = now_ns
        self._emit("event", EventRow(self._clock.time_ns(), now_ns, kind, source, subject, message[:_MAX_MESSAGE]))

    def _forget(self, now_ns: int) -> None:
        """Let go of what was last said more than a minute ago, and of everything if that is not enough."""
        fresh = {
            key: said for key, said in self._recent.items() if any(now_ns - then < _FOLD_NS for then in said.values())
        }
        self._recent = fresh if len(fresh) < _MAX_SUBJECTS else {}

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
