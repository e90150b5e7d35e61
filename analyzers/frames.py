"""The frames of an analysis, from what each GPU adds to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gpucost.analyzers.arrays import strings, table
from gpucost.analyzers.energy import ACTIVE, ENERGY, FOREIGN, IDLE, KNOWN_NS
from gpucost.analyzers.model import NO_STAGE, USES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from gpucost.analyzers.arrays import FloatArray, IntArray
    from gpucost.analyzers.energy import Energy
    from gpucost.analyzers.precision import Edges
    from gpucost.analyzers.quality import Unknown
    from gpucost.analyzers.slow import Slow
    from gpucost.analyzers.stages import Spans


@dataclass(frozen=True, slots=True)
class GpuResult:
    """What one GPU adds to the frames.

    Attributes:
        uuid: of the GPU.
        held_ns: how long the run held it.
        period_ns: its sampling period.
        cube: nanoseconds by stage path (no stage last) and use.
        joules: by stage path (no stage last): all, active, idle, foreign, and the nanoseconds they stand for.
        energy: of the whole GPU.
        summary: means and peaks.
        timeline: means in every bucket.
        holding_basis: what says whether the run holds it.
        unknown: its unknown time.
        stretches: use, starts and ends of its idle and empty stretches.
        notes: what a reader must know.
        resolution_ns: how finely its energy is known in time; None where nothing is known of it.
        edges: what that leaves open at the edges of the stages.
        slow: why it was slow.
    """

    uuid: str
    held_ns: int
    period_ns: int
    cube: IntArray
    joules: FloatArray
    energy: Energy
    summary: dict[str, Any]
    timeline: dict[str, Any]
    holding_basis: str
    unknown: Unknown
    stretches: list[tuple[int, IntArray, IntArray]]
    notes: list[str]
    resolution_ns: int | None
    edges: Edges
    slow: Slow


def gpus(results: Sequence[GpuResult]) -> pd.DataFrame:
    """`Analysis.gpus`."""
    by_use = np.stack([r.cube.sum(axis=0) for r in results]) if results else np.zeros((0, len(USES)), np.int64)
    held = np.array([r.held_ns for r in results], np.int64)
    known = held - by_use[:, USES.index("unknown")]
    with np.errstate(invalid="ignore"):
        coverage = known / held
    measured = {name: np.array([r.summary[name] for r in results], np.float64) for name in _MEASURED}
    return table(
        {
            "gpu_uuid": [r.uuid for r in results],
            "held_ns": held,
            **{f"{use}_ns": by_use[:, place] for place, use in enumerate(USES)},
            "coverage": coverage,
            **measured,
            "samples": np.array([r.summary["samples"] for r in results], np.int64),
            "holding_basis": [r.holding_basis for r in results],
            "longest_gap_ns": np.array([r.unknown.longest_ns for r in results], np.int64),
            "gaps": np.array([r.unknown.gaps for r in results], np.int64),
        },
        index="gpu_uuid",
    )


_MEASURED = ("util_mean_pct", "memory_peak_bytes", "power_mean_w", "power_max_w", "temperature_max_c")


def energy(results: Sequence[GpuResult], spans: Spans) -> pd.DataFrame:
    """`Analysis.energy`: a row for every stage path that had time or energy of a GPU."""
    texts = [*(path.text for path in spans.paths), NO_STAGE]
    rows = [np.flatnonzero((r.cube.sum(axis=1) > 0) | (r.joules[:, KNOWN_NS] > 0)) for r in results]
    joules = np.concatenate([np.zeros((0, 5)), *(r.joules[some] for r, some in zip(results, rows, strict=True))])
    gpu = np.repeat(np.arange(len(results)), [len(some) for some in rows])
    return table(
        {
            "gpu_uuid": strings([r.uuid for r in results], gpu),
            "stage_path": strings(texts, np.concatenate([np.zeros(0, np.int64), *rows])),
            "energy_j": joules[:, ENERGY],
            "active_j": joules[:, ACTIVE],
            "idle_j": joules[:, IDLE],
            "foreign_j": joules[:, FOREIGN],
        }
    )


def energy_gpus(results: Sequence[GpuResult]) -> pd.DataFrame:
    """`Analysis.energy_gpus`."""
    energies = [r.energy for r in results]
    return table(
        {
            "gpu_uuid": [r.uuid for r in results],
            "energy_j": np.array([e.energy_j for e in energies], np.float64),
            "counter_j": np.array([e.counter_j for e in energies], np.float64),
            "integral_j": np.array([e.integral_j for e in energies], np.float64),
            "basis": [e.basis for e in energies],
            "difference_pct": np.array([e.difference_pct for e in energies], np.float64),
            "idle_power_w": np.array([e.idle_power_w for e in energies], np.float64),
            "idle_power_basis": [e.idle_power_basis for e in energies],
            "covered_ns": np.array([e.covered_ns for e in energies], np.int64),
        },
        index="gpu_uuid",
    )


def timeline(results: Sequence[GpuResult]) -> pd.DataFrame:
    """`Analysis.timeline`."""
    columns = ("bucket", "start_ns", "end_ns", "util_pct", "power_w", "memory_used_bytes")
    kinds = (np.int64, np.int64, np.int64, np.float64, np.float64, np.float64)
    sizes = [len(r.timeline["bucket"]) for r in results]
    uuids = strings([r.uuid for r in results], np.repeat(np.arange(len(results)), sizes))
    joined = {
        name: np.concatenate([np.zeros(0, kind), *(r.timeline[name] for r in results)])
        for name, kind in zip(columns, kinds, strict=True)
    }
    return table({"gpu_uuid": uuids, **joined})


def unknown_intervals(results: Sequence[GpuResult]) -> pd.DataFrame:
    """`Analysis.unknown_intervals`."""
    sizes = [len(r.unknown.reason) for r in results]
    return table(
        {
            "gpu_uuid": strings([r.uuid for r in results], np.repeat(np.arange(len(results)), sizes)),
            "start_ns": _joined([r.unknown.start_ns for r in results]),
            "end_ns": _joined([r.unknown.end_ns for r in results]),
            "reason": [reason for r in results for reason in r.unknown.reason],
        }
    )


def idle_intervals(results: Sequence[GpuResult]) -> pd.DataFrame:
    """`Analysis.idle_intervals`, in order of time for each GPU."""
    found = [
        (r.uuid, USES[use], start, end)
        for r in results
        for start, end, use in sorted(
            (start, end, use)
            for use, *spans in r.stretches
            for start, end in zip(*(s.tolist() for s in spans), strict=True)
        )
    ]
    return table(
        {
            "gpu_uuid": [uuid for uuid, _, _, _ in found],
            "use": [use for _, use, _, _ in found],
            "start_ns": np.array([start for _, _, start, _ in found], np.int64),
            "end_ns": np.array([end for _, _, _, end in found], np.int64),
        }
    )


def _joined(parts: Sequence[IntArray]) -> IntArray:
    return np.concatenate([np.zeros(0, np.int64), *parts])
