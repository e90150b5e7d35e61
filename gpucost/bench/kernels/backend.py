"""Where kernels run and how they are timed: a CUDA device (ROCm answers to the same calls), or the CPU.

A **window** is a run of back-to-back launches of at least `window_s`. On a device it is timed by a pair of events, nothing waits inside it, and the next
window is queued before the last one is waited for, so the device never idles between two. On a CPU it is timed by the host's clock, and is clean
only if nothing took a core away.
"""

from __future__ import annotations

import os
import resource
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from gpucost.bench.model import Window

if TYPE_CHECKING:
    from collections.abc import Callable

MIN_LLC_BYTES = 32 << 20
ROCM_LLC_BYTES = 256 << 20  # the cache that MI300 has behind its L2 is not in the device's properties
_IN_FLIGHT = 2
_MAX_ITERS = 4096
_CLEAN_CPU_SHARE = 0.95
_GIB = 1 << 30


class Backend(Protocol):
    """A place that kernels run on.

    Attributes:
        kind: `cuda`, `rocm` or `cpu`.
        device: where tensors are made.
        llc_bytes: size of the last-level cache; operands rotate over several times as much.
        parallel: how many threads the work is spread over (1 on a device).
    """

    kind: str
    device: torch.device
    llc_bytes: int
    parallel: int

    def synchronize(self) -> None:
        """Wait for everything that was launched."""
        ...

    def once_s(self, launch: Callable[[], None], count: int) -> float:
        """Seconds that `count` launches take."""
        ...

    def windows(self, launch: Callable[[], None], work: float, seconds: float, window_s: float) -> list[Window]:
        """Launch for about `seconds` and return the windows of it."""
        ...

    def budget_bytes(self) -> int:
        """How much memory a test may use: half of what is free, and a GiB less than that at most."""
        ...

    def describe(self) -> dict[str, Any]:
        """Facts of the device, with the names of `gpucost.bench.model.Device`."""
        ...


def iterations(backend: Backend, launch: Callable[[], None], window_s: float) -> int:
    """How many launches fill a window, found by doubling until a run is long enough to be trusted; the first launch, which loads things, is not counted."""
    backend.once_s(launch, 1)
    count = 1
    while True:
        took = backend.once_s(launch, count)
        if took >= window_s / 4 or count >= _MAX_ITERS:
            return max(1, min(_MAX_ITERS, round(count * window_s / max(took, 1e-9))))
        count *= 2


