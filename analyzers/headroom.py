"""Headroom inside `busy`: how far the work was from what this very card was measured to do.

An estimate with a basis and a range, never part of the ledger. There are two bases, and otherwise there is none:

* `gpm`: the performance monitor's rates of the run over those of the profile's own sustained products and triad. Its rates are shares of
  cycles, so those of the SMs are multiplied by their clock: U = max(a f / (a* f*), d / d*), with a the share of the busiest kind of pipe (tensor, fp32, fp64;
  each against the profile's product that keeps it busy) and d the memory's.
* `energy`: a bound from above, for devices without a performance monitor. What was computed cost at least the energy above idle that the
  profile's products of zeros (and triad of zeros) cost, which is the least that this card needs: FLOP <= (E - P_idle T) / e_min. Power by itself says
  nothing of use: a fully used memory-bound card draws anything from half to all of its limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpucost.analyzers.arrays import floats, rows_of, times
from gpucost.analyzers.timeline import nominal_period_ns, widest_spacing_ns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpucost.analyzers.arrays import FloatArray, IntArray
    from gpucost.analyzers.model import Analysis
    from gpucost.bench.model import Profile, Result
    from gpucost.recording import Recording

TENSOR, FP32, FP64, DRAM = "tensor_active_pct", "fp32_active_pct", "fp64_active_pct", "dram_active_pct"
_WINDOW = "activity_window_ns"

LEAST_BUSY_PCT = 10.0
"""A pipe that the profile's product kept less busy than this is not what computed it (fp64 on a card whose tensor cores do it)."""

GPM_ERROR = 0.05
"""What is known of the method's error, for work like dense products; for other work nothing is."""

SENSOR_ERROR = 0.05
"""Allowed for the energy sensor: run and profile are read by the same one, so its gain cancels, and its drift does not."""

LEAST_COVERED = 0.5
"""Where the monitor covers less of the held time than this, it does not speak for the run."""

_LONGEST_WINDOW_NS = 1e10

GPM, ENERGY, NOTHING = "gpm", "energy", "none"


@dataclass(frozen=True, slots=True)
class Headroom:
    """How much of a card's measured ability a run used while it was busy.

    Attributes:
        gpu_uuid: the card.
        basis: `gpm`, `energy` or `none`.
        used: share of the ceiling (0 to 1) over the busy time, None where only a bound is known.
        low, high: its range; low is 0 for a bound.
        compute, memory: the two components: with `gpm` their means, with `energy` their upper bounds; None where not known.
        moved_gb: through the card's memory, as far as the monitor covers the run: its share over the triad's share, times the triad's rate, times
            time; None without one.
        why: why there is no figure, or what to know of it; one line.
    """

    gpu_uuid: str
    basis: str
    used: float | None = None
    low: float | None = None
    high: float | None = None
    compute: float | None = None
    memory: float | None = None
    moved_gb: float | None = None
    why: str = ""


def headroom(recording: Recording, analysis: Analysis, profiles: Mapping[str, Profile]) -> list[Headroom]:
    """The headroom of every held GPU, in the order of the analysis.

    Args:
        recording: the run.
        analysis: its figures.
        profiles: benchmark profiles by UUID; a profile of another card of the same model is not one of this card.
    """
    frame = recording.frames.get("gpu", pd.DataFrame())
    rows = rows_of(frame, "gpu_uuid")
    period_ns = nominal_period_ns(recording.manifest.recorder)
    found = []
    for uuid in analysis.gpus.index:
        profile = profiles.get(uuid)
        own = rows.get(uuid, np.zeros(0, np.int64))
        found.append(_of_gpu(str(uuid), analysis, profile, frame, own, period_ns))
    return found


def _of_gpu(
    uuid: str, analysis: Analysis, profile: Profile | None, frame: pd.DataFrame, rows: IntArray, period_ns: int | None
) -> Headroom:
    if profile is None:
        return Headroom(uuid, NOTHING, why="this card has no profile; `gpucost bench` makes one")
    busy_s = _ns(analysis, uuid, "busy_ns") / 1e9
    if busy_s <= 0:
        return Headroom(uuid, NOTHING, why="no kernel ran")
    monitored = _from_gpm(uuid, profile, frame, rows, period_ns, _ns(analysis, uuid, "held_ns"))
    if monitored is not None:
        return monitored
    return _from_energy(uuid, analysis, profile, busy_s, frame, rows)


