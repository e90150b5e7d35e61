"""Device memory: triad, copy, read and write over arrays far beyond the last-level cache, and triad over a sweep of sizes.

Bytes are counted as STREAM counts them: what the program asks for (triad 3, copy 2, read and write 1 array), not what a cache moves on top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from gpucost.bench.kernels.backend import Backend

ARRAYS = {"triad": 3, "copy": 2, "read": 1, "write": 1}
_SCALE = 0.4375  # any factor that is not a power of two
_SAMPLE = 4096
_LLC_FACTOR = 4
_ELEMENT_BYTES = 4
_UNWRITTEN = -1
_NODES = 64

SMALL_BYTES = 64 << 20
"""Below this a pass takes a device tens of microseconds, about what launching it takes the host."""


class MemoryTest:
    """One streaming kernel over arrays of `array_bytes` each, preallocated and touched, so that no page fault is timed."""

    def __init__(
        self, backend: Backend, operation: str, array_bytes: int, *, data: str = "randn", seed: int = 0
    ) -> None:
        self.backend, self.operation = backend, operation
        self.elements = max(1, array_bytes // _ELEMENT_BYTES)
        self.work = float(ARRAYS[operation] * self.elements * _ELEMENT_BYTES)
        self.footprint_bytes = int(self.work)
        self.launched = 0
        device, dtype = backend.device, torch.int32 if operation == "write" else torch.float32
        generator = torch.Generator(device=device).manual_seed(seed)
        inputs = {"triad": 2, "copy": 1, "read": 1, "write": 0}[operation]
        self._inputs = [
            torch.zeros(self.elements, device=device)
            if data == "zeros"
            else torch.randn(self.elements, device=device, generator=generator)
            for _ in range(inputs)
        ]
        poison = _UNWRITTEN if dtype is torch.int32 else float("nan")
        size = 1 if operation == "read" else self.elements
        self._out = torch.full((size,), poison, dtype=dtype, device=device)

    def launch(self) -> None:
        """One pass over the arrays."""
        self.launched += 1
        if self.operation == "triad":
            torch.add(self._inputs[0], self._inputs[1], alpha=_SCALE, out=self._out)
        elif self.operation == "copy":
            self._out.copy_(self._inputs[0])
        elif self.operation == "read":
            torch.sum(self._inputs[0], dim=0, keepdim=True, out=self._out)
        else:
            torch.arange(self.elements, out=self._out)  # neither constant nor random: a constant could be compressed

    def precision(self) -> str:
        """What the elements are."""
        return "int32" if self.operation == "write" else "fp32"

    def verify(self, seed: int = 0) -> dict[str, float]:
        """`error_fp64`: largest relative error against fp64 (0 for what must be exact); NaN where something was never written or differs."""
        if self.operation == "read":
            return {"error_fp64": self._check_sum()}
        missing = self._out == _UNWRITTEN if self.operation == "write" else torch.isnan(self._out)
        if bool(missing.any()):
            return {"error_fp64": float("nan")}
        if self.operation == "copy":
            return {"error_fp64": 0.0 if torch.equal(self._out, self._inputs[0]) else float("nan")}
        return {"error_fp64": self._check_sample(seed)}

    def _check_sum(self) -> float:
        wide, size = self._inputs[0].sum(dtype=torch.float64), self._inputs[0].abs().sum(dtype=torch.float64)
        return float((self._out.double() - wide).abs()) / (float(size) or 1.0)

    def _check_sample(self, seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        index = torch.randint(0, self.elements, (_SAMPLE,), generator=generator)
        got = self._out[index.to(self.backend.device)].cpu().double()
        if self.operation == "write":
            return float((got - index.double()).abs().max())
        b, c = (one[index.to(self.backend.device)].cpu().double() for one in self._inputs)
        wanted = b + _SCALE * c
        return float((got - wanted).abs().max()) / (float(wanted.abs().max()) or 1.0)


class Graphed:
    """A kernel that is shorter than its launch, as a CUDA graph of many: else the host would be timed."""

    def __init__(self, kernel: MemoryTest, backend: Backend) -> None:
        self._kernel = kernel
        self.work, self.footprint_bytes = kernel.work * _NODES, kernel.footprint_bytes
        side = torch.cuda.Stream(backend.device)
        side.wait_stream(torch.cuda.current_stream(backend.device))
        with torch.cuda.stream(side):  # a first launch outside of the capture loads the kernel
            kernel.launch()
        torch.cuda.current_stream(backend.device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            for _ in range(_NODES):
                kernel.launch()

    def launch(self) -> None:
        """All nodes once."""
        self._graph.replay()

    def precision(self) -> str:
        """What the elements are."""
        return f"{self._kernel.precision()}, in graphs of {_NODES}"

    def verify(self, seed: int = 0) -> dict[str, float]:
        """As the kernel does."""
        return self._kernel.verify(seed)


def array_bytes(backend: Backend, arrays: int, wanted: int) -> int:
    """Bytes of one array: `wanted`, but at least four times the cache, halved until it fits what memory may be used.

    Raises:
        MemoryError: not even four times the cache fits.
    """
    floor = _LLC_FACTOR * backend.llc_bytes
    size = max(wanted, floor)
    while size * arrays > backend.budget_bytes():
        size //= 2
        if size < floor:
            raise MemoryError(f"arrays beyond the cache need {arrays * floor >> 20} MiB, which are not free")
    return size
