"""Takes readings of one GPU: every call bound once to a prepared structure, one row a reading."""

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

from gpucost.collectors._nvml_costs import Histogram
from gpucost.collectors._nvml_counters import Tally
from gpucost.collectors._nvml_library import NOTHING_NEW, SUCCESS, Nvml, check_alive
from gpucost.collectors._nvml_pacing import Paced
from gpucost.schema import GpuRow

COLUMN = {name: position for position, name in enumerate(GpuRow._fields)}

Store = Callable[[list[Any]], None]
"""Reads a prepared structure after its call, and writes columns of a row."""

_TRIES = 3  # failures in a row before a call is left out for a while
_LONGEST_WAIT = 64  # ticks


class Probe(Paced):
    """One call and the columns it fills.

    Attributes:
        call: makes the call and returns NVML's code.
        store: reads the answer.
        failing: of a call for several fields, those that had no answer the last time; else empty.
        failures: calls in a row without an answer.
        calls: how many calls to the driver one asking is.
        histogram: where its durations are counted.
    """

    __slots__ = ("call", "calls", "failing", "failures", "histogram", "store")

    def __init__(
        self,
        columns: Sequence[str],
        call: Callable[[], int],
        store: Store,
        *,
        failing: dict[str, int] | None = None,
        least_every: int = 1,
    ) -> None:
        super().__init__(", ".join(columns), least_every)
        self.call = call
        self.store = store
        self.failing = {} if failing is None else failing
        self.failures = 0
        self.calls = 1
        self.histogram = Histogram()

    def took(self, cost_ns: int) -> None:
        """It was asked, at this cost."""
        super().took(cost_ns)
        self.histogram.add(cost_ns)

    def failed(self) -> None:
        """The call did not answer: after a few times in a row, leave it out for longer and longer."""
        self.failures += 1
        if self.failures >= _TRIES:
            self.wait = max(self.wait, min(1 << (self.failures - _TRIES), _LONGEST_WAIT))


class GpuReader:
    """Readings of one device.

    Attributes:
        probes: what is asked.
        unavailable: column to the reason why it is null on this device.
        absent: the same of what many devices do not have, and no report misses.
        notes: what else a reader of the figures should know, one line each.
        tally: impossible values, counted.
        happened: kind and message of what should become an event; whoever reports it clears it.
        now_ns: the monotonic time of the reading that is being taken.
        on_close: what to call when the device is not read any more.
    """

    def __init__(self, nvml: Nvml, uuid: str) -> None:
        self.probes: list[Probe] = []
        self.unavailable: dict[str, str] = {}
        self.absent: dict[str, str] = {}
        self.notes: list[str] = []
        self.tally = Tally()
        self.happened: list[tuple[str, str]] = []
        self.now_ns = 0
        self.on_close: list[Callable[[], None]] = []
        self._nvml = nvml
        self._blank: list[Any] = [0, 0, uuid, *[None] * (len(GpuRow._fields) - 3)]

    def read(self, time_ns: int, mono_ns: int, failed: Callable[[str, int], None]) -> tuple[list[Any], int]:
        """One reading: a row in the schema's order, null but for what answered, and the nanoseconds spent in the driver.

        Args:
            time_ns: UTC of the reading.
            mono_ns: its monotonic time.
            failed: is told what did not answer, and NVML's code.

        Raises:
            GpuGoneError: the GPU is not there any more.
            SessionLostError: the driver does not know of the session.
        """
        row = self._blank.copy()
        row[0], row[1] = time_ns, mono_ns
        self.now_ns = mono_ns
        due = [probe for probe in self.probes if probe.is_due()]
        codes = []
        began_ns = before_ns = perf_counter_ns()
        for probe in due:
            codes.append(probe.call())
            now_ns = perf_counter_ns()
            probe.took(now_ns - before_ns)
            before_ns = now_ns
        self._nvml.count(sum(probe.calls for probe in due), before_ns - began_ns)
        for probe, code in zip(due, codes, strict=True):
            if code == SUCCESS:
                probe.failures = 0
                probe.store(row)
                for column, reason in probe.failing.items():
                    failed(column, reason)
            else:
                check_alive(code)
                if code not in NOTHING_NEW:
                    probe.failed()
                    failed(probe.label, code)
        return row, before_ns - began_ns

    def close(self) -> None:
        """Give back what the device's calls were lent."""
        for call in self.on_close:
            call()
        self.on_close.clear()
