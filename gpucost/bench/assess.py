"""From windows and telemetry to a result: statistics, efficiency, clocks, power, energy, and the gates that one test can fail by itself. Pure functions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from gpucost.bench import gates
from gpucost.bench.model import DRIFTED, FEW_WINDOWS, GATES, OK, UNSTABLE, Result
from gpucost.bench.statistics import MIN_WINDOWS, summarize
from gpucost.schema import GpuRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpucost.bench.book import Peaks
    from gpucost.bench.model import Window
    from gpucost.bench.plan import Test
    from gpucost.bench.supervisor import Reply

_STABLE_DEVICE = (0.02, 0.01)  # relative interquartile range, drift
_STABLE_CPU = (0.10, 0.05)
DRIFT_IN_RUN = 0.03
_SCALE = {"TFLOP/s": 1e12, "TOP/s": 1e12, "GB/s": 1e9}
_TIMES = ("us",)
_BURST_S = 1.0
_SAMPLE_S = 0.05  # distance of two samples of the telemetry: what the ends of an energy reading are uncertain by

# NVML's clock-event reasons (nvml.h, nvmlClocksEventReason*). GpuIdle is no throttle; a power cap is a card's normal state under load.
REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "hw_power_brake",
    0x100: "display_clocks",
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was known around one test.

    Attributes:
        device: a device, not the CPU.
        peaks: of the book.
        rows: telemetry from the first window's start to the last one's end.
        pressure: share of the time in which some task of the host waited for a core, or None.
        warm_up: windows of the same kernel from the warm-up, if it was this test's kernel that warmed up.
        power_is_ours: the power that is sampled is this device's alone (false for MIG: it is the whole GPU's).
        concurrent: other devices were under test at the same time.
    """

    device: bool
    peaks: Peaks
    rows: Sequence[GpuRow] = ()
    pressure: float | None = None
    warm_up: Sequence[Window] = field(default=())
    power_is_ours: bool = True
    concurrent: bool = False


def rate(window: Window, unit: str) -> float:
    """A window in its unit: work per time, or for `us` the time of one launch."""
    if unit in _TIMES:
        return window.duration_ns / 1e3 / window.iters
    return window.work / (window.duration_ns / 1e9) / _SCALE[unit]


def result(test: Test, reply: Reply, around: Surroundings) -> Result:
    """Everything that one test found."""
    found = Result(
        id=test.id,
        unit=test.unit,
        status=reply.status,
        message=reply.message,
        dtype=test.dtype,
        concurrent=around.concurrent,
    )
    if reply.status != OK:
        return found
    windows = reply.windows
    _describe(found, test, reply)
    _statistics(found, windows, around)
    _telemetry(found, around.rows)
    _energy(found, around)
    _efficiency(found, around)
    if around.device:
        found.host_share = host_share(windows) if test.request.get("kind") in ("gemm", "memory") else None
        found.flags += gates.disturbed_device(found.host_share, host_bound=test.host_bound, pressure=around.pressure)
    else:
        found.flags += gates.disturbed_cpu(found.n_clean)
    found.flags += gates.numerics(test.dtype or "stream", reply.data.get("errors", {}))
    found.flags += gates.plausible(
        found.sustained or 0.0, _limit(test, around), slow_by_nature=_is_slow_by_nature(test)
    )
    return found


def _is_slow_by_nature(test: Test) -> bool:
    """Shapes that are chosen to be slow: skinny products and small arrays."""
    return test.request.get("fit") is False or bool(test.request.get("exact"))


def _describe(found: Result, test: Test, reply: Reply) -> None:
    found.shape = reply.data.get("shape")
    found.data = test.request.get("data")
    found.precision = reply.data.get("precision")
    found.footprint_bytes = reply.data.get("footprint_bytes")
    errors = reply.data.get("errors", {})
    found.error_fp64, found.error_freivalds = errors.get("error_fp64"), errors.get("error_freivalds")


def _statistics(found: Result, windows: Sequence[Window], around: Surroundings) -> None:
    rates = [rate(window, found.unit) for window in windows]
    clean = [value for value, window in zip(rates, windows, strict=True) if window.clean]
    found.window_s = median(window.duration_ns for window in windows) / 1e9
    found.n, found.n_clean = len(rates), len(clean)
    used = rates if around.device or len(clean) < gates.MIN_CLEAN else clean
    whole, steady = summarize(rates, found.window_s), summarize(used, found.window_s)
    found.median, found.p5, found.p95 = whole.median, whole.p5, whole.p95
    found.mad, found.rel_iqr, found.drift = steady.mad, steady.rel_iqr, steady.drift
    found.sustained = steady.median
    found.ci95 = None if steady.ci95 is None else list(steady.ci95)
    found.block_s = None if steady.ci95 is None else steady.block_windows * found.window_s
    found.burst = _burst(found, whole.p5 if found.unit in _TIMES else whole.p95, around.warm_up)
    found.work = sum(window.work for window in windows)
    found.time_s = sum(window.duration_ns for window in windows) / 1e9
    iqr, drifting = _STABLE_DEVICE if around.device else _STABLE_CPU
    if found.rel_iqr > iqr or abs(found.drift or 0.0) > drifting:
        found.flags.append(UNSTABLE)
    if len(used) < MIN_WINDOWS:
        found.flags.append(FEW_WINDOWS)


