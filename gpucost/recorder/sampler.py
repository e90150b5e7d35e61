"""One thread a collector, on absolute deadlines: a collector that is slow, fails or hangs disturbs neither the others nor the command.

Deadlines are `origin + k x period` on the monotonic clock, the same origin for all, so nothing drifts and the ticks of different
collectors fall together. A deadline that has passed by a whole period is missed, not caught up with.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from gpucost.collectors.base import Collector, Context, SourceUnavailable, Tier
from gpucost.recorder.launch import name_thread

_FIRST_BACKOFF_S = 1.0
_LAST_BACKOFF_S = 60.0
_PATIENCE = 5  # failures in a row before the back-off grows: a driver that is reloaded is soon there again
_SLOW_SHARE = 0.25  # a sample may take this share of its period ...
_SLOW_COUNT = 5  # ... but not this many times in a row: then its period is doubled
_MAX_STRETCH = 16
_STUCK_AFTER_NS = 5_000_000_000

Report = Callable[..., None]


class TierState:
    """The deadlines of one tier, and what became of them.

    The first sample is due at once, since what lies before it stays unknown; all others are due on the common grid.
    """

    __slots__ = ("_first_ns", "k", "late", "missed", "origin_ns", "period_ns", "slow", "stretch", "ticks", "tier")

    def __init__(self, tier: Tier, origin_ns: int, now_ns: int) -> None:
        self.tier = tier
        self.period_ns = tier.period_ns
        self.origin_ns = origin_ns
        self.stretch = 1
        self.slow = self.ticks = self.late = self.missed = 0
        self._first_ns: int | None = now_ns
        self.k = max(0, (now_ns - origin_ns) // self.period_ns + 1)

    @property
    def deadline_ns(self) -> int:
        """When the next sample is due."""
        return self.origin_ns + self.k * self.period_ns if self._first_ns is None else self._first_ns

    def begin(self, now_ns: int) -> None:
        """A sample starts now: count how late it is, and set the deadline after it."""
        lateness = now_ns - self.deadline_ns
        missed = max(lateness // self.period_ns, 0)
        self.missed += missed
        if 2 * lateness > self.period_ns:
            self.late += 1
        self.ticks += 1
        self.k += missed + (self.stretch if self._first_ns is None else 0)
        self._first_ns = None

    def skip_until(self, now_ns: int) -> None:
        """Nothing was sampled until now: what was due is missed."""
        behind = now_ns - self.deadline_ns
        if behind > 0:
            count = behind // self.period_ns + 1
            self.missed += count
            self.k += count

    def finish(self, took_ns: int) -> bool:
        """A sample took this long; returns whether the tier has just been slowed down or sped up again."""
        if took_ns > _SLOW_SHARE * self.period_ns * self.stretch:
            self.slow += 1
            if self.slow >= _SLOW_COUNT and self.stretch < _MAX_STRETCH:
                self.slow, self.stretch = 0, self.stretch * 2
                return True
            return False
        self.slow = 0
        if self.stretch > 1 and took_ns < _SLOW_SHARE * self.period_ns * self.stretch / 8:
            self.stretch //= 2
            return True
        return False


class Runner(threading.Thread):
    """Runs one collector until told to stop.

    Attributes:
        status: the collector's own row of `gpucost.schema.RecorderRow` fields, cumulative.
        phase: `starting`, `sampling`, `waiting` (backing off), `gone` (not available here), `stopped`.
    """

    def __init__(self, collector: Collector, context: Context, origin_ns: int) -> None:
        super().__init__(name=f"gpucost-{collector.name}", daemon=True)
        self.collector = collector
        self.context = context
        self.clock = context.clock
        self.origin_ns = origin_ns
        self.phase = "starting"
        self.status: dict[str, Any] = dict.fromkeys(
            ("ticks", "ticks_late", "ticks_missed", "errors", "driver_calls"), 0
        )
        self.status.update(sample_s=0.0, driver_s=0.0)
        self._tiers: list[TierState] = []
        self._asked_to_stop = threading.Event()
        self._failures_in_a_row = 0
        self._busy_since_ns = self.clock.mono_ns()
        self._told_stuck = False

    def ask_to_stop(self) -> None:
        """Take a last sample of every tier, then stop."""
        self._asked_to_stop.set()

    def look_after(self) -> None:
        """Called from outside now and then: say so, once, when a call has not come back for seconds."""
        stuck = self.phase in ("starting", "sampling") and self.clock.mono_ns() - self._busy_since_ns > _STUCK_AFTER_NS
        if stuck and self._busy_since_ns and not self._told_stuck:
            self._told_stuck = True
            what = "has not started" if self.phase == "starting" else "has not answered"
            self.context.report(
                "collector_stuck",
                f"{self.collector.name} {what} for {_STUCK_AFTER_NS // 10**9} s; everything else goes on",
            )

    def run(self) -> None:
        """The thread: start, sample on deadlines, stop."""
        name_thread(self.name)
        try:
            if self._start():
                self._sample_until_stopped()
                self._sample_all_once_more()
        finally:
            self.phase = "stopped" if self.phase != "gone" else "gone"
            try:
                self.collector.stop()
            except Exception as error:  # noqa: BLE001 (a collector is foreign code; it must not take the recorder down)
                self._failed("stop", error)

    def _start(self) -> bool:
        while True:
            self._busy_since_ns = self.clock.mono_ns()
            try:
                tiers: Sequence[Tier] = self.collector.start(self.context)
            except SourceUnavailable as error:
                if error.permanent:
                    self.phase = "gone"
                    self.context.report("source_unavailable", str(error))
                    return False
                self._failed("start", error)
            except Exception as error:  # noqa: BLE001
                self._failed("start", error)
            else:
                now_ns = self.clock.mono_ns()
                self._tiers = [TierState(tier, self.origin_ns, now_ns) for tier in tiers]
                self._recovered()
                self.phase = "sampling"
                return True
            if self._wait_out():
                return False
            self.phase = "starting"

    def _sample_until_stopped(self) -> None:
        while not self._asked_to_stop.is_set():
            if not self._tiers:
                self._asked_to_stop.wait()
                return
            state = min(self._tiers, key=lambda one: one.deadline_ns)
            delay_ns = state.deadline_ns - self.clock.mono_ns()
            if delay_ns > 0:
                self._busy_since_ns = 0
                if self._asked_to_stop.wait(delay_ns / 1e9):
                    return
            self._sample(state)

    def _sample(self, state: TierState) -> None:
        began_ns = self._busy_since_ns = self.clock.mono_ns()
        state.begin(began_ns)
        try:
            self.collector.sample(state.tier.name)
        except Exception as error:  # noqa: BLE001
            self._failed("sample", error)
            if not self._wait_out():
                self.phase = "sampling"
                for one in self._tiers:
                    one.skip_until(self.clock.mono_ns())
        else:
            took_ns = self.clock.mono_ns() - began_ns
            self._recovered()
            self.status["sample_s"] += took_ns / 1e9
            if state.finish(took_ns):
                every = state.period_ns * state.stretch / 1e9
                self.context.report(
                    "tier_slowed",
                    f"{self.collector.name}/{state.tier.name} is sampled every {every:g} s, by what its calls cost",
                )
        self._busy_since_ns = 0
        self._publish()

    def _sample_all_once_more(self) -> None:
        for state in self._tiers:
            self._busy_since_ns = self.clock.mono_ns()
            try:
                self.collector.sample(state.tier.name)
                state.ticks += 1
            except Exception as error:  # noqa: BLE001
                self._failed("sample", error)
        self._publish()

    def _publish(self) -> None:
        meter = self.context.meter
        self.status["ticks"] = sum(one.ticks for one in self._tiers)
        self.status["ticks_late"] = sum(one.late for one in self._tiers)
        self.status["ticks_missed"] = sum(one.missed for one in self._tiers)
        self.status["driver_calls"] = meter.calls
        self.status["driver_s"] = meter.wall_ns / 1e9

    def _failed(self, doing: str, error: Exception) -> None:
        self.status["errors"] += 1
        text = str(error) or type(error).__name__
        self.context.report("collector_failed", f"{self.collector.name} failed to {doing}: {text}")

    def _recovered(self) -> None:
        if self._failures_in_a_row:
            self.context.report("collector_recovered", f"{self.collector.name} works again")
        self._failures_in_a_row = 0

    def _wait_out(self) -> bool:
        """Wait before the next try, longer each time after the first few; returns whether it is time to stop instead."""
        self.phase = "waiting"
        self._busy_since_ns = 0
        self._failures_in_a_row += 1
        return self._asked_to_stop.wait(backoff_s(self._failures_in_a_row))


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    doublings = min(max(failures - _PATIENCE, 0), 10)
    return min(_FIRST_BACKOFF_S * (1 << doublings), _LAST_BACKOFF_S)
