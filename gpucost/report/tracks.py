"""The part of the report's model that is drawn over time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class GpuTrack:
    """A GPU over time: one value per bucket, None where nothing was measured. `power_top_w` is the top of the power scale."""

    uuid: str
    label: str
    util_pct: list[float | None]
    power_w: list[float | None]
    power_top_w: float | None
    util_text: str
    power_text: str


@dataclass(frozen=True, slots=True)
class StageTrack:
    """A stage over time: the share of each bucket in which it is open (0 to 1)."""

    path: str
    name: str
    depth: int
    open_share: list[float]


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on the time axis, at a share (0 to 1) of the run."""

    position: float
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The run cut into equal buckets."""

    buckets: int
    bucket_s: float
    gpus: list[GpuTrack]
    stages: list[StageTrack]
    ticks: list[Tick]
    gpus_left_out: int
    stages_left_out: int

    def columns(self, values: list[float | None], count: int) -> list[float | None]:
        """`values` (one per bucket) drawn in `count` columns: the mean of the known values that fall into each."""
        if not values or count >= len(values):
            return values
        edges = [round(column * len(values) / count) for column in range(count + 1)]
        return [_mean(values[start:end]) for start, end in pairwise(edges)]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