def _burst(found: Result, best: float, warm_up: Sequence[Window]) -> float:
    """The 95th percentile of the windows, or of the kernel's first second from cold where that is better."""
    if not warm_up:
        return best
    first_ns = warm_up[0].end_ns - warm_up[0].duration_ns
    early = [rate(one, found.unit) for one in warm_up if one.end_ns - first_ns <= _BURST_S * 1e9]
    return max(best, float(np.percentile(early, 95))) if early else best


def host_share(windows: Sequence[Window]) -> float | None:
    """Device time over the time from the first window's start to the last one's end; None for a single window.

    Windows are queued back to back, so what is missing is time in which the device waited for its host.
    """
    if len(windows) < 2:  # noqa: PLR2004
        return None
    span_ns = windows[-1].end_ns - windows[0].end_ns
    return min(1.0, sum(one.duration_ns for one in windows[1:]) / span_ns) if span_ns > 0 else None


def span(windows: Sequence[Window]) -> tuple[int, int]:
    """From the first window's start to the last one's end, on the monotonic clock."""
    return windows[0].end_ns - windows[0].duration_ns, windows[-1].end_ns


# --- telemetry ---------------------------------------------------------------------------------------------------------------------


def _telemetry(found: Result, rows: Sequence[GpuRow]) -> None:
    clocks = _present(rows, "sm_clock_mhz")
    if clocks:
        found.sm_clock_mhz = {"min": min(clocks), "median": float(median(clocks)), "max": max(clocks)}
    memory = _present(rows, "memory_clock_mhz")
    found.memory_clock_mhz = float(median(memory)) if memory else None
    power = _present(rows, "power_w")
    if power:
        found.power_w = {"median": float(median(power)), "max": max(power)}
    temperatures = _present(rows, "temperature_c")
    if temperatures:
        found.temperature_c = {"start": temperatures[0], "end": temperatures[-1]}
    found.reasons = reasons(rows)
    found.gpm = _gpm(rows)


def _present(rows: Sequence[GpuRow], column: str) -> list[float]:
    return [value for row in rows if (value := getattr(row, column)) is not None]


def reasons(rows: Sequence[GpuRow]) -> dict[str, float] | None:
    """Share of the samples in which each clock-event reason held; None where no sample says."""
    bits = [row.clocks_event_reasons for row in rows if row.clocks_event_reasons is not None]
    if not bits:
        return None
    shares = {name: sum(1 for one in bits if one & bit) / len(bits) for bit, name in REASONS.items()}
    return {name: share for name, share in shares.items() if share > 0}


def _gpm(rows: Sequence[GpuRow]) -> dict[str, float] | None:
    """Medians of the performance monitor's shares of cycles, where the device has one."""
    columns = [name for name in GpuRow._fields if name.endswith("_active_pct")]
    found = {name: float(median(values)) for name in columns if (values := _present(rows, name))}
    return found or None


def _energy(found: Result, around: Surroundings) -> None:
    """Energy over the windows: mean power, from the counter or else from instantaneous power, times the time that they cover."""
    if not around.power_is_ours:
        return
    reading = counter_power(around.rows)
    basis = "counter"
    if reading is None:
        reading, basis = integrated_power(around.rows), "integrated"
    if reading is None or not found.time_s:
        return
    power_w, covered_s = reading
    found.energy_j, found.energy_basis = power_w * found.time_s, basis
    found.energy_error = 2 * _SAMPLE_S / covered_s
    if found.work:
        found.energy_pj = found.energy_j / found.work * 1e12


def counter_power(rows: Sequence[GpuRow]) -> tuple[float, float] | None:
    """Mean power from the energy counter, and the seconds it covers.

    The counter moves in steps of about 100 ms, so only its edges are used: from the first sample with a new reading to the last one.
    """
    edges = [
        (after.mono_ns, after.energy_j)
        for before, after in itertools.pairwise(rows)
        if before.energy_j is not None and after.energy_j is not None and after.energy_j > before.energy_j
    ]
    if len(edges) < 2:  # noqa: PLR2004
        return None
    seconds = (edges[-1][0] - edges[0][0]) / 1e9
    return (edges[-1][1] - edges[0][1]) / seconds, seconds


