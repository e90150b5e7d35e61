"""What each process used of a GPU, from the samples that its driver keeps for some ten seconds.

A ring holds 72 samples of all processes together, so it has to be emptied more often than the process lists of a slow recording are asked
for. What was taken waits here for the next list: only processes that are listed count, since a pid in the samples alone may be anybody's.
"""

import ctypes
import struct
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from gpucost.collectors._nvml_counters import Tally
from gpucost.collectors._nvml_entries import Entries
from gpucost.collectors._nvml_library import NOTHING_NEW, SUCCESS, Nvml, check_alive, refuses
from gpucost.collectors._nvml_pacing import Paced

LONGEST_NS = 2_000_000_000
"""After so long the ring is emptied, whether or not a process list is due."""

_CALL = "nvmlDeviceGetProcessUtilization"
_SAMPLE = struct.Struct("=IxxxxQIIII")  # pid, time (us), SM, memory, encoder, decoder
_MAX_PERCENT = 100
_FIRST_US = 1_000_000  # so much of what the driver remembers at the first asking is of now


class Usage(NamedTuple):
    """Mean of one process's samples, and how many there were."""

    sm_pct: float
    memory_pct: float
    samples: int


class UsageSamples(Paced):
    """The samples of one device.

    Attributes:
        asked_ns: monotonic time of the last asking.
    """

    __slots__ = (
        "_answered", "_before", "_function", "_handle", "_last_seen_us", "_odd", "_taken", "_tally", "asked_ns", "entries",
    )  # fmt: skip

    def __init__(self, nvml: Nvml, handle: Any, tally: Tally) -> None:
        """Ask once, to find out whether the driver tells.

        Raises:
            GpuGoneError: the GPU is not there.
        """
        super().__init__("process samples")
        self.entries = Entries(nvml)
        self.asked_ns = 0
        self._handle = handle
        self._tally = tally
        self._last_seen_us = 0
        self._answered = False
        self._odd: set[tuple[Any, ...]] = set()
        self._taken: list[tuple[Any, ...]] = []
        self._before: Collection[int] = ()
        self._function: Callable[..., int] | None = nvml.bind(_CALL)
        if self._function is not None:
            code = self._ask(self._function)
            check_alive(code)
            if refuses(code):
                self._function = None

    def __bool__(self) -> bool:
        return self._function is not None

    def is_overdue(self, mono_ns: int) -> bool:
        """Whether the ring should be emptied without waiting for the next process list; to be asked once a tick."""
        return bool(self) and mono_ns - self.asked_ns >= LONGEST_NS and self.is_due()

    def gather(self, mono_ns: int) -> bool:
        """Take what was sampled since the last time; whether the driver answered.

        Raises:
            GpuGoneError: the GPU is not there any more.
            SessionLostError: the session is closed.
        """
        self.entries.spent_ns = 0
        self.asked_ns = mono_ns
        code = SUCCESS if self._function is None else self._ask(self._function)
        check_alive(code)
        if code not in NOTHING_NEW and (code != SUCCESS or self._function is None):
            return False
        first, self._answered = not self._answered, True
        if code == SUCCESS:
            self._take(first=first)
        return True

    def of_listed(self, listed: Collection[int], *, complete: bool) -> dict[int, Usage]:
        """Means since the last list by pid, of anybody; samples of pids in neither this list nor the one before are counted as left out.

        Args:
            listed: the pids that are on the device now.
            complete: nobody is missing from them.
        """
        usage, self._taken = means(self._taken), []
        if complete:
            known = {*listed, *self._before}
            self._tally.unlisted += sum(one.samples for pid, one in usage.items() if pid not in known)
            self._before = set(listed)
        return usage

    def _take(self, *, first: bool) -> None:
        """Keep what is possible; of the first answer, which is everything that the driver remembers, what is of now."""
        read = self.entries.read(_SAMPLE)
        samples = [sample for sample in read if sample[2] <= _MAX_PERCENT and sample[3] <= _MAX_PERCENT]
        odd = {sample[:2] for sample in read} - {sample[:2] for sample in samples}
        for _ in odd - self._odd:  # until a possible one follows, they are told again
            self._tally.counter("process sm_util_pct")()
        self._odd = odd
        newest = max((sample[1] for sample in samples), default=self._last_seen_us)
        since = newest - _FIRST_US if first else self._last_seen_us
        self._last_seen_us = newest
        self._taken += [sample for sample in samples if sample[1] > since]

    def _ask(self, function: Callable[..., int]) -> int:
        since, entries = ctypes.c_ulonglong(self._last_seen_us), self.entries
        return entries.fill(
            _SAMPLE.size, lambda: function(self._handle, entries.buffer, ctypes.byref(entries.count), since), _CALL
        )


def means(samples: Sequence[tuple[Any, ...]]) -> dict[int, Usage]:
    """Mean use of each process over all the driver's samples.

    The driver names at each sample only who was caught at work, so a process that a sample leaves out did nothing then: its mean is over
    the samples of everybody. Where each process has one sample of its own time, that is a mean already.
    """
    sums: dict[int, tuple[int, int, int]] = {}
    for pid, _, sm, memory, _, _ in samples:
        sm_sum, memory_sum, count = sums.get(pid, (0, 0, 0))
        sums[pid] = (sm_sum + sm, memory_sum + memory, count + 1)
    means_already = all(count == 1 for _, _, count in sums.values())
    slots = 1 if means_already else len({sample[1] for sample in samples})
    return {pid: Usage(sm / slots, memory / slots, count) for pid, (sm, memory, count) in sums.items()}
