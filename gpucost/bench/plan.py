"""Which tests a benchmark runs, in which order and for how long; data, so that tests of the benchmark can run a small one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gpucost.bench.statistics import SteadyLimits
from gpucost.errors import UsageError

QUICK, FULL = "quick", "full"
LOOK_S = {QUICK: 1.0, FULL: 5.0}
"""How long a device is looked at before anything runs on it; idle power without a context comes from it."""

DEVICE_DTYPES = ("bf16", "fp16", "fp8_e4m3", "int8", "tf32", "fp32", "fp64")
CPU_DTYPES = ("fp32", "bf16", "fp64", "int8")
"""Without fp16 and fp8: no common CPU multiplies them natively, and a product takes minutes."""

_ALIASES = {
    "fp8": "fp8_e4m3",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float64": "fp64",
    "half": "fp16",
}
_MIB = 1 << 20
CPU_WINDOW_S = 0.02
"""Shorter than a device's: a core is taken away now and then on any machine, and the fewer windows that hits, the more are clean."""

PEER_BYTES = 256 * _MIB
"""Copied from GPU to GPU at once."""

_SHORT_N = {"fp32": 4096, "fp64": 4096}


@dataclass(frozen=True, slots=True)
class Test:
    """One test.

    Attributes:
        id: the result's id.
        unit: of the result.
        request: what the worker is asked, but for `seconds` and `window_s`.
        seconds: of measuring, at most; also what the progress bar counts.
        parts: for a sweep, one (label facts, request) pair a point; the time is divided among them.
        host_bound: the host makes the figure, so its pressure counts.
        dtype: for products, and for what is derived from them.
        setup: a request before the first one, and `undo` one after the last.
    """

    id: str
    unit: str
    request: dict[str, Any]
    seconds: float
    parts: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = ()
    host_bound: bool = False
    dtype: str | None = None
    setup: dict[str, Any] | None = None
    undo: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A benchmark of one device.

    Attributes:
        mode: `quick` or `full`.
        kind: `device` or `cpu`.
        look_s: what was spent on looking at the device before (see `LOOK_S`).
        idle_s: of idle power with a context.
        warm_up: the test that warms the device up, or None; `warm_up_s` its limit.
        dtypes: to be probed, and measured if the device has them.
        tests: in order.
        repeats: ids of tests that are run once more at the end, for `repeat_s` each.
        find_best: run the best shape of the scan for `best_s` as `gemm.<dtype>.best`.
        window_s: the shortest window.
    """

    mode: str
    kind: str
    dtypes: tuple[str, ...]
    tests: tuple[Test, ...]
    look_s: float = 0.0
    idle_s: float = 0.0
    warm_up: Test | None = None
    warm_up_s: float = 0.0
    warm_up_step_s: float = 0.25
    repeats: tuple[str, ...] = ()
    repeat_s: float = 0.0
    best_s: float = 0.0
    window_s: float = 0.05
    seed: int = 1
    steady: SteadyLimits = field(default_factory=SteadyLimits)

    @property
    def seconds(self) -> float:
        """What all of it takes at most, without imports, operands and proofs."""
        measured = sum(test.seconds for test in self.tests) + self.repeat_s * len(self.repeats)
        return self.look_s + self.idle_s + self.warm_up_s + measured + self.best_s


def parse_dtypes(texts: list[str], kind: str) -> tuple[str, ...]:
    """What `--dtype` asks for (several, or several in one separated by commas), or all that make sense.

    Raises:
        UsageError: there is no such dtype.
    """
    everything = DEVICE_DTYPES if kind == "device" else CPU_DTYPES
    wanted = [word.strip().lower() for text in texts for word in text.split(",") if word.strip()]
    named = [_ALIASES.get(word, word) for word in wanted]
    for word in named:
        if word not in DEVICE_DTYPES:
            raise UsageError(f"there is no dtype {word!r}", hint=f"the dtypes are {', '.join(DEVICE_DTYPES)}")
    return tuple(dict.fromkeys(named)) or everything


def device_plan(
    mode: str, dtypes: tuple[str, ...], *, sm_count: int | None, llc_bytes: int | None, several_nodes: bool = False
) -> Plan:
    """The plan for a GPU; `docs/bench.md` says where each figure comes from.

    Args:
        mode: `quick` or `full`.
        dtypes: to measure.
        sm_count: for shapes that fill every SM.
        llc_bytes: the last-level cache, for a triad inside it.
        several_nodes: the machine has several NUMA nodes, so that a copy from the wrong one can be measured.
    """
    full = mode == FULL
    tests = [_gemm(dtype, _gemm_seconds(dtype, full=full)) for dtype in dtypes]
    main = _main_dtype(dtypes)
    if full and main is not None:
        tests.append(_shape_scan(main, sm_count))
        tests.append(_gemm(main, 4.0, data="zeros"))
    tests += [
        _memory(operation, _memory_seconds(operation, full=full)) for operation in ("triad", "copy", "read", "write")
    ]
    if llc_bytes:
        tests.append(_cached_triad(0.5, array_bytes=llc_bytes // 6 // 4 * 4))
    if full:
        tests.append(_zeros_triad(4.0))
        tests.append(_memory_sweep(4.0))
    tests += _links(full=full, several_nodes=several_nodes)
    tests += [_launch(what, 0.5 if full else 0.2) for what in ("enqueue", "throughput", "roundtrip", "graph_node")]
    if full and main is not None:
        tests.append(_roofline(main, 8192, 20.0))
    return Plan(
        mode=mode,
        kind="device",
        dtypes=dtypes,
        tests=tuple(tests),
        look_s=LOOK_S[mode],
        idle_s=5.0 if full else 1.0,
        warm_up=None if main is None else _gemm(main, 0.0),
        warm_up_s=0.0 if main is None else (30.0 if full else 6.0),
        repeats=tuple(name for name in (f"gemm.{main}", "mem.triad") if full and main is not None),
        repeat_s=3.0 if full else 0.0,
        best_s=5.0 if full and main is not None else 0.0,
    )


def cpu_plan(mode: str, dtypes: tuple[str, ...]) -> Plan:
    """The plan for a CPU: what its figures can be used for is tests, and limits that are the host's."""
    full = mode == FULL
    each = 3.0 if full else 0.8
    tests = [_gemm(dtype, each, n=1024, floor=256) for dtype in dtypes]
    if "fp32" in dtypes:
        tests.append(_one_thread(_gemm("fp32", each, n=1024, floor=256)))
    tests += [_memory(operation, each, array_bytes=128 * _MIB) for operation in ("triad", "copy", "read", "write")]
    tests.append(_cached_triad(each))
    if full:
        tests.append(_memory_sweep(6.0))
        tests.append(_roofline("fp32", 2048, 8.0))
    tests.append(_launch("enqueue", 0.5))
    return Plan(
        mode=mode,
        kind="cpu",
        dtypes=dtypes,
        tests=tuple(tests),
        repeats=("mem.triad",) if full else (),
        repeat_s=2.0 if full else 0.0,
        window_s=CPU_WINDOW_S,
    )


