"""Plans with fixed small sizes: they have every kind of test, and take a second."""

from gpucost.bench.plan import Plan, Test
from gpucost.bench.statistics import SteadyLimits

SECONDS = 0.03
WINDOW_S = 0.002
KIB = 1 << 10


def gemm(dtype, n=32, *, data="randn", name=None):
    request = {"kind": "gemm", "dtype": dtype, "m": n, "n": n, "k": n, "floor": 16, "data": data, "fit": False}
    unit = "TOP/s" if dtype == "int8" else "TFLOP/s"
    return Test(name or f"gemm.{dtype}", unit, request, SECONDS, dtype=dtype)


def memory(operation):
    return Test(
        f"mem.{operation}",
        "GB/s",
        {"kind": "memory", "operation": operation, "array_bytes": 64 * KIB, "exact": True},
        SECONDS,
    )


def launch(what):
    return Test(f"launch.{what}", "us", {"kind": "launch", "what": what}, SECONDS, host_bound=True)


def link(direction, *, pinned=True):
    request = {"kind": "link", "direction": direction, "size_bytes": 64 * KIB, "pinned": pinned}
    return Test(f"link.{direction}.{'pinned' if pinned else 'pageable'}", "GB/s", request, SECONDS, host_bound=True)


def products(dtype, shapes, name):
    parts = tuple(
        ({"m": m, "n": n, "k": k}, {"kind": "gemm", "dtype": dtype, "m": m, "n": n, "k": k, "fit": False})
        for m, n, k in shapes
    )
    return Test(name, "TFLOP/s", {}, SECONDS * len(parts), parts=parts, dtype=dtype)


PIN = Test("link.pin", "GB/s", {"kind": "pin", "size_bytes": 4096, "count": 3}, SECONDS)


def cpu(mode="quick"):
    tests = [gemm("fp32"), gemm("fp64"), *map(memory, ("triad", "copy", "read", "write")), launch("enqueue")]
    return Plan(mode=mode, kind="cpu", dtypes=("fp32", "fp64"), tests=tuple(tests), window_s=WINDOW_S)


def device(mode="quick", dtypes=("bf16", "fp32", "int8")):
    """Everything that a full plan has, small."""
    tests = [gemm(dtype) for dtype in dtypes]
    tests += [
        products("bf16", [(64, 64, 64), (32, 64, 32)], "gemm.bf16.shapes"),
        gemm("bf16", data="zeros", name="gemm.bf16.zeros"),
        *map(memory, ("triad", "copy", "read", "write")),
        *(link(way) for way in ("h2d", "d2h", "both")),
        link("h2d", pinned=False),
        PIN,
        *map(launch, ("enqueue", "throughput", "roundtrip", "graph_node")),
        products("bf16", [(1, 64, 64), (8, 64, 64), (32, 64, 64), (64, 64, 64), (128, 64, 64)], "roofline"),
    ]
    return Plan(
        mode=mode,
        kind="device",
        dtypes=(*dtypes, "fp64"),
        tests=tuple(tests),
        look_s=0.3,
        idle_s=0.3,
        warm_up=gemm("bf16"),
        warm_up_s=0.3,
        warm_up_step_s=0.05,
        repeats=("gemm.bf16", "mem.triad"),
        repeat_s=SECONDS,
        best_s=SECONDS,
        window_s=WINDOW_S,
        steady=SteadyLimits(span_s=0.1),
    )


def tiny(mode="quick"):
    """One product, one stream, one copy, one launch."""
    tests = (gemm("bf16"), memory("triad"), link("h2d"), launch("throughput"), PIN)
    return Plan(
        mode=mode,
        kind="device",
        dtypes=("bf16",),
        tests=tests,
        look_s=0.1,
        idle_s=0.1,
        warm_up=gemm("bf16"),
        warm_up_s=0.1,
        warm_up_step_s=0.05,
        window_s=WINDOW_S,
        steady=SteadyLimits(span_s=0.05),
    )


PLANS = {"cpu": cpu, "device": device, "tiny": tiny}
