"""The two clocks of a recording, behind one seam so that tests can bring their own.

`time_ns` is UTC since the epoch and may be stepped; `mono_ns` is CLOCK_MONOTONIC and is what durations come from. On Linux every
process of a host reads the same CLOCK_MONOTONIC, so marks made by the command and samples made by the recorder share one axis.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """What the recorder and the collectors know of time."""

    def time_ns(self) -> int:
        """UTC, nanoseconds since the epoch."""
        ...

    def mono_ns(self) -> int:
        """Monotonic nanoseconds, for durations and deadlines."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def time_ns(self) -> int:
        """UTC, nanoseconds since the epoch."""
        return time.time_ns()

    def mono_ns(self) -> int:
        """Monotonic nanoseconds, for durations and deadlines."""
        return time.monotonic_ns()