def _main_dtype(dtypes: tuple[str, ...]) -> str | None:
    """What warms up, is scanned and is repeated: bf16 where it is measured at all, else the first."""
    return "bf16" if "bf16" in dtypes else next(iter(dtypes), None)


def _gemm_seconds(dtype: str, *, full: bool) -> float:
    if dtype == "bf16":
        return 15.0 if full else 2.5
    return 4.0 if full else 0.8


def _memory_seconds(operation: str, *, full: bool) -> float:
    if not full:
        return 0.7
    return 10.0 if operation == "triad" else 3.0


def _gemm(dtype: str, seconds: float, *, n: int | None = None, floor: int = 1024, data: str = "randn") -> Test:
    side = n or _SHORT_N.get(dtype, 8192)
    request = {"kind": "gemm", "dtype": dtype, "m": side, "n": side, "k": side, "floor": floor, "data": data}
    name = f"gemm.{dtype}" if data == "randn" else f"gemm.{dtype}.{data}"
    return Test(name, "TOP/s" if dtype == "int8" else "TFLOP/s", request, seconds, dtype=dtype)


def _one_thread(test: Test) -> Test:
    return Test(
        f"{test.id}.1thread",
        test.unit,
        test.request,
        test.seconds,
        dtype=test.dtype,
        setup={"kind": "threads", "count": 1},
        undo={"kind": "threads", "count": 0},
    )


def _shape_scan(dtype: str, sm_count: int | None) -> Test:
    """Cubes; a shape whose 256-wide tiles fill every SM once; a k that is no power of two; and the skinny products of decoding."""
    rows, columns = _tiles(sm_count or 128)
    shapes = [
        (4096, 4096, 4096),
        (8192, 8192, 8192),
        (16384, 16384, 16384),
        (256 * rows, 256 * columns, 8192),
        (4096, 4864, 32 * 1024 + 128),
        (128, 8192, 8192),
        (16, 8192, 8192),
        (1, 8192, 8192),
    ]
    parts = tuple(
        ({"m": m, "n": n, "k": k}, {"kind": "gemm", "dtype": dtype, "m": m, "n": n, "k": k, "fit": False})
        for m, n, k in shapes
    )
    return Test(f"gemm.{dtype}.shapes", "TFLOP/s", {}, 0.7 * len(parts), parts=parts, dtype=dtype)


def _tiles(sm_count: int) -> tuple[int, int]:
    """The two factors of the SM count that are nearest to each other (132 = 12 x 11)."""
    low = next(n for n in range(int(sm_count**0.5), 0, -1) if sm_count % n == 0)
    return sm_count // low, low


