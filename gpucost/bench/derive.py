"""What follows from several results together: ceilings, power and energy figures, the power model of the roofline. Pure functions."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from gpucost.bench.model import EMULATED, PowerModel, Result
from gpucost.bench.statistics import summarize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpucost.schema import GpuRow

EMULATED_BELOW = 0.25
"""A dtype slower than this share of fp32 is computed by something that was not made for it."""

_BF16_SINCE = (8, 0)
_NATIVE_BY_DESIGN = ("fp64",)  # many parts do fp64 at a 32nd or 64th of fp32, in hardware
_MIN_POINTS = 4
_CAPPED = 0.5
_SAMPLE_S = 0.05


def flag_emulated(results: Sequence[Result], compute_capability: str | None) -> None:
    """Flag dtypes that the device has no hardware for. Changes the results."""
    by_id = {one.id: one for one in results}
    fp32 = by_id.get("gemm.fp32")
    for one in results:
        if not one.id.startswith("gemm.") or one.dtype is None or one.sustained is None or EMULATED in one.flags:
            continue
        slow = fp32 is not None and bool(fp32.sustained) and one.sustained < EMULATED_BELOW * (fp32.sustained or 0.0)
        old = one.dtype == "bf16" and compute_capability is not None and _version(compute_capability) < _BF16_SINCE
        if old or (slow and one.dtype not in _NATIVE_BY_DESIGN):
            one.flags.append(EMULATED)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return (int(major), int(minor or 0)) if major.isdecimal() and (minor or "0").isdecimal() else (0, 0)


def ceilings(results: Sequence[Result]) -> dict[str, Any]:
    """The figures of those results that may be ceilings, by what they limit; null where there is none."""
    good = {one.id: one for one in results if one.ceiling and one.sustained is not None}
    gemm: dict[str, float] = {}
    for one in good.values():
        parts = one.id.split(".")
        if parts[0] == "gemm" and one.dtype is not None and (len(parts) == 2 or parts[2:] == ["best"]):  # noqa: PLR2004
            gemm[one.dtype] = max(gemm.get(one.dtype, 0.0), one.sustained or 0.0)
    streams = {
        name: good[name].sustained for name in ("mem.triad", "mem.copy", "mem.read", "mem.write") if name in good
    }
    best = max(streams, key=lambda name: streams[name] or 0.0, default=None)
    peers = {
        name.split(".", 2)[2]: one.sustained
        for name, one in good.items()
        if name.startswith("link.p2p.") and one.unit == "GB/s"
    }
    return {
        "gemm_tflops": gemm,
        "dram_gb_s": None if best is None else streams[best],
        "dram_test": best,
        "cache_gb_s": _value(good, "mem.triad.cache"),
        "h2d_gb_s": _value(good, "link.h2d.pinned"),
        "d2h_gb_s": _value(good, "link.d2h.pinned"),
        "p2p_gb_s": {name: value for name, value in peers.items() if not name.endswith(".both")},
        "launch_us": {
            name: _value(good, f"launch.{name}") for name in ("enqueue", "throughput", "roundtrip", "graph_node")
        },
    }


def _value(results: Mapping[str, Result], name: str) -> float | None:
    found = results.get(name)
    return None if found is None else found.sustained


# --- power and energy --------------------------------------------------------------------------------------------------------------


def idle_power(name: str, rows: Sequence[GpuRow]) -> Result | None:
    """Power while nothing runs, from samples in time order; None where power is not known."""
    power = [row.power_w for row in rows if row.power_w is not None]
    if not power:
        return None
    return _figure(name, "W", power, len(rows))


def _figure(name: str, unit: str, values: Sequence[float], n: int) -> Result:
    summary = summarize(values, _SAMPLE_S)
    return Result(
        id=name,
        unit=unit,
        n=n,
        n_clean=n,
        sustained=summary.median,
        burst=summary.p95,
        median=summary.median,
        p5=summary.p5,
        p95=summary.p95,
        mad=summary.mad,
        rel_iqr=summary.rel_iqr,
        drift=summary.drift,
        ci95=None if summary.ci95 is None else list(summary.ci95),
        block_s=None if summary.ci95 is None else summary.block_windows * _SAMPLE_S,
        window_s=_SAMPLE_S,
        time_s=n * _SAMPLE_S,
    )


def loaded_power(source: Result, name: str) -> Result | None:
    """Power under a test, from that test's telemetry."""
    if source.power_w is None or not source.valid:
        return None
    middle = source.power_w["median"]
    return Result(
        id=name,
        unit="W",
        n=source.n,
        sustained=middle,
        median=middle,
        burst=source.power_w["max"],
        time_s=source.time_s,
    )


def energy(source: Result, name: str, unit: str) -> Result | None:
    """Energy per unit of work of a test, with the interval that the sensor's resolution leaves."""
    if source.energy_pj is None or source.energy_error is None or not source.valid:
        return None
    value, error = source.energy_pj, source.energy_error
    return Result(
        id=name,
        unit=unit,
        dtype=source.dtype,
        n=source.n,
        sustained=value,
        median=value,
        ci95=[value * (1 - error), value * (1 + error)],
        energy_basis=source.energy_basis,
        energy_error=error,
        time_s=source.time_s,
        sm_clock_mhz=source.sm_clock_mhz,
    )


