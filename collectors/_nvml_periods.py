"""How often a sensor is renewed: asked faster than it changes, and timed from change to change."""

import ctypes
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from gpucost.collectors._nvml_library import SUCCESS, Nvml, as_pointer

EVERY_S = 0.004
LONGEST_S = 1.5
_CHANGES = 4
_FEWEST = 2  # of these, how many times from change to change are needed

Read = Callable[[], int | None]
"""Reads a sensor once; None when it does not answer."""


def changes_apart_ns(read: Read, ended: Callable[[], bool] = bool, *, longest_s: float = LONGEST_S) -> int | None:
    """The median time from one change of a sensor's value to the next; None when it changes too seldom to tell.

    A value that does not change is not distinguished from a sensor that is not renewed: under a constant load only counters tell.

    Args:
        read: reads the sensor.
        ended: whether to give up.
        longest_s: how long to look.
    """
    began = time.perf_counter_ns()
    last = read()
    changed_ns: list[int] = []
    while len(changed_ns) <= _CHANGES and not ended():
        time.sleep(EVERY_S)
        value, now_ns = read(), time.perf_counter_ns()
        if value is None or now_ns - began > longest_s * 1e9:
            break
        if value != last:
            changed_ns.append(now_ns)
            last = value
    apart = sorted(later - earlier for earlier, later in itertools.pairwise(changed_ns))
    return apart[len(apart) // 2] if len(apart) >= _FEWEST else None


def number_reader(nvml: Nvml, handle: Any, name: str, kind: type[Any]) -> Read:
    """Reads a call that writes one number."""
    out = kind()
    call = nvml.bind(name, as_pointer(handle), ctypes.byref(out))

    def read() -> int | None:
        return int(out.value) if call is not None and nvml.timed(call, name)[0] == SUCCESS else None

    return read


class PeriodFinder(threading.Thread):
    """Finds the update period of the energy counters, beside everything else; once a run.

    GPUs of one product renew theirs alike, so one of each is watched and speaks for all: to watch every one of eight would take a fifth of a
    minute of close polling.
    """

    def __init__(
        self,
        nvml: Nvml,
        gpus: Sequence[tuple[str, str, Any]],
        found: Callable[[str, int], None],
        *,
        delay_s: float = 1.0,
    ) -> None:
        """Take the session, product name, UUID and handle of each GPU, and who wants to know its period."""
        super().__init__(name="gpucost-nvml-periods", daemon=True)
        self._nvml = nvml
        self._gpus = gpus
        self._found = found
        self._delay_s = delay_s
        self._ended = threading.Event()

    def end(self) -> bool:
        """Stop soon; whether it has."""
        self._ended.set()
        self.join(0.05)
        return not self.is_alive()

    def run(self) -> None:
        """Wait until the run has lasted a little, then look; at the next GPU of a product where one does not tell."""
        known: set[str] = set()
        for name, _, handle in self._gpus:
            if name in known:
                continue
            if self._ended.wait(self._delay_s):
                return
            read = number_reader(self._nvml, handle, "nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)
            if read() is None:
                continue
            period_ns = changes_apart_ns(read, self._ended.is_set)
            if period_ns is not None:
                known.add(name)
                for uuid in (uuid for other, uuid, _ in self._gpus if other == name):
                    self._found(uuid, period_ns)
