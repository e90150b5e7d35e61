"""All analyses of one run, in order: timeline, holding, uses, stages, energy, utilization."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpucost.analyzers import energy as energies
from gpucost.analyzers import frames, host, ledger, precision, quality, slow, utilization
from gpucost.analyzers.activity import Leaves, read_leaves, weigh
from gpucost.analyzers.arrays import FloatArray, IntArray, Rows, distinct_texts, rows_of, table, truths
from gpucost.analyzers.finer import refine
from gpucost.analyzers.frames import GpuResult
from gpucost.analyzers.holding import judge, read_polls
from gpucost.analyzers.model import Analysis, Settings
from gpucost.analyzers.segments import Segments, cut
from gpucost.analyzers.sharing import share, share_exactly
from gpucost.analyzers.stages import Spans, read_spans
from gpucost.analyzers.timeline import bridge, nominal_period_ns, partition, period_of, read_ticks
from gpucost.analyzers.uses import EMPTY, IDLE, classify, durations

if TYPE_CHECKING:
    from gpucost.analyzers.holding import Holding
    from gpucost.analyzers.timeline import Partition, Ticks
    from gpucost.manifest import Gpu
    from gpucost.recording import Recording

_WORTH_THREADS_ROWS = 200_000
_THREADS = 2
_NO_ROWS = np.zeros(0, np.int64)


@dataclass(slots=True)
class _Run:
    """What is the same for every GPU of a run."""

    recording: Recording
    settings: Settings
    end_ns: int
    period_ns: int | None
    spans: Spans
    leaves: Leaves
    bounds: IntArray
    gpu: pd.DataFrame
    gpu_process: pd.DataFrame
    gpu_sample: pd.DataFrame
    rows: Rows
    sample_rows: Rows
    process_rows: Rows
    visible_hosts: set[str]
    lost: dict[str, list[int]]
    mps_hides: set[str]
    silent: set[str]

    @property
    def segments(self) -> Segments:
        return self.leaves.segments


def analyze(recording: Recording, settings: Settings) -> Analysis:
    """Every figure of a run but its money.

    Args:
        recording: the run; a table or column that is missing reads as unknown.
        settings: how to analyze it.

    Raises:
        ValueError: `settings.idle_split` is not one of `owner`, `equal`, `none`.
    """
    if settings.idle_split not in energies.SPLITS:
        raise ValueError(f"idle_split is {settings.idle_split!r}, not one of {', '.join(energies.SPLITS)}")
    run = _read(recording, settings)
    held = {gpu.uuid: gpu for gpu in reversed(recording.manifest.gpus) if gpu.held}
    gpus = list(reversed(held.values()))
    results = _analyze_gpus(run, gpus)
    cubes = [result.cube for result in results]
    joules = [result.joules[:, energies.ENERGY] for result in results]
    period_ns = run.period_ns or max((result.period_ns for result in results), default=0)
    stages = ledger.stages(run.spans, cubes, joules, run.end_ns, period_ns)
    errors = precision.errors_of(
        run.spans, [result.edges for result in results], [result.resolution_ns for result in results], stages
    )
    stages["energy_error_pct"], stages["energy_too_short"] = errors.total_pct, errors.too_short
    stages["self_energy_error_pct"], stages["self_energy_too_short"] = errors.self_pct, errors.self_too_short
    return Analysis(
        ledger=ledger.ledger([result.uuid for result in results], run.spans, cubes),
        gpus=frames.gpus(results),
        stages=stages,
        energy=frames.energy(results, run.spans),
        energy_gpus=frames.energy_gpus(results),
        timeline=frames.timeline(results),
        stage_timeline=ledger.open_shares(run.spans, run.bounds),
        unknown_intervals=frames.unknown_intervals(results),
        idle_intervals=frames.idle_intervals(results),
        host=table(host.hosts(recording)),
        held_back=slow.held_back_frame([gpu.uuid for gpu in gpus], [result.slow for result in results]),
        links=slow.links_frame(gpus, [result.slow for result in results]),
        hardware=slow.hardware_frame(recording.frames.get("event"), list(held)),
        notes=[
            *(note for result in results for note in result.notes),
            *quality.stage_notes(run.spans),
            *precision.notes(run.spans, errors),
        ],
        period_ns=period_ns or None,
    )


def _read(recording: Recording, settings: Settings) -> _Run:
    end_ns = max(int(recording.end_ns), 0)
    gpu = recording.frames.get("gpu", pd.DataFrame())
    gpu_process = recording.frames.get("gpu_process", pd.DataFrame())
    gpu_sample = recording.frames.get("gpu_sample", pd.DataFrame())
    spans = read_spans(recording)
    placed = truths(gpu_process, "in_run") == 1
    return _Run(
        recording=recording,
        settings=settings,
        end_ns=end_ns,
        period_ns=nominal_period_ns(recording.manifest.recorder),
        spans=spans,
        leaves=read_leaves(spans, cut(spans, end_ns), recording.frames.get("process")),
        bounds=utilization.buckets(end_ns, settings.timeline_buckets),
        gpu=gpu,
        gpu_process=gpu_process,
        gpu_sample=gpu_sample,
        rows=rows_of(gpu, "gpu_uuid"),
        sample_rows=rows_of(gpu_sample, "gpu_uuid"),
        process_rows=rows_of(gpu_process, "gpu_uuid"),
        visible_hosts=distinct_texts(gpu_process[placed], "host"),
        lost=quality.lost_times(recording.frames.get("event")),
        silent=quality.subjects_of(recording.frames.get("event"), quality.GPU_SILENT),
        mps_hides=quality.subjects_of(recording.frames.get("event"), quality.MPS_CLIENTS_HIDDEN),
    )


def _analyze_gpus(run: _Run, gpus: list[Gpu]) -> list[GpuResult]:
    """Every GPU by itself, two at a time: numpy lets go of the interpreter while it works, and more would only take more memory."""
    if len(run.gpu) < _WORTH_THREADS_ROWS:
        return [_analyze_gpu(run, gpu) for gpu in gpus]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(partial(_analyze_gpu, run), gpus))


def _analyze_gpu(run: _Run, gpu: Gpu) -> GpuResult:
    rows, process_rows = run.rows.get(gpu.uuid, _NO_ROWS), run.process_rows.get(gpu.uuid, _NO_ROWS)
    # What makes much on its way to little comes first, and is forgotten: a day's arrays are large.
    slow_found = slow.slow_of(run.gpu, rows, gpu, run.period_ns or 0, run.end_ns)
    ticks = read_ticks(run.gpu, rows)
    period_ns = period_of(ticks, run.period_ns)
    samples = _within(ticks.t_ns, run.end_ns)
    ticks = refine(ticks, run.gpu_sample, run.sample_rows.get(gpu.uuid, _NO_ROWS), period_ns)
    sensor = precision.sensor_of(ticks, _measured(run.recording.manifest.recorder, gpu.uuid))
    ticks = bridge(ticks, period_ns)
    parts = partition(ticks.t_ns, period_ns, run.end_ns)
    polls = read_polls(ticks, run.gpu_process, process_rows)
    hosts = distinct_texts(run.gpu_process.iloc[process_rows[:1]], "host")
    visible = bool(hosts & run.visible_hosts) and gpu.uuid not in run.mps_hides
    holding = judge(ticks, polls, gpu.memory_reserved_bytes, pids_visible=visible)
    used = classify(parts, ticks, holding, run.settings.idle_after_ns)
    edges = run.segments.boundaries_ns
    energy, stage_edges = _energy(run, parts, ticks, holding, sensor)
    weights = weigh(run.leaves, run.gpu_process, process_rows, ticks.t_ns[polls.tick])
    paths = len(run.spans.paths)
    cube = share_exactly(run.leaves, weights, durations(used, edges), paths)
    joules = share(run.leaves, weights, energy.by_segment, paths)
    closed = run.recording.end_basis == "exit" or run.recording.live
    unknown = quality.unknown_of(used, ticks, run.lost.get(gpu.uuid, []), closed=closed, silent=gpu.uuid in run.silent)
    return GpuResult(
        uuid=gpu.uuid,
        held_ns=run.end_ns,
        period_ns=period_ns,
        cube=cube,
        joules=_charged(joules, run.settings.idle_split),
        energy=energy,
        summary={**utilization.summary(parts, ticks, run.end_ns), "samples": samples},
        timeline=utilization.timeline(parts, ticks, run.bounds),
        holding_basis=holding.basis,
        unknown=unknown,
        stretches=[(use, *used.spans_of(use)) for use in (IDLE, EMPTY)],
        notes=quality.gpu_notes(gpu.uuid, ticks, holding, energy),
        resolution_ns=None if sensor is None else sensor.resolution_ns,
        edges=stage_edges,
        slow=slow_found,
    )


def _energy(
    run: _Run, parts: Partition, ticks: Ticks, holding: Holding, sensor: precision.Sensor | None
) -> tuple[energies.Energy, precision.Edges]:
    """The energy of a GPU, and what the edges of the stages leave open of it."""
    power = energies.power_of(parts, ticks)
    stage_edges = precision.edges_of(run.spans, run.end_ns, parts, power.power_w, sensor)
    return energies.measure(
        parts, ticks, power, holding, run.segments.boundaries_ns, run.settings.idle_split
    ), stage_edges


def _within(t_ns: IntArray, end_ns: int) -> int:
    return int(((t_ns > 0) & (t_ns <= end_ns)).sum())


def _measured(recorder: dict[str, Any], uuid: str) -> dict[str, Any] | None:
    """The update periods of a GPU's sensors, as the recorder measured them."""
    periods = recorder.get("sensor_periods_ns")
    found = periods.get(uuid) if isinstance(periods, dict) else None
    return found if isinstance(found, dict) else None


def _charged(joules: FloatArray, idle_split: str) -> FloatArray:
    """Energy by stage path, NaN where none of it is known; with `none`, the idle energy stays apart, under no stage."""
    if idle_split == "none":
        joules[-1, [energies.IDLE, energies.KNOWN_NS]] = joules[:, [energies.IDLE, energies.KNOWN_NS]].sum(axis=0)
        joules[:-1, energies.IDLE] = 0.0
        joules[:, energies.ENERGY] = joules[:, [energies.ACTIVE, energies.IDLE, energies.FOREIGN]].sum(axis=1)
    joules[joules[:, energies.KNOWN_NS] <= 0, : energies.KNOWN_NS] = np.nan
    return joules
