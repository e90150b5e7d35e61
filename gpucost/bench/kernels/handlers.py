"""What a worker can be asked for. Each handler takes the backend and a request, measures, proves the result, and returns a reply of plain JSON values."""

from __future__ import annotations

import math
import os
import platform
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch

from gpucost.bench.kernels.backend import Cpu, Cuda
from gpucost.bench.kernels.gemm import DTYPES, Gemm, Shape, precision
from gpucost.bench.kernels.launch import LaunchTest
from gpucost.bench.kernels.link import LinkTest, PeerTest
from gpucost.bench.kernels.memory import ARRAYS, SMALL_BYTES, Graphed, MemoryTest, array_bytes
from gpucost.bench.model import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpucost.bench.kernels.backend import Backend

_PROBE_N = 256
_INT8_ROWS = 16


class Kernel(Protocol):
    """Something that can be launched, and proves what it computed."""

    work: float
    footprint_bytes: int

    def launch(self) -> None:
        """Launch it once."""
        ...

    def precision(self) -> str:
        """How it computes."""
        ...

    def verify(self, seed: int = 0) -> dict[str, float]:
        """Errors of what it computed."""
        ...


class Cache:
    """The operands of the test before this one: a warm-up asks for the same test again and again, and must not make them anew each time."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._kernel: Kernel | None = None

    def get(self, key: tuple[Any, ...], make: Callable[[], Kernel]) -> Kernel:
        """The kernel of `key`; that of another key is let go first, so that two never lie in memory together."""
        if self._kernel is None or key != self._key:
            self.clear()
            self._kernel, self._key = make(), key
        return self._kernel

    def clear(self) -> None:
        """Let the operands go."""
        self._kernel, self._key = None, ()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
            empty_host_cache = getattr(torch._C, "_host_emptyCache", None)  # noqa: SLF001 (pinned memory has no public way)
            if empty_host_cache is not None:
                empty_host_cache()


_cache = Cache()
_NOT_OF_THE_OPERANDS = ("id", "seconds", "window_s", "verify")


def _key(request: dict[str, Any]) -> tuple[Any, ...]:
    """What of a request decides its operands."""
    return tuple(sorted((name, value) for name, value in request.items() if name not in _NOT_OF_THE_OPERANDS))


def versions() -> dict[str, str | None]:
    """What computed: torch, CUDA, cuBLAS, cuDNN, Python."""
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "python": platform.python_version(),
    }


def gemm(backend: Backend, request: dict[str, Any]) -> dict[str, Any]:
    """Matrix products of one dtype and shape.

    Raises:
        MemoryError: there is no memory for them.
        NotImplementedError: the library has no such product.
    """
    dtype = request["dtype"]
    with precision(dtype):
        kernel = _cache.get(_key(request), lambda: _make_gemm(backend, request))
        reply = _measure(backend, kernel, request)
    shape = kernel.shape if isinstance(kernel, Gemm) else Shape(0, 0, 0)
    return {**reply, "shape": [shape.m, shape.n, shape.k]}


def _make_gemm(backend: Backend, request: dict[str, Any]) -> Gemm:
    dtype, shape = request["dtype"], Shape(request["m"], request["n"], request["k"])
    if dtype == "int8" and backend.kind != "cpu" and shape.m <= _INT8_ROWS:
        raise NotImplementedError(f"cuBLAS multiplies int8 from {_INT8_ROWS + 1} rows up")
    if request.get("fit", True):
        shape = _fitting(backend, dtype, shape, request)
    elif Gemm.set_bytes(dtype, shape) > backend.budget_bytes():
        raise MemoryError(f"{Gemm.set_bytes(dtype, shape) >> 20} MiB are not free")
    return Gemm(backend, dtype, shape, data=request.get("data", "randn"), seed=request.get("seed", 0))


def _fitting(backend: Backend, dtype: str, shape: Shape, request: dict[str, Any]) -> Shape:
    """The shape, halved until it fits the memory and one product fits a window; not below the floor.

    Raises:
        MemoryError: not even the smallest fits.
    """
    floor = min(request.get("floor", 1024), shape.m, shape.n, shape.k)
    while Gemm.set_bytes(dtype, shape) > backend.budget_bytes():
        shape = shape.halved()
        if min(shape.m, shape.n, shape.k) < floor:
            raise MemoryError(f"two {dtype} matrices of {floor} need more memory than is free")
    small = Shape(*(min(side, floor) for side in (shape.m, shape.n, shape.k)))
    took = _one_product_s(backend, dtype, small)
    while took * shape.flop / small.flop > request["window_s"] and min(shape.m, shape.n, shape.k) > floor:
        shape = shape.halved()
    return shape


_product_s: dict[tuple[str, Shape], float] = {}


def _one_product_s(backend: Backend, dtype: str, shape: Shape) -> float:
    """Seconds that a small product takes once its kernels are loaded."""
    if (dtype, shape) not in _product_s:
        kernel = Gemm(backend, dtype, shape)
        kernel.launch()
        backend.synchronize()
        _product_s[dtype, shape] = backend.once_s(kernel.launch, 1)
    return _product_s[dtype, shape]


def probe(backend: Backend, request: dict[str, Any]) -> dict[str, Any]:
    """Whether a dtype can be multiplied at all, and about how fast: one small product after another that loads the kernels.

    Raises:
        NotImplementedError: it cannot.
    """
    dtype, n = request["dtype"], _PROBE_N
    if dtype not in DTYPES:
        raise NotImplementedError(f"torch has no {dtype}")
    if dtype == "tf32" and not _has_tf32(backend):
        raise NotImplementedError("the device has no TF32")
    try:
        with precision(dtype):
            shape = Shape(n, n, n)
            kernel = Gemm(backend, dtype, shape)
            kernel.launch()
            backend.synchronize()
            took = min(backend.once_s(kernel.launch, 1) for _ in range(3))
    except (RuntimeError, TypeError, ValueError) as error:
        if "out of memory" in str(error) or "CUDA error" in str(error):
            raise
        raise NotImplementedError(str(error)) from error
    return {"flop_per_s": shape.flop / took}


def _has_tf32(backend: Backend) -> bool:
    """TF32 came with compute capability 8.0; before it, and on a CPU without it, torch silently computes fp32."""
    if backend.kind != "cuda":
        return False
    return bool(torch.cuda.get_device_capability(backend.device) >= (8, 0))


def memory(backend: Backend, request: dict[str, Any]) -> dict[str, Any]:
    """A streaming kernel; `array_bytes` is grown past the cache and shrunk to the memory, unless `exact`.

    Raises:
        MemoryError: there is no memory for it.
    """
    return _measure(backend, _cache.get(_key(request), lambda: _make_memory(backend, request)), request)


def _make_memory(backend: Backend, request: dict[str, Any]) -> Kernel:
    operation, wanted = request["operation"], request["array_bytes"]
    size = wanted if request.get("exact") else array_bytes(backend, ARRAYS[operation], wanted)
    footprint = size * ARRAYS[operation]
    if footprint > backend.budget_bytes():
        raise MemoryError(f"{footprint >> 20} MiB are not free")
    kernel = MemoryTest(backend, operation, size, data=request.get("data", "randn"), seed=request.get("seed", 0))
    return Graphed(kernel, backend) if footprint < SMALL_BYTES and backend.kind != "cpu" else kernel


def link(backend: Backend, request: dict[str, Any]) -> dict[str, Any]:
    """Host-device copies."""
    direction, size, pinned, seed = (
        request["direction"],
        request["size_bytes"],
        request["pinned"],
        request.get("seed", 0),
    )
    make = lambda: LinkTest(backend, direction, size, pinned=pinned, seed=seed)  # noqa: E731
    return _measure(backend, _cache.get(_key(request), make), request)


def peer(backend: Backend, request: dict[str, Any]) -> dict[str, Any]:
    """Copies between two visible devices, timed on the one they start from."""
    del backend
    source, target, direction = request["source"], request["target"], request["direction"]
    start = Cuda(source)
    make = lambda: PeerTest(start, target, direction, request["size_bytes"], seed=request.get("seed", 0))  # noqa: E731
    return _measure(start, _cache.get(_key(request), make), request)


def devices(backend: Backend, request: dict[str, Any]) -> dict[str, Any]:
    """Every CUDA or ROCm device that torch sees; none where it has neither."""
    del backend, request
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {"devices": [Cuda(index).describe() for index in range(count)]}


def smaller(request: dict[str, Any]) -> dict[str, Any] | None:
    """The same request at half the size, to be tried after an out-of-memory; None where the size is the point of the test."""
    if request.get("exact") or request.get("fit") is False:
        return None
    sizes = [name for name in ("m", "n", "k", "array_bytes", "size_bytes") if name in request]
    return {**request, **{name: max(1, request[name] // 2) for name in sizes}} if sizes else None


def pin(backend: Backend, request: dict[str, Any]) -> dict[str, Any]:
    """What page-locking host memory costs: the registration alone, of memory that is already there.

    Raises:
        RuntimeError: the driver refuses.
    """
    runtime, size, windows = torch.cuda.cudart(), request["size_bytes"], []
    for _ in range(request["count"]):
        memory = torch.ones(size, dtype=torch.uint8)
        began = time.monotonic_ns()
        code = int(runtime.cudaHostRegister(memory.data_ptr(), size, 0))
        ended = time.monotonic_ns()
        if code:
            raise RuntimeError(f"cudaHostRegister: error {code}")
        windows.append(Window(ended, ended - began, 1, float(size)))
        runtime.cudaHostUnregister(memory.data_ptr())
    backend.synchronize()
    return {"windows": windows, "footprint_bytes": size, "errors": {}, "precision": "page-locking"}


def launch(backend: Backend, request: dict[str, Any]) -> dict[str, Any]:
    """What starting a kernel costs."""
    _cache.clear()
    test = LaunchTest(backend, request["what"])
    with _Host() as host:
        windows = test.windows(request["seconds"])
    expected = float(windows[0].iters * (len(windows) + 1))
    return {
        "windows": windows,
        "footprint_bytes": test.footprint_bytes,
        "errors": _finite(test.verify(expected)),
        "precision": "fp32, one element",
        **host.figures,
    }


def bind(backend: Backend, request: dict[str, Any]) -> dict[str, Any]:
    """Run on the cores of a NUMA node from here on, or on all of them (`node` null).

    Raises:
        NotImplementedError: the node is not known.
    """
    del backend
    cores = range(os.cpu_count() or 1) if request["node"] is None else _node_cores(request["node"])
    os.sched_setaffinity(0, cores)
    return {"cores": len(os.sched_getaffinity(0))}


def _node_cores(node: int) -> list[int]:
    try:
        text = Path(f"/sys/devices/system/node/node{int(node)}/cpulist").read_text(encoding="ascii")
    except OSError as error:
        raise NotImplementedError(f"NUMA node {node} is not known") from error
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def threads(backend: Backend, request: dict[str, Any]) -> dict[str, Any]:
    """Use this many threads of the CPU from here on (0: all of them).

    Raises:
        NotImplementedError: the work is not done by threads.
    """
    if not isinstance(backend, Cpu):
        raise NotImplementedError("threads are the CPU's")
    _cache.clear()
    backend.use_threads(request["count"] or backend.all_threads)
    return {"threads": backend.parallel}


def forget() -> None:
    """Let all operands go."""
    _cache.clear()


def release(backend: Backend, request: dict[str, Any]) -> dict[str, Any]:
    """Let all operands go and wait for the device."""
    del request
    forget()
    backend.synchronize()
    return {}


def _measure(backend: Backend, kernel: Kernel, request: dict[str, Any]) -> dict[str, Any]:
    with _Host() as host:
        windows: list[Window] = backend.windows(kernel.launch, kernel.work, request["seconds"], request["window_s"])
    errors = kernel.verify(request.get("seed", 0)) if request.get("verify", True) else {}
    return {
        "windows": windows,
        "footprint_bytes": kernel.footprint_bytes,
        "errors": _finite(errors),
        "precision": kernel.precision(),
        **host.figures,
    }


def _finite(errors: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN: a proof that failed altogether is null."""
    return {name: value if math.isfinite(value) else None for name, value in errors.items()}


class _Host:
    """What the host did while it is open: wall time, CPU time, and how often a core was taken away."""

    figures: dict[str, float]

    def __enter__(self) -> Self:
        self._usage, self._began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self.figures = {
            "wall_s": time.monotonic() - self._began,
            "cpu_s": usage.ru_utime + usage.ru_stime - self._usage.ru_utime - self._usage.ru_stime,
            "involuntary_switches": usage.ru_nivcsw - self._usage.ru_nivcsw,
        }


HANDLERS: dict[str, Callable[[Backend, dict[str, Any]], dict[str, Any]]] = {
    "gemm": gemm,
    "probe": probe,
    "memory": memory,
    "link": link,
    "peer": peer,
    "devices": devices,
    "pin": pin,
    "launch": launch,
    "bind": bind,
    "threads": threads,
    "release": release,
}
"""Every kind of request by its name."""
