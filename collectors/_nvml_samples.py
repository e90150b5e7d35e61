"""What the driver kept of a GPU between ticks: its buffered samples of power and utilization, each taken once.

A ring of about 120 samples, every 20 ms to 1 s for power and about every 200 ms for utilization, so a slow recording still sees what
happened between its ticks. Samples are told apart by the driver's own time stamps.

Power is kept as means over a tenth of a second, which is about what the sensor itself averages over: every sample of eight GPUs would be 400 rows
a second. A recording whose ticks come as often reads the sensor itself, and leaves the ring alone.
"""

import ctypes
import itertools
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from gpucost.collectors._nvml_counters import Tally
from gpucost.collectors._nvml_devices import Device
from gpucost.collectors._nvml_library import NOTHING_NEW, SUCCESS, Nvml, as_pointer, check_alive, refuses
from gpucost.collectors._nvml_pacing import Paced
from gpucost.schema import GpuSampleRow

CAPACITY = 512
"""Samples that one answer may have; drivers keep about 120."""

_SAMPLE = struct.Struct("=QIxxxx")  # time (us), value; every type that is asked for is a 32-bit one
_KEY = 3  # in a row: time_ns, mono_ns, gpu_uuid come before the values
_HOUR_US = 3_600_000_000
_EMPTY_BEFORE_ANEW = 5  # answers without a sample: then the driver's clock may have been set back
_MAX_MW = 20_000_000
_MAX_PERCENT = 100
_FEW = 3  # time stamps that a period can be told from
_MEAN_OVER_US = 100_000
_OFTEN_NS = 150_000_000  # ticks that come this often see the power between them
_SECOND_NS = 1_000_000_000


class _Kind(NamedTuple):
    """A type of sample: its column, NVML's number, what a value is divided by, the most that it can be, and how long a time one row is to speak for."""

    column: str
    number: int
    scale: int
    most: int
    mean_over_us: int


_KINDS = (
    _Kind("power_w", 0, 1000, _MAX_MW, _MEAN_OVER_US),
    _Kind("module_power_w", 7, 1000, _MAX_MW, _MEAN_OVER_US),
    _Kind("gpu_util_pct", 1, 1, _MAX_PERCENT, 0),
    _Kind("memory_util_pct", 2, 1, _MAX_PERCENT, 0),
)


class _Ring:
    """One type of samples of one device: what was seen of it, and how far apart its samples are."""

    def __init__(self, kind: _Kind) -> None:
        self.kind = kind
        self.position = GpuSampleRow._fields.index(kind.column)
        self.last_us = 0
        self.empty = 0
        self.gaps_us: list[int] = []
        self._open: list[tuple[int, int]] = []

    def means(self, samples: Sequence[tuple[int, int]]) -> list[tuple[int, float]]:
        """Samples in time order as rows: (the middle of their time stamps, their mean). The last ones wait for those that belong with them."""
        if not self.kind.mean_over_us:
            return [(stamp, float(value)) for stamp, value in samples]
        done = []
        for sample in samples:
            if self._open and sample[0] - self._open[0][0] >= self.kind.mean_over_us:
                done.append(self._closed())
            self._open.append(sample)
        return done

    def _closed(self) -> tuple[int, float]:
        stamps, values = zip(*self._open, strict=True)
        self._open = []
        return (stamps[0] + stamps[-1]) // 2, sum(values) / len(values)


