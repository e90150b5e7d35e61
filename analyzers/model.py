"""What an analysis of a run returns. Durations are integer nanoseconds, so that sums close exactly; money is `Decimal`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal

    from pandas import DataFrame

USES = ("busy", "gap", "idle", "empty", "foreign", "unknown")
"""Every instant of a held GPU lies in exactly one of these."""

WASTE = ("gap", "idle", "empty")
"""The uses that are idle waste of the run itself; `foreign` and `unknown` are shown apart."""

NO_STAGE = "(no stage)"
"""The stage path of time in which no stage is open."""

PATH_SEPARATOR = " > "
"""Between the names of a stage path, outermost first."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What an analysis can be told.

    Attributes:
        idle_after_ns: a held GPU without a kernel for at least this long is `idle`; for less, it is `gap`.
        idle_split: who is charged the energy of the GPU's idle power: `owner` (the run, for all the time it holds the GPU), `equal` (shared equally
            among the processes on it, foreign ones included), `none` (nobody: it stays apart).
        timeline_buckets: into how many equal parts the run is cut for drawing.
    """

    idle_after_ns: int = 1_000_000_000
    idle_split: str = "owner"
    timeline_buckets: int = 60


@dataclass(slots=True)
class Analysis:
    """Every figure of a run but its money.

    Attributes:
        ledger: `gpu_uuid`, `stage_path`, `use`, `duration_ns` (int64 > 0). One row for each non-empty cell of the cube; over every axis the sum
            is the held time: for each GPU, sum(duration_ns) == held_ns.
        gpus: one row per held GPU, index `gpu_uuid`: `held_ns`, one column per use (`busy_ns`, ...), `coverage` (share of held time with a valid
            measurement), `util_mean_pct` (time-weighted over covered time), `memory_peak_bytes`, `power_mean_w`, `power_max_w`,
            `temperature_max_c`, `samples`, `holding_basis` (`processes`, `memory`, `none`), `longest_gap_ns`, `gaps` (count of unknown stretches).
        stages: one row per stage path, in order of first start, `(no stage)` last: `stage_path`, `name`, `parent_path` (null at the top), `depth`, `spans`
            (how many), `truncated` (how many), `wall_ns` (union of its spans), `first_start_ns`, `last_end_ns`, `self_<use>_ns`, `total_<use>_ns`
            (with its children; for reading, never to be added up), `self_ns`, `total_ns`, `short` (some covered figure rests on too few
            samples to be trusted: a median span shorter than about two sampling periods).
        energy: one row per `gpu_uuid` and `stage_path`: `energy_j` (all of it), `active_j`, `idle_j`, `foreign_j`; they sum: energy = active + idle + foreign.
            NaN where unknown.
        energy_gpus: one row per held GPU, index `gpu_uuid`: `energy_j`, `counter_j`, `integral_j`, `basis` (`counter`, `integrated`, `unknown`), `difference_pct` (counter against integral),
            `idle_power_w`, `idle_power_basis`, `covered_ns` (time that the energy stands for).
        timeline: `gpu_uuid`, `bucket`, `start_ns`, `end_ns`, `util_pct`, `power_w`, `memory_used_bytes` (NaN where nothing was measured).
        stage_timeline: `stage_path`, `bucket`, `open_share` (0 to 1: share of the bucket in which a span of this path is open).
        unknown_intervals: `gpu_uuid`, `start_ns`, `end_ns`, `reason` (`no_sample`, `gpu_lost`, `unsupported`, `not_closed`).
        idle_intervals: `gpu_uuid`, `use` (idle or empty), `start_ns`, `end_ns`: the stretches of at least `idle_after`.
        host: per host: `cpu_util_mean_pct`, `memory_used_peak_bytes`, peak processes of the tree, its peak RSS and total CPU seconds, as a one-row-per-host frame.
        notes: what a reader of the figures must know, one line each.
    """

    ledger: DataFrame
    gpus: DataFrame
    stages: DataFrame
    energy: DataFrame
    energy_gpus: DataFrame
    timeline: DataFrame
    stage_timeline: DataFrame
    unknown_intervals: DataFrame
    idle_intervals: DataFrame
    host: DataFrame
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Costs:
    """The ledger in money.

    Attributes:
        ledger: the ledger with one more column, `cost_usd` (`Decimal`, exact: duration x rate / 3600 s, or None where the GPU has no price).
        total_usd: the run's cost, or None when no held GPU has a price; when only some have one, the sum of those, and `unpriced` names the rest.
        unpriced: UUIDs of held GPUs without a price.
    """

    ledger: DataFrame
    total_usd: Decimal | None
    unpriced: list[str]