def _ns(analysis: Analysis, uuid: str, column: str) -> float:
    row: dict[Any, Any] = analysis.gpus.loc[uuid].to_dict()
    return float(row[column])


# --- the performance monitor -------------------------------------------------------------------------------------------------------


def _from_gpm(
    uuid: str, profile: Profile, frame: pd.DataFrame, rows: IntArray, period_ns: int | None, held_ns: float
) -> Headroom | None:
    pipes, triad = _pipes(profile), _gpm_of(profile.ceiling("mem.triad"), DRAM)
    if TENSOR not in pipes or triad is None or not {TENSOR, DRAM} <= set(frame.columns):
        return None
    rows, length = _windows(frame, rows, period_ns)
    dram, clock, util = (
        floats(frame, name, rows, low=0, high=high)
        for name, high in ((DRAM, 100), ("sm_clock_mhz", 1e5), ("gpu_util_pct", 100))
    )
    busiest = np.zeros(len(rows))
    for pipe, calibration in pipes.items():
        share = floats(frame, pipe, rows, low=0, high=100) * clock / calibration
        busiest = np.maximum(busiest, share if pipe == TENSOR else np.nan_to_num(share))
    compute, memory = np.minimum(1.0, busiest), np.minimum(1.0, dram / triad)
    told = np.isfinite(compute) & np.isfinite(memory) & np.isfinite(util) & (length > 0)
    busy = float((util[told] / 100 * length[told]).sum())
    if busy <= 0 or length[told].sum() < LEAST_COVERED * held_ns:
        return None
    used, by_compute, by_memory = (
        min(1.0, float((one[told] * length[told]).sum()) / busy)
        for one in (np.maximum(compute, memory), compute, memory)
    )
    why = f"± {GPM_ERROR:.0%} holds for work like dense products; for other work the error is not known"
    low, high = max(0.0, used - GPM_ERROR), min(1.0, used + GPM_ERROR)
    rate = profile.ceiling("mem.triad")
    moved_gb = by_memory * busy / 1e9 * (rate.sustained or 0.0) if rate is not None else None
    return Headroom(uuid, GPM, used, low, high, by_compute, by_memory, moved_gb, why)


def _windows(frame: pd.DataFrame, rows: IntArray, period_ns: int | None) -> tuple[IntArray, FloatArray]:
    """The ticks in time order, and the time that the monitor's rates at each of them stand for: its own window, else the distance to the tick before."""
    t_ns, known = times(frame, "t_ns", rows)
    rows, t_ns = rows[known], t_ns[known]
    order = np.argsort(t_ns, kind="stable")
    rows, t_ns = rows[order], t_ns[order]
    widest = widest_spacing_ns(period_ns or (int(np.median(np.diff(t_ns))) if len(t_ns) > 1 else 0))
    spacing = np.clip(np.diff(t_ns, prepend=t_ns[:1]), 0, widest).astype(np.float64)
    window = floats(frame, _WINDOW, rows, low=0, high=_LONGEST_WINDOW_NS)
    return rows, np.where(np.isfinite(window), window, spacing)


def _pipes(profile: Profile) -> dict[str, float]:
    """Share times SM clock that the profile's products kept each kind of pipe at."""
    found = {}
    for pipe, product in (
        (TENSOR, _main_product(profile)),
        (FP32, profile.ceiling("gemm.fp32")),
        (FP64, profile.ceiling("gemm.fp64")),
    ):
        share = _gpm_of(product, pipe)
        clock = product.sm_clock_mhz.get("median") if product is not None and product.sm_clock_mhz else None
        if share is not None and clock and share >= LEAST_BUSY_PCT:
            found[pipe] = share * clock
    return found


def _gpm_of(result: Result | None, column: str) -> float | None:
    share = result.gpm.get(column) if result is not None and result.gpm else None
    return share or None


def _main_product(profile: Profile) -> Result | None:
    """The product that the profile's zeros and warm-up were made with: bf16, or else what has an energy floor, or else any."""
    names = [one.id.removeprefix("energy.floor.") for one in profile.results if one.id.startswith("energy.floor.")]
    for dtype in ("bf16", *names, *(one.dtype for one in profile.results if one.dtype)):
        found = profile.ceiling(f"gemm.{dtype}")
        if found is not None:
            return found
    return None


