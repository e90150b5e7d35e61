"""What it costs to start a kernel: the host's time to enqueue one, the device's time per kernel back to back, a round trip, and a node of a graph.

Kernels this small cannot be timed one by one; a batch is queued behind a kernel that keeps the device busy, so that the host is timed without
waiting for the device, and the device without waiting for the host.
"""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

import torch

from gpucost.bench.model import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpucost.bench.kernels.backend import Backend

KINDS = ("enqueue", "throughput", "roundtrip", "graph_node")
_BATCH = 500  # under the depth of the driver's launch queue (about a thousand), or enqueueing would wait for the device
_NODES = 1000
_BLOCK_CYCLES = 12_000_000  # some 6 ms at GPU clocks: longer than enqueueing a batch takes


class LaunchTest:
    """Times one of `KINDS`; a window is a batch, its work is 0, and its rate is the microseconds of one launch."""

    def __init__(self, backend: Backend, kind: str) -> None:
        self.backend, self.kind = backend, kind
        self._x = torch.zeros(1, device=backend.device)
        self._y = torch.ones(1, device=backend.device)
        self.footprint_bytes = 2 * self._x.element_size()
        self._graph = self._capture() if kind == "graph_node" else None

    def _kernel(self) -> None:
        torch.add(self._x, self._y, out=self._x)

    def _capture(self) -> torch.cuda.CUDAGraph:
        side = torch.cuda.Stream(self.backend.device)
        side.wait_stream(torch.cuda.current_stream(self.backend.device))
        with torch.cuda.stream(side):
            self._kernel()
        torch.cuda.current_stream(self.backend.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(_NODES):
                self._kernel()
        return graph

    def windows(self, seconds: float) -> list[Window]:
        """Batches for about `seconds`."""
        batch: Callable[[], Window] = getattr(self, f"_{self.kind}")
        self._x.zero_()
        batch()
        found: list[Window] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or not found:
            found.append(batch())
        return found

    def _block(self) -> None:
        if self.backend.kind != "cpu":
            torch.cuda._sleep(_BLOCK_CYCLES)  # noqa: SLF001 (there is no public kernel that only takes time)

    def _enqueue(self) -> Window:
        self._block()
        before, began = _switches(), time.perf_counter_ns()
        for _ in range(_BATCH):
            self._kernel()
        took, clean = time.perf_counter_ns() - began, _switches() == before
        self.backend.synchronize()
        return Window(time.monotonic_ns(), took, _BATCH, 0.0, clean)

    def _throughput(self) -> Window:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._block()
        start.record()
        for _ in range(_BATCH):
            self._kernel()
        end.record()
        end.synchronize()
        return Window(time.monotonic_ns(), round(start.elapsed_time(end) * 1e6), _BATCH, 0.0)

    def _roundtrip(self) -> Window:
        before, began = _switches(), time.perf_counter_ns()
        for _ in range(_BATCH):
            self._kernel()
            self.backend.synchronize()
        took, clean = time.perf_counter_ns() - began, _switches() == before
        return Window(time.monotonic_ns(), took, _BATCH, 0.0, clean)

    def _graph_node(self) -> Window:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        graph = self._graph
        if graph is None:
            raise RuntimeError("no graph was captured")
        self._block()
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        return Window(time.monotonic_ns(), round(start.elapsed_time(end) * 1e6), _NODES, 0.0)

    def verify(self, expected: float) -> dict[str, float]:
        """`error_fp64`: 0 where the counter that every kernel adds one to stands at `expected`, else NaN."""
        self.backend.synchronize()
        return {"error_fp64": 0.0 if float(self._x[0]) == expected else float("nan")}


def _switches() -> int:
    """How often a core was taken away from this process so far; what the host is timed by must not be interrupted."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