class Cuda:
    """The first visible CUDA or ROCm device."""

    parallel = 1

    def __init__(self, index: int = 0) -> None:
        self.kind = "rocm" if torch.version.hip else "cuda"
        self.device = torch.device("cuda", index)
        torch.cuda.set_device(self.device)
        self._properties = torch.cuda.get_device_properties(self.device)
        known = int(getattr(self._properties, "L2_cache_size", 0)) or MIN_LLC_BYTES
        self.llc_bytes = max(known, ROCM_LLC_BYTES) if self.kind == "rocm" else known
        torch.zeros(1, device=self.device)  # from here on there is a context, whose idle power can be measured
        self.synchronize()

    def synchronize(self) -> None:
        """Wait for everything that was launched."""
        torch.cuda.synchronize(self.device)

    def once_s(self, launch: Callable[[], None], count: int) -> float:
        """Seconds of device time that `count` launches take."""
        start, end = self._event(), self._event()
        start.record()
        for _ in range(count):
            launch()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    def windows(self, launch: Callable[[], None], work: float, seconds: float, window_s: float) -> list[Window]:
        """Launch for about `seconds`; one pair of events a window, two windows in flight."""
        iters = iterations(self, launch, window_s)
        flying: deque[tuple[Any, Any]] = deque()
        found: list[Window] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or not (found or flying):
            start, end = self._event(), self._event()
            start.record()
            for _ in range(iters):
                launch()
            end.record()
            flying.append((start, end))
            if len(flying) == _IN_FLIGHT:
                found.append(self._landed(*flying.popleft(), iters, work))
        found.extend(self._landed(start, end, iters, work) for start, end in flying)
        return found

    def _landed(self, start: Any, end: Any, iters: int, work: float) -> Window:
        end.synchronize()
        return Window(time.monotonic_ns(), round(float(start.elapsed_time(end)) * 1e6), iters, work * iters)

    def _event(self) -> Any:
        return torch.cuda.Event(enable_timing=True)

    def budget_bytes(self) -> int:
        """Half of the free device memory, and at least a GiB left free."""
        free, _ = torch.cuda.mem_get_info(self.device)
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        free += cached
        return int(max(0, min(free // 2, free - _GIB)))

    def describe(self) -> dict[str, Any]:
        """Facts of the device as torch sees it."""
        found = self._properties
        clock_khz, bits = getattr(found, "memory_clock_rate", None), getattr(found, "memory_bus_width", None)
        uuid = getattr(found, "uuid", None)
        return {
            "kind": self.kind,
            "uuid": None if uuid is None else str(uuid),
            "name": found.name,
            "compute_capability": f"{found.major}.{found.minor}",
            "sm_count": found.multi_processor_count,
            "llc_bytes": self.llc_bytes,
            "memory_total_bytes": found.total_memory,
            "memory_bandwidth_props_gb_s": 2 * clock_khz * 1e3 * bits / 8 / 1e9 if clock_khz and bits else None,
            "sm_clock_max_mhz": round(found.clock_rate / 1e3) if getattr(found, "clock_rate", None) else None,
        }


class Cpu:
    """The processor, for tests and for limits that are the host's."""

    kind = "cpu"

    def __init__(self, threads: int | None = None) -> None:
        self.device = torch.device("cpu")
        self.llc_bytes = _cpu_llc_bytes()
        self.all_threads = threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        self.use_threads(self.all_threads)

    def use_threads(self, count: int) -> None:
        """Spread the work over `count` threads from here on."""
        self.parallel = count
        torch.set_num_threads(count)

    def synchronize(self) -> None:
        """The CPU is done when a call returns."""

    def once_s(self, launch: Callable[[], None], count: int) -> float:
        """Seconds that `count` calls take."""
        began = time.perf_counter()
        for _ in range(count):
            launch()
        return time.perf_counter() - began

    def windows(self, launch: Callable[[], None], work: float, seconds: float, window_s: float) -> list[Window]:
        """Call for about `seconds`; a window is clean if no core was taken away and all threads were running."""
        iters = iterations(self, launch, window_s)
        found: list[Window] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or not found:
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic_ns()
            for _ in range(iters):
                launch()
            ended, after = time.monotonic_ns(), resource.getrusage(resource.RUSAGE_SELF)
            cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            share = cpu_s * 1e9 / max(1, ended - began)
            clean = after.ru_nivcsw == before.ru_nivcsw and share >= _CLEAN_CPU_SHARE * self.parallel
            found.append(Window(ended, ended - began, iters, work * iters, clean))
        return found

    def budget_bytes(self) -> int:
        """Half of the memory that is available, and at least a GiB left free."""
        import psutil

        free = psutil.virtual_memory().available
        return int(max(0, min(free // 2, free - _GIB)))

    def describe(self) -> dict[str, Any]:
        """Facts of the processor."""
        import psutil

        return {
            "kind": "cpu",
            "uuid": None,
            "name": cpu_name(),
            "llc_bytes": self.llc_bytes,
            "memory_total_bytes": psutil.virtual_memory().total,
            "threads": self.all_threads,
        }


def cpu_name() -> str:
    """The processor's model, as the kernel knows it."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _cpu_llc_bytes(root: str = "/sys/devices/system/cpu") -> int:
    """All last-level caches together (a package may have several), or 32 MiB where the kernel does not say."""
    caches: dict[str, tuple[int, int]] = {}  # cores that share it -> (level, bytes)
    for path in Path(root).glob("cpu[0-9]*/cache/index[0-9]*"):
        try:
            level = int((path / "level").read_text())
            text = (path / "size").read_text().strip()
            shared = (path / "shared_cpu_list").read_text().strip()
        except (OSError, ValueError):
            continue
        size = int(text[:-1]) << {"K": 10, "M": 20, "G": 30}.get(text[-1:], 0) if text[:-1].isdecimal() else 0
        caches[shared] = max(caches.get(shared, (0, 0)), (level, size))
    last = max((level for level, _ in caches.values()), default=0)
    return sum(size for level, size in caches.values() if level == last) or MIN_LLC_BYTES


def open_backend(kind: str, threads: int | None = None) -> Backend:
    """The backend that was asked for: `device` (the first visible GPU) or `cpu`."""
    return Cpu(threads) if kind == "cpu" else Cuda()