def _memory(operation: str, seconds: float, *, array_bytes: int = 512 * _MIB) -> Test:
    request = {"kind": "memory", "operation": operation, "array_bytes": array_bytes}
    return Test(f"mem.{operation}", "GB/s", request, seconds)


def _cached_triad(seconds: float, *, array_bytes: int = 2 * _MIB) -> Test:
    """Triad inside the last-level cache: faster than memory, or one of the two was not what it says."""
    request = {"kind": "memory", "operation": "triad", "array_bytes": array_bytes, "exact": True}
    return Test("mem.triad.cache", "GB/s", request, seconds)


def _zeros_triad(seconds: float) -> Test:
    """Triad over zeros: the least energy that moving a byte takes, and never a rate of memory."""
    triad = _memory("triad", seconds)
    return Test("mem.triad.zeros", triad.unit, {**triad.request, "data": "zeros"}, seconds)


def _memory_sweep(seconds: float) -> Test:
    """Triad over twelve footprints from 1 MiB to 2 GiB: the cache's plateau, its end, and the proof that the large arrays lie beyond it."""
    sizes = [_MIB << step for step in range(12)]
    parts = tuple(
        (
            {"footprint_bytes": size},
            {"kind": "memory", "operation": "triad", "array_bytes": size // 3 // 4 * 4, "exact": True},
        )
        for size in sizes
    )
    return Test("mem.sweep", "GB/s", {}, seconds, parts=parts)


def _link(direction: str, size: int, *, pinned: bool) -> dict[str, Any]:
    return {"kind": "link", "direction": direction, "size_bytes": size, "pinned": pinned}


def _links(*, full: bool, several_nodes: bool) -> list[Test]:
    """Host-device copies; in a full run also pageable memory, both directions at once, small sizes, and what page-locking costs."""
    seconds = 1.5 if full else 0.7
    tests = [
        Test(f"link.{direction}.pinned", "GB/s", _link(direction, 256 * _MIB, pinned=True), seconds, host_bound=True)
        for direction in ("h2d", "d2h")
    ]
    if not full:
        return tests
    tests += [
        Test(f"link.{direction}.pageable", "GB/s", _link(direction, 256 * _MIB, pinned=False), 1.5, host_bound=True)
        for direction in ("h2d", "d2h")
    ]
    tests.append(Test("link.both.pinned", "GB/s", _link("both", 256 * _MIB, pinned=True), 1.5, host_bound=True))
    sizes = [4096 << step for step in range(0, 18, 3)] + [512 * _MIB]
    for direction in ("h2d", "d2h"):
        parts = tuple(({"size_bytes": size}, _link(direction, size, pinned=True)) for size in sizes)
        tests.append(Test(f"link.{direction}.sizes", "GB/s", {}, 0.2 * len(parts), parts=parts, host_bound=True))
    pin = {"kind": "pin", "size_bytes": 256 * _MIB, "count": 4}
    tests.append(Test("link.pin", "GB/s", pin, 1.0, host_bound=True))
    if several_nodes:
        free, bound = {"kind": "bind", "node": None}, {"kind": "bind", "node": "own"}
        request = _link("h2d", 256 * _MIB, pinned=True)
        tests.append(Test("link.h2d.pinned.any_node", "GB/s", request, 1.5, host_bound=True, setup=free, undo=bound))
    return tests


def peer_tests(source: int, target: int, target_uuid: str, *, full: bool) -> list[Test]:
    """Copies from one GPU to another, and in a full run also both ways at once, and small ones, which show the latency."""
    base = {"kind": "peer", "source": source, "target": target, "size_bytes": PEER_BYTES, "direction": "to"}
    tests = [Test(f"link.p2p.{target_uuid}", "GB/s", base, 0.5 if full else 0.7)]
    if full:
        tests.append(Test(f"link.p2p.{target_uuid}.both", "GB/s", {**base, "direction": "both"}, 0.5))
        tests.append(Test(f"link.p2p.{target_uuid}.latency", "us", {**base, "size_bytes": 4096}, 0.2))
    return tests


def _launch(what: str, seconds: float) -> Test:
    host_bound = what in ("enqueue", "roundtrip")
    return Test(f"launch.{what}", "us", {"kind": "launch", "what": what}, seconds, host_bound=host_bound)


def _roofline(dtype: str, side: int, seconds: float) -> Test:
    """Products from one row to a square, so that the FLOP per byte grow from under one to over a thousand."""
    rows = [row for row in (1, 8, 32, 64, 128, 256, 512, side) if row <= side]
    parts = tuple(
        ({"m": m, "n": side, "k": side}, {"kind": "gemm", "dtype": dtype, "m": m, "n": side, "k": side, "fit": False})
        for m in rows
    )
    return Test("roofline", "TFLOP/s", {}, seconds, parts=parts, dtype=dtype)
