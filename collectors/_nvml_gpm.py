"""True activity (GPM): what the SMs, the tensor cores and the memory did between two samples of the GPU's counters.

Hopper and newer. NVML refreshes the counters every 100 ms, so two samples lie further apart than that; every window begins where the one
before ended, so nothing is left out. Percentages are of SM cycles, not of time.
"""

import ctypes
import math
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from typing import Any

from gpucost.collectors._nvml_devices import Device
from gpucost.collectors._nvml_library import (
    FUNCTION_NOT_FOUND,
    NOT_SUPPORTED,
    NOTHING_NEW,
    SUCCESS,
    Nvml,
    as_pointer,
    check_alive,
    describe,
    refuses,
)
from gpucost.collectors._nvml_pacing import Paced
from gpucost.collectors._nvml_reader import COLUMN, Failed, GpuReader

SHORTEST_NS = 100_000_000
"""Two samples have to be more than this apart."""

NO_DATA = 21
_MIB = 1 << 20
_MAX_PERCENT = 100.5  # a window's edges are not exact
_VERSION = 1
_TRIES = 3  # refusals in a row before it is left out for a while
_LONGEST_WAIT = 64  # ticks

METRICS = {
    "gr_active_pct": 1,
    "sm_active_pct": 2,
    "sm_occupancy_pct": 3,
    "tensor_active_pct": 5,
    "dram_active_pct": 10,
    "fp64_active_pct": 11,
    "fp32_active_pct": 12,
    "fp16_active_pct": 13,
    "pcie_tx_bytes_per_s": 20,
    "pcie_rx_bytes_per_s": 21,
    "nvlink_rx_bytes_per_s": 60,
    "nvlink_tx_bytes_per_s": 61,
}
"""Column to NVML's number of the metric."""

WINDOW = "activity_window_ns"


class Gpm(Paced):
    """Takes a sample whenever the last one is old enough, and reads the window between the two."""

    __slots__ = (
        "_failures",
        "_get",
        "_histogram",
        "_metrics",
        "_nvml",
        "_reader",
        "_samples",
        "_since_ns",
        "_take",
        "_taken_ns",
    )

    def __init__(self, nvml: Nvml, reader: GpuReader, take: Callable[..., int], samples: list[Any]) -> None:
        super().__init__("gpm")
        binding = nvml.binding
        self._nvml = nvml
        self._reader = reader
        self._take = take
        self._samples = samples
        self._histogram = nvml.costs.of("nvmlGpmSampleGet, nvmlGpmMetricsGet")
        self._metrics = binding.c_nvmlGpmMetricsGet_t(version=_VERSION, numMetrics=len(METRICS))
        for slot, number in zip(self._metrics.metrics, METRICS.values(), strict=False):
            slot.metricId = number
        self._get = nvml.bind("nvmlGpmMetricsGet", ctypes.byref(self._metrics))
        self._since_ns: int | None = None
        self._taken_ns = 0
        self._failures = 0

    def add(self, row: list[Any], failed: Failed) -> int:
        """Write the window that ends now into a row, if it is long enough; the nanoseconds spent in the driver.

        Raises:
            GpuGoneError: the GPU is not there any more.
        """
        now_ns = row[1]
        young = self._since_ns is not None and now_ns - self._since_ns <= SHORTEST_NS
        if young or not self.is_due():
            return 0
        began_ns = perf_counter_ns()
        code = self._window(now_ns)
        took_ns = perf_counter_ns() - began_ns
        self._nvml.count(2, took_ns)
        self._histogram.add(took_ns)
        self.took(took_ns)
        check_alive(code)
        if code == SUCCESS:
            self._failures = 0
            self._store(row)
        elif code not in NOTHING_NEW:
            self._failures += 1
            failed(self.label, code)
            if self._failures >= _TRIES:
                self.wait = min(1 << (self._failures - _TRIES), _LONGEST_WAIT)
        return took_ns

    def _window(self, now_ns: int) -> int:
        first = self._since_ns is None
        self._taken_ns = now_ns
        code = self._take(self._samples[1])
        if code != SUCCESS or self._get is None:
            self._since_ns = None  # the next window cannot begin in a sample that was not taken
            return code
        if first:
            self._turn()
            return NO_DATA
        self._metrics.sample1, self._metrics.sample2 = self._samples
        return self._get()

    def _turn(self) -> None:
        self._samples.reverse()
        self._since_ns = self._taken_ns

    def _store(self, row: list[Any]) -> None:
        row[COLUMN[WINDOW]] = self._taken_ns - (self._since_ns or 0)
        found = False
        for column, slot in zip(METRICS, self._metrics.metrics, strict=False):
            value = slot.value
            if slot.nvmlReturn != SUCCESS or math.isnan(value):
                continue
            if column.endswith("_bytes_per_s"):
                row[COLUMN[column]] = value * _MIB if value >= 0 else None
            elif 0 <= value <= _MAX_PERCENT:
                row[COLUMN[column]] = min(value, 100.0)
            else:
                self._reader.tally.counter(column)()
            found = True
        if not found:
            row[COLUMN[WINDOW]] = None
        self._turn()


def offer_gpm(nvml: Nvml, device: Device, reader: GpuReader) -> None:
    """Add true activity to what a reader asks for, or say why the device has none.

    Raises:
        GpuGoneError: the GPU is not there.
    """
    reason = _try(nvml, device, reader)
    if reason:
        reader.absent["true activity (GPM)"] = reason


def _try(nvml: Nvml, device: Device, reader: GpuReader) -> str:
    binding, handle = nvml.binding, as_pointer(device.parent_handle or device.handle)
    support = binding.c_nvmlGpmSupport_t(version=_VERSION)
    query = nvml.bind("nvmlGpmQueryDeviceSupport", handle, ctypes.byref(support))
    alloc, getter = nvml.bind("nvmlGpmSampleAlloc"), nvml.bind("nvmlGpmMetricsGet")
    take = _taker(nvml, device)
    if query is None or alloc is None or getter is None or take is None:
        return describe(FUNCTION_NOT_FOUND)
    code, _ = nvml.timed(query, "nvmlGpmQueryDeviceSupport")
    check_alive(code)
    if code != SUCCESS:
        return describe(code)
    if not support.isSupportedDevice:
        return describe(NOT_SUPPORTED)
    samples = []
    for _ in range(2):
        sample = binding.c_nvmlGpmSample_t()
        code, _ = nvml.timed(partial(alloc, ctypes.byref(sample)), "nvmlGpmSampleAlloc")
        if code != SUCCESS:
            return describe(code)
        samples.append(sample)
    code, _ = nvml.timed(partial(take, samples[0]), "nvmlGpmSampleGet")
    check_alive(code)
    if refuses(code):
        return describe(code)
    reader.apart.append(Gpm(nvml, reader, take, samples))
    reader.on_close.append(partial(_free, nvml, samples))
    return ""


def _taker(nvml: Nvml, device: Device) -> Callable[..., int] | None:
    """Takes a sample; of a MIG device through its GPU, as all drivers with GPM know it."""
    instance = device.identity.gpu_instance
    if device.parent_handle is not None and instance is not None:
        return nvml.bind("nvmlGpmMigSampleGet", as_pointer(device.parent_handle), ctypes.c_uint(instance))
    return nvml.bind("nvmlGpmSampleGet", as_pointer(device.handle))


def _free(nvml: Nvml, samples: list[Any]) -> None:
    free = nvml.bind("nvmlGpmSampleFree")
    if free is not None:
        for sample in samples:
            free(sample)
    samples.clear()