def energy_floor(zeros: Result, idle_w: float | None, name: str, unit: str) -> Result | None:
    """The least energy above idle that a FLOP or a byte costs on this device: zeros toggle next to nothing.

    (power - idle power with a context) / rate; the idle part is left out, because it is paid whether or not anything is done.
    """
    found = energy(zeros, name, unit)
    if found is None or idle_w is None or zeros.energy_j is None or not zeros.time_s or not zeros.work:
        return None
    above_j = zeros.energy_j - idle_w * zeros.time_s
    if above_j <= 0:
        return None
    value, error = above_j / zeros.work * 1e12, zeros.energy_error or 0.0
    found.sustained = found.median = value
    found.ci95 = [value * (1 - error), value * (1 + error)]
    return found


def all_power(results: Mapping[str, Result], main: str | None) -> list[Result]:
    """Power and energy figures that follow from the tests."""
    products = [one for one in results.values() if one.id == f"gemm.{one.dtype}"]
    found = [energy(one, f"energy.per_flop.{one.dtype}", "pJ/FLOP") for one in products]
    if main is not None and f"gemm.{main}" in results:
        found.append(loaded_power(results[f"gemm.{main}"], f"power.gemm.{main}"))
    if "mem.triad" in results:
        found.append(loaded_power(results["mem.triad"], "power.triad"))
        found.append(energy(results["mem.triad"], "energy.per_byte", "pJ/B"))
    idle = results.get("power.idle_ctx")
    for zeros, name, unit in (
        (f"gemm.{main}.zeros", f"energy.floor.{main}", "pJ/FLOP"),
        ("mem.triad.zeros", "energy.floor.byte", "pJ/B"),
    ):
        if zeros in results:
            found.append(loaded_power(results[zeros], zeros.replace("gemm", "power.gemm").replace("mem", "power")))
            found.append(energy_floor(results[zeros], None if idle is None else idle.sustained, name, unit))
    return [one for one in found if one is not None]


def power_model(roofline: Result | None) -> PowerModel | None:
    """Fit power over the two rates of the roofline's points; None with fewer than four points, or where the fit makes no physical sense.

    Points at which the power limit held the clock down for half the time are left out: there power is the limit's, not the rates'.
    """
    if roofline is None or roofline.dtype is None:
        return None
    known = [
        one
        for one in roofline.points or []
        if {"power_w", "moved_gb_s", "sustained"} <= one.keys() and not one.get("flags")
    ]
    free = [one for one in known if one.get("power_capped", 0.0) < _CAPPED]
    if len(free) < _MIN_POINTS:
        return None
    power = np.array([one["power_w"] for one in free], dtype=float)
    rates = np.array([[1.0, one["moved_gb_s"] * 1e9, one["sustained"] * 1e12] for one in free])
    scale = rates.max(axis=0)
    solution = np.linalg.lstsq(rates / scale, power, rcond=None)[0] / scale
    if (solution < 0).any():
        return None
    held = [one["power_w"] for one in known if one not in free]
    return PowerModel(
        p0_w=float(solution[0]),
        pj_per_byte=float(solution[1]) * 1e12,
        pj_per_flop=float(solution[2]) * 1e12,
        dtype=roofline.dtype,
        mape=float(np.mean(np.abs(rates @ solution / power - 1))),
        points=len(free),
        below_w=float(min(held)) if held else None,
    )


def outliers(values: Mapping[str, tuple[float, tuple[float, float] | None]]) -> list[str]:
    """Devices of one model and power limit that are slower than their best neighbour by more than 5 % and by more than three times their own interval.

    Args:
        values: device to its rate and interval; all of one model under one power limit.
    """
    if len(values) < 2:  # noqa: PLR2004
        return []
    best = max(value for value, _ in values.values())
    found = []
    for name, (value, interval) in values.items():
        width = (interval[1] - interval[0]) / 2 if interval else 0.0
        if value < 0.95 * best and best - value > 3 * width:
            found.append(name)
    return found


def together(isolated: Result, concurrent: Result) -> Result | None:
    """How much of its own rate a device keeps while all devices of the host are under the same test."""
    if not (isolated.valid and concurrent.valid and isolated.sustained and concurrent.sustained):
        return None
    value = concurrent.sustained / isolated.sustained
    return Result(
        id=f"concurrent.{isolated.id}",
        unit="ratio",
        dtype=isolated.dtype,
        n=concurrent.n,
        sustained=value,
        median=value,
        concurrent=True,
    )


def middle(rows: Sequence[GpuRow], column: str) -> float | None:
    """Median of a column of the telemetry, or None."""
    present = [value for row in rows if (value := getattr(row, column)) is not None]
    return float(median(present)) if present else None