class SampleDrain(Paced):
    """Empties the buffers of one device.

    Attributes:
        spent_ns: what the last emptying cost.
        unavailable: column to why it has no samples.
    """

    __slots__ = (
        "_buffer",
        "_count",
        "_device",
        "_function",
        "_handle",
        "_nvml",
        "_offset_ns",
        "_rings",
        "_tally",
        "_type",
        "spent_ns",
        "unavailable",
    )

    def __init__(self, nvml: Nvml, device: Device, tally: Tally, *, power_every_ns: int = _SECOND_NS) -> None:
        """Ask for every type once, which also forgets all that happened before.

        Args:
            nvml: the session.
            device: whose buffers.
            tally: where impossible values are counted.
            power_every_ns: how often the power sensor itself is read.

        Raises:
            GpuGoneError: the GPU is not there.
        """
        super().__init__("buffered samples")
        self.spent_ns = 0
        self.unavailable: dict[str, str] = {}
        self._nvml = nvml
        self._device = device
        self._tally = tally
        self._handle = as_pointer(device.handle)
        self._function: Callable[..., int] | None = nvml.bind("nvmlDeviceGetSamples")
        self._buffer = ctypes.create_string_buffer(CAPACITY * _SAMPLE.size)
        self._count, self._type = ctypes.c_uint(), ctypes.c_uint()
        self._offset_ns: int | None = None
        self._rings = []
        for kind in _KINDS if self._function is not None else ():
            if kind.mean_over_us and power_every_ns <= _OFTEN_NS:
                continue
            ring = _Ring(kind)
            code, samples = self._ask(ring)
            check_alive(code)
            if not refuses(code):
                ring.last_us = max((sample[0] for sample in samples), default=0)
                self._rings.append(ring)

    def __bool__(self) -> bool:
        return bool(self._rings)

    @property
    def columns(self) -> list[str]:
        """Columns that have samples."""
        return [ring.kind.column for ring in self._rings]

    def drain(self, time_ns: int, mono_ns: int) -> list[GpuSampleRow]:
        """The samples since the last call, in time order.

        Args:
            time_ns: UTC now.
            mono_ns: the monotonic clock at the same moment.

        Raises:
            GpuGoneError: the GPU is not there any more.
            SessionLostError: the session is closed.
        """
        self.spent_ns = 0
        found: dict[int, list[Any]] = {}
        for ring in self._rings:
            code, samples = self._ask(ring)
            check_alive(code)
            if code not in NOTHING_NEW and code != SUCCESS:
                continue
            fresh = sorted(sample for sample in samples if sample[0] > ring.last_us)
            ring.empty = 0 if fresh else ring.empty + 1
            if ring.empty >= _EMPTY_BEFORE_ANEW and ring.last_us:
                ring.last_us = ring.empty = 0
                continue
            for stamp_us, value in ring.means([sample for sample in fresh if self._is_possible(ring, sample[1])]):
                row = found.setdefault(stamp_us, [None] * len(GpuSampleRow._fields))
                row[ring.position] = value / ring.kind.scale
            if fresh:
                stamps = [ring.last_us or fresh[0][0], *(stamp for stamp, _ in fresh)]
                ring.gaps_us = [later - earlier for earlier, later in itertools.pairwise(stamps) if later > earlier]
                ring.last_us = fresh[-1][0]
        self.took(self.spent_ns)
        return self._rows(found, time_ns, mono_ns)

    def periods_ns(self) -> dict[str, int]:
        """How far apart the driver's samples of each type are, by column, as far as that was seen."""
        return {
            ring.kind.column: sorted(ring.gaps_us)[len(ring.gaps_us) // 2] * 1000
            for ring in self._rings
            if len(ring.gaps_us) >= _FEW
        }

    def _is_possible(self, ring: _Ring, value: int) -> bool:
        if value > ring.kind.most:
            self._tally.counter(f"sample {ring.kind.column}")()
            return False
        return True

    def _rows(self, found: dict[int, list[Any]], time_ns: int, mono_ns: int) -> list[GpuSampleRow]:
        if not found:
            return []
        offset_ns = self._to_utc(max(found), time_ns, mono_ns)
        uuid = self._device.uuid
        rows = []
        for stamp_us in sorted(found):
            utc_ns = stamp_us * 1000 + offset_ns
            rows.append(GpuSampleRow(utc_ns, utc_ns - time_ns + mono_ns, uuid, *found[stamp_us][_KEY:]))
        return rows

    def _to_utc(self, newest_us: int, time_ns: int, mono_ns: int) -> int:
        """What to add to the driver's stamps: nothing where they are UTC, else what makes them so."""
        if abs(newest_us - time_ns // 1000) < _HOUR_US:
            return 0
        if abs(newest_us - mono_ns // 1000) < _HOUR_US:
            return time_ns - mono_ns
        if self._offset_ns is None:  # a clock of its own: its newest sample is of now
            self._offset_ns = time_ns - newest_us * 1000
        return self._offset_ns

    def _ask(self, ring: _Ring) -> tuple[int, Sequence[tuple[int, int]]]:
        if self._function is None:
            return SUCCESS, []
        self._count.value = CAPACITY
        since = ctypes.c_ulonglong(ring.last_us)
        references = (ctypes.byref(self._type), ctypes.byref(self._count))
        call = partial(self._function, self._handle, ctypes.c_uint(ring.kind.number), since, *references, self._buffer)
        code, took_ns = self._nvml.timed(call, "nvmlDeviceGetSamples")
        self.spent_ns += took_ns
        if code != SUCCESS:
            return code, []
        filled = min(self._count.value, CAPACITY) * _SAMPLE.size
        return code, list(_SAMPLE.iter_unpack(self._buffer.raw[:filled]))