def integrated_power(rows: Sequence[GpuRow]) -> tuple[float, float] | None:
    """Mean of the instantaneous power over time (trapezoids), and the seconds it covers."""
    points = [(row.mono_ns / 1e9, row.power_w) for row in rows if row.power_w is not None]
    if len(points) < 2:  # noqa: PLR2004
        return None
    area = sum((t1 - t0) * (p0 + p1) / 2 for (t0, p0), (t1, p1) in itertools.pairwise(points))
    seconds = points[-1][0] - points[0][0]
    return (area / seconds, seconds) if seconds > 0 else None


# --- efficiency --------------------------------------------------------------------------------------------------------------------


def _efficiency(found: Result, around: Surroundings) -> None:
    sustained, peaks = found.sustained, around.peaks
    if sustained is None:
        return
    if found.unit == "GB/s" and found.id.startswith("mem.") and "cache" not in found.id and peaks.dram_gb_s:
        found.efficiency_book = sustained / peaks.dram_gb_s
    if found.unit not in ("TFLOP/s", "TOP/s") or found.dtype is None:
        return
    measured = found.sm_clock_mhz["median"] if found.sm_clock_mhz else None
    found.efficiency_book = _share(sustained, peaks.tflops.get(found.dtype))
    found.efficiency_max_clock = _share(sustained, peaks.at(found.dtype, peaks.max_clock_mhz))
    found.efficiency_measured_clock = _share(sustained, peaks.at(found.dtype, measured))


def _share(value: float, of: float | None) -> float | None:
    return value / of if of else None


def _limit(test: Test, around: Surroundings) -> float | None:
    """The most that a test can reach, in its unit; None where the book does not say."""
    if test.dtype is not None and test.unit in ("TFLOP/s", "TOP/s"):
        return around.peaks.limit(test.dtype)
    if test.request.get("kind") == "memory" and not test.request.get("exact"):
        return around.peaks.dram_gb_s
    return None


def repeated(found: Result, again: Result) -> None:
    """Put a repetition at the end of the run beside the first figure; a large difference is flagged, and the interval takes both in."""
    if not (found.valid and again.valid and found.sustained and again.sustained):
        return
    found.repeat = again.sustained
    if abs(again.sustained / found.sustained - 1) > DRIFT_IN_RUN:
        found.flags.append(DRIFTED)
        low, high = found.ci95 or (found.sustained, found.sustained)
        found.ci95 = [min(low, again.sustained), max(high, again.sustained)]


def sweep(test: Test, replies: Sequence[tuple[dict[str, Any], Reply]], points: Sequence[Result]) -> Result:
    """One result of the points of a sweep; each point keeps its rate, its interval, its status and what the telemetry said."""
    whole = Result(id=test.id, unit=test.unit, dtype=test.dtype)
    good = [one for one in points if one.status == OK]
    whole.status = OK if good else (points[0].status if points else OK)
    whole.message = None if good else (points[0].message if points else None)
    flags = {flag for one in good for flag in one.flags if flag in GATES}
    whole.flags = sorted(flags)
    whole.points = [_point(facts, reply, one) for (facts, reply), one in zip(replies, points, strict=True)]
    whole.n = sum(one.n for one in good)
    whole.time_s = sum(one.time_s or 0.0 for one in good)
    return whole


def _point(facts: dict[str, Any], reply: Reply, one: Result) -> dict[str, Any]:
    point = {
        **facts,
        "status": one.status,
        "flags": one.flags,
        "sustained": one.sustained,
        "ci95": one.ci95,
        "footprint_bytes": one.footprint_bytes or facts.get("footprint_bytes"),
        "message": one.message,
    }
    if one.dtype is not None and one.sustained and reply.data.get("shape"):
        point["moved_gb_s"] = _moved_gb_s(one)
    if one.power_w:
        point["power_w"] = one.power_w["median"]
    if one.sm_clock_mhz:
        point["sm_clock_mhz"] = one.sm_clock_mhz["median"]
    if one.reasons:
        point["power_capped"] = one.reasons.get("sw_power_cap", 0.0)
    return {name: value for name, value in point.items() if value is not None and value != []}


def _moved_gb_s(one: Result) -> float:
    """Bytes a second that a product moves at least: each operand once in, the output once out."""
    m, n, k = one.shape or (0, 0, 0)
    size = {"fp64": 8, "fp32": 4, "tf32": 4, "int8": 1, "fp8_e4m3": 1}.get(one.dtype or "", 2)
    out = {"int8": 4, "fp8_e4m3": 2}.get(one.dtype or "", size)
    return (one.sustained or 0.0) * 1e12 * (size * (m * k + n * k) + out * m * n) / (2.0 * m * n * k) / 1e9
