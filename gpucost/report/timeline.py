"""The run over time: utilization and power of each GPU, and the stages below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpucost.analyzers.model import NO_STAGE
from gpucost.report.model import UNKNOWN, StageRow
from gpucost.report.text import NS_PER_S, clock, known
from gpucost.report.tracks import GpuTrack, StageTrack, Tick, Timeline

if TYPE_CHECKING:
    from pandas import DataFrame

    from gpucost.manifest import Gpu
    from gpucost.report.material import Material

MAX_GPUS = 8
MAX_STAGES = 12

_STEPS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30)
_STEPS_MIN = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440)
_MAX_TICKS = 6


def timeline_of(material: Material, stages: list[StageRow]) -> Timeline:
    """The tracks to draw: the first GPUs, and the stages of the most GPU time."""
    buckets = material.settings.timeline_buckets
    frame = material.analysis.timeline
    gpus = material.held[:MAX_GPUS]
    candidates = [row for row in stages if row.path != NO_STAGE]
    by_time = sorted(candidates, key=lambda row: -(row.total_time_s.value or 0))[:MAX_STAGES]
    chosen = {row.path for row in by_time}
    shares = _open_shares(material.analysis.stage_timeline, buckets)
    return Timeline(
        buckets=buckets,
        bucket_s=round(material.recording.end_ns / buckets / NS_PER_S, 9),
        gpus=[_gpu_track(material, gpu, frame[frame["gpu_uuid"] == gpu.uuid], buckets) for gpu in gpus],
        stages=[
            StageTrack(row.path, row.name, row.depth, shares.get(row.path, [0.0] * buckets))
            for row in candidates
            if row.path in chosen
        ],
        ticks=ticks(material.recording.end_ns),
        gpus_left_out=len(material.held) - len(gpus),
        stages_left_out=len(candidates) - len(by_time),
    )


def ticks(end_ns: int) -> list[Tick]:
    """Round times along the axis, the start among them, at most six."""
    if end_ns <= 0:
        return []
    end_s = end_ns / NS_PER_S
    steps = [*_STEPS_S, *(60 * minutes for minutes in _STEPS_MIN)]
    day = steps[-1]
    step = next((step for step in steps if end_s / step < _MAX_TICKS), day * (1 + int(end_s / day / _MAX_TICKS)))
    marks = int(end_s / step) + 1
    return [Tick(round(number * step / end_s, 6), _tick_text(number * step)) for number in range(marks)]


def _tick_text(seconds: float) -> str:
    if seconds == 0:
        return "0"
    if seconds < 1:
        return f"{seconds * 1000:g} ms"
    if seconds < 60:  # noqa: PLR2004 (a minute)
        return f"{seconds:g} s"
    text = clock(round(seconds))
    return text.removesuffix(" 00s").removesuffix(" 00m")


def _gpu_track(material: Material, gpu: Gpu, rows: DataFrame, buckets: int) -> GpuTrack:
    util, power = [_values(rows, column, buckets) for column in ("util_pct", "power_w")]
    facts = material.gpu(gpu.uuid)
    mean, highest = known(facts.get("power_mean_w")), known(facts.get("power_max_w"))
    tops = [value for value in (known(gpu.power_limit_w), highest, *power) if value is not None and value > 0]
    util_mean = known(facts.get("util_mean_pct"))
    return GpuTrack(
        uuid=gpu.uuid,
        label=material.labels[gpu.uuid],
        util_pct=util,
        power_w=power,
        power_top_w=round(max(tops), 1) if tops else None,
        util_text=UNKNOWN if util_mean is None else f"{util_mean:.0f} %",
        power_text=UNKNOWN if mean is None else f"{mean:.0f} W",
    )


def _values(rows: DataFrame, column: str, buckets: int) -> list[float | None]:
    values: list[float | None] = [None] * buckets
    for bucket, value in zip(rows["bucket"].tolist(), rows[column].tolist(), strict=True):
        number = known(value)
        if number is not None and 0 <= bucket < buckets:
            values[int(bucket)] = round(number, 1)
    return values


def _open_shares(frame: DataFrame, buckets: int) -> dict[str, list[float]]:
    shares: dict[str, list[float]] = {}
    columns = (frame["stage_path"].tolist(), frame["bucket"].tolist(), frame["open_share"].tolist())
    for path, bucket, value in zip(*columns, strict=True):
        track = shares.setdefault(str(path), [0.0] * buckets)
        if 0 <= bucket < buckets:
            track[int(bucket)] = round(known(value) or 0.0, 3)
    return shares