# --- energy ------------------------------------------------------------------------------------------------------------------------


def _from_energy(
    uuid: str, analysis: Analysis, profile: Profile, busy_s: float, frame: pd.DataFrame, rows: IntArray
) -> Headroom:
    product, idle = _main_product(profile), _idle_w(profile)
    floor = profile.result(f"energy.floor.{product.dtype}") if product is not None else None
    if product is None or floor is None or idle is None:
        why = "the profile has no energy floor; `gpucost bench --full` measures one, on a card that says what it draws"
        return Headroom(uuid, NOTHING, why=why)
    above_j = _above_idle_j(uuid, analysis, idle)
    if above_j is None:
        return Headroom(uuid, NOTHING, why="the run's energy is not known")
    clock = _busy_clock(frame, rows)
    compute = _bound(above_j, floor, product.sustained, 1e12, clock, busy_s)
    byte_floor, triad = profile.result("energy.floor.byte"), profile.ceiling("mem.triad")
    memory = None
    if byte_floor is not None and triad is not None:
        memory = _bound(above_j, byte_floor, triad.sustained, 1e9, clock, busy_s)
    if compute is None:
        return Headroom(uuid, NOTHING, why="the profile's energy floor is not usable")
    return _bounded(uuid, compute, memory, product.dtype or "")


def _bounded(uuid: str, compute: float, memory: float | None, dtype: str) -> Headroom:
    if memory is None:
        why = (
            f"of the card's {dtype} arithmetic only: a program that is bound by memory may be at its limit all the same"
        )
        return Headroom(uuid, ENERGY, None, 0.0, min(1.0, compute), compute, None, None, why)
    high = max(compute, memory)
    why = f"arithmetic counted as {dtype} products, memory as triad; all energy above idle is taken for the dearer of the two"
    if high >= 1:
        why = "the run drew enough energy to have used all of the card, so its energy says nothing"
    return Headroom(uuid, ENERGY, None, 0.0, min(1.0, high), compute, memory, None, why)


def _idle_w(profile: Profile) -> float | None:
    """The lower of the two idle powers: what is taken for idle less lets the bound be higher, which is the safe side."""
    found = [profile.result(name) for name in ("power.idle_no_ctx", "power.idle_ctx")]
    return min((one.sustained for one in found if one is not None and one.sustained is not None), default=None)


def _above_idle_j(uuid: str, analysis: Analysis, idle_w: float) -> float | None:
    """Energy of the run above idle, with what the sensor may have missed; None where it is not known for all of the held time."""
    if uuid not in analysis.energy_gpus.index:
        return None
    row: dict[Any, Any] = analysis.energy_gpus.loc[uuid].to_dict()
    energy_j, covered_ns, held_ns = float(row["energy_j"]), float(row["covered_ns"]), _ns(analysis, uuid, "held_ns")
    if not np.isfinite(energy_j) or not covered_ns >= 0.99 * held_ns:
        return None
    return max(0.0, energy_j * (1 + SENSOR_ERROR) - idle_w * covered_ns / 1e9)


def _busy_clock(frame: pd.DataFrame, rows: IntArray) -> float | None:
    """Lowest clock (5th percentile) at which kernels ran; None where it is not known."""
    util = floats(frame, "gpu_util_pct", rows, low=0, high=100)
    clock = floats(frame, "sm_clock_mhz", rows, low=0, high=1e5)
    working = clock[(util > 0) & np.isfinite(clock)]
    return float(np.percentile(working, 5)) if len(working) else None


def _bound(
    above_j: float, floor: Result, rate: float | None, scale: float, clock: float | None, busy_s: float
) -> float | None:
    """The most of a ceiling that an energy can have paid for.

    At a lower clock, work can cost less: energy per operation follows the square of the voltage, and the voltage falls at most as the clock does. So the
    floor is scaled by the square of the clocks' ratio; without clocks nothing is bounded.
    """
    least_pj = floor.ci95[0] if floor.ci95 else floor.sustained
    reference = floor.sm_clock_mhz.get("median") if floor.sm_clock_mhz else None
    if not least_pj or not rate or not clock or not reference:
        return None
    least_pj *= min(1.0, clock / reference) ** 2
    return above_j / (least_pj * 1e-12) / (rate * scale * busy_s)
