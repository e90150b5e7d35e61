"""Counters that wrap, and values that cannot be."""

import math
from collections.abc import Callable
from typing import Any

UNSIGNED_INT = 1  # NVML's value types that matter here
UNSIGNED_LONG_LONG = 3

_WRAP = 1 << 32
_ENERGY_STEP_S = 1.0  # a counter may move in steps of up to this
_SLACK = 1.1  # a reading may be late, and a link's nominal speed is not exact


class WrappingCounter:
    """Turns a counter of bytes that wraps at 32 bits into one that only grows.

    Between two readings it may have wrapped any number of times. How often is known only while the link could not have carried 4 GiB in
    that time; otherwise those bytes are unknown, and so is the reading.
    """

    __slots__ = ("_last", "_last_ns", "_most_per_s", "_total", "_wraps")

    def __init__(self, most_per_s: float) -> None:
        """Take the most bytes that can be counted in a second."""
        self._most_per_s = most_per_s * _SLACK
        self._wraps: bool | None = None
        self._last = -1
        self._last_ns = 0
        self._total = 0

    def least_hz(self) -> int:
        """How many readings a second are needed to follow a 32-bit counter."""
        return math.ceil(self._most_per_s / _WRAP)

    def can_follow(self, period_ns: int, kind: int) -> bool:
        """Whether readings this far apart, of values of this kind, tell how often the counter wrapped."""
        return kind != UNSIGNED_INT or period_ns / 1e9 * self._most_per_s < _WRAP

    def follow(self, raw: int, kind: int, mono_ns: int) -> int | None:
        """The bytes counted so far, or null when it cannot be told how many were counted since the last reading."""
        first, last, elapsed_ns = self._last < 0, self._last, mono_ns - self._last_ns
        self._last, self._last_ns = raw, mono_ns
        if first:
            self._wraps = kind == UNSIGNED_INT
            self._total = raw
            return raw
        grown = raw - last
        most = elapsed_ns / 1e9 * self._most_per_s
        if grown < 0 and not self._wraps and last < _WRAP:
            self._wraps = True  # a wide value, but the counter behind it is not
        if self._wraps:
            if most >= _WRAP:
                return None
            grown %= _WRAP
        if not 0 <= grown <= most:
            return None  # it started again
        self._total += grown
        return self._total


class EnergyCounter:
    """Tells a counter of energy that started again from a reading that cannot be.

    A lower reading is believed when the next one confirms it (the GPU was reset, or its driver reloaded); a jump that no GPU could have
    consumed in the time is never believed.
    """

    __slots__ = ("_last", "_last_ns", "_lower", "_most_per_s", "restarts")

    def __init__(self, most_per_s: float) -> None:
        """Take the most that can be consumed in a second, in the counter's unit."""
        self._most_per_s = most_per_s
        self._last = self._lower = -1
        self._last_ns = 0
        self.restarts = 0

    def believe(self, value: int, mono_ns: int) -> bool:
        """Whether a reading can be."""
        if self._last >= 0:
            seconds = (mono_ns - self._last_ns) / 1e9 + _ENERGY_STEP_S
            if value > self._last + self._most_per_s * seconds:
                return False
            if value < self._last:
                if not 0 <= self._lower <= value:
                    self._lower = value
                    return False
                self.restarts += 1
        self._last, self._last_ns, self._lower = value, mono_ns, -1
        return True


class Tally:
    """Counts what was left out: impossible values by column, and samples of processes that nobody lists.

    Attributes:
        counts: impossible values by column.
        unlisted: samples of pids that were in no process list.
        changed: an impossible value came since it was last told.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.unlisted = 0
        self.changed = False

    def counter(self, column: str) -> Callable[[], None]:
        """What to call when a value of this column was impossible."""

        def count() -> None:
            self.counts[column] = self.counts.get(column, 0) + 1
            self.changed = True

        return count

    def text(self) -> str:
        """All counts of impossible values, in words."""
        self.changed = False
        parts = ", ".join(f"{column} {count}" for column, count in self.counts.items())
        return f"impossible values were discarded so far: {parts}"

    def facts(self) -> dict[str, Any]:
        """For the manifest: what was left out, empty where nothing was."""
        found: dict[str, Any] = {"impossible": dict(self.counts)} if self.counts else {}
        return {**found, "unlisted_samples": self.unlisted} if self.unlisted else found
