"""What an analysis of a run returns. Durations are integer nanoseconds and money is `Fraction`, so that sums close exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    from pandas import DataFrame

USES = ("busy", "gap", "idle", "empty", "foreign", "unknown")
"""Every instant of a held GPU lies in exactly one of these."""

WASTE = ("gap", "idle", "empty")
"""The uses that are idle waste of the run itself; `foreign` and `unknown` are shown apart."""

NO_STAGE = "(no stage)"
"""The stage path of time in which no stage is open."""

PATH_SEPARATOR = " > "
"""Between the names of a stage path, outermost first."""


def _nothing(*columns: str) -> Callable[[], DataFrame]:
    """Makes frames without rows."""

    def make() -> DataFrame:
        import pandas as pd

        return pd.DataFrame(columns=list(columns))

    return make


@dataclass(frozen=True, slots=True)
class Settings:
    """What an analysis can be told.

    Attributes:
        idle_after_ns: a held GPU without a kernel for at least this long is `idle`; for less, it is `gap`.
        idle_split: who is charged the energy of the GPU's idle power: `owner` (the run, for all the time it is billed for the GPU), `equal` (shared
            equally among the processes on it, foreign ones included; the run's while nobody is on it), `none` (no stage: it stays apart, in the row
            of no stage).
        timeline_buckets: into how many equal parts the run is cut for drawing.
    """

    idle_after_ns: int = 1_000_000_000
    idle_split: str = "owner"
    timeline_buckets: int = 60


@dataclass(slots=True)
class Analysis:
    """Every figure of a run but its money.

    Text columns have the object type, durations int64 nanoseconds, and other figures float64 with NaN where unknown.

    Attributes:
        ledger: `gpu_uuid`, `stage_path`, `use`, `duration_ns` (int64 > 0). One row for each non-empty cell of the cube, in the order of the
            manifest's GPUs, the stages and `USES`; over every axis the sum is the held time: for each GPU, sum(duration_ns) == held_ns.
        gpus: one row per held GPU, index `gpu_uuid`: `held_ns`, one column per use (`busy_ns`, ...), `coverage` (share of held time that is not
            unknown), `util_mean_pct` (time-weighted over the time with a utilization), `memory_peak_bytes`, `power_mean_w`, `power_max_w`,
            `temperature_max_c`, `samples` (ticks in the window), `holding_basis` (`processes`, `memory`, `none`), `longest_gap_ns`, `gaps` (count of
            unknown stretches, whatever their reasons).
        stages: one row per stage path, in order of first start, `(no stage)` last and always there: `stage_path`, `name` (as the program gave it; in
            a path a lone `>` is written with a backslash, so that no name can be taken for several), `parent_path` (None at the top), `depth`, `spans`
            (how many), `truncated` (how many), `wall_ns` (union of its spans), `first_start_ns`, `last_end_ns`, `short` (a median span is shorter than
            two sampling periods, too few to be trusted), `self_<use>_ns`, `total_<use>_ns` (with its children; for reading, never to be added up),
            `self_ns`, `total_ns`, `self_energy_j`, `total_energy_j` (over all GPUs; the sum of what is known, NaN where nothing is),
            `energy_error_pct` (how far `total_energy_j` is known, by the sensor's resolution at the edges of its spans; NaN where unknown),
            `energy_too_short` (too short to tell at all), `self_energy_error_pct` and `self_energy_too_short` (of `self_energy_j`).
        energy: one row per `gpu_uuid` and `stage_path` that had any time: `energy_j` (all of it), `active_j`, `idle_j`, `foreign_j`; they sum:
            energy = active + idle + foreign, and over the stages to `energy_gpus`. NaN where nothing of it is known.
        energy_gpus: one row per held GPU, index `gpu_uuid`: `energy_j`, `counter_j`, `integral_j` (each over the time it covers), `basis`
            (`counter`, where power fills what the counter leaves open; `integrated`; `unknown`), `difference_pct` (counter against integral, over the
            time that both cover), `idle_power_w`, `idle_power_basis` (`empty`: seen while nobody was on the GPU; `idle`: while somebody held it and
            nothing ran, so a context's power is in it; `minimum`: the least seen; `unknown`), `covered_ns` (time that the energy stands for).
        timeline: `gpu_uuid`, `bucket`, `start_ns`, `end_ns`, and time-weighted means `util_pct`, `power_w`, `memory_used_bytes` (NaN where nothing was
            measured).
        stage_timeline: `stage_path`, `bucket`, `open_share` (0 to 1: share of the bucket in which a span of this path is open); every path and bucket,
            without `(no stage)`.
        unknown_intervals: `gpu_uuid`, `start_ns`, `end_ns`, `reason`: `no_sample`, `gpu_lost`, `not_closed` (the recorder ended before the run),
            `unsupported` (the GPU never gave a utilization), `invalid` (a reading without a valid utilization), `holding` (nothing says whether the
            run holds the GPU), `unlisted` (kernels ran and the process list was empty). Their sum is the GPU's `unknown_ns`.
        idle_intervals: `gpu_uuid`, `use` (idle or empty), `start_ns`, `end_ns`: the stretches of at least `idle_after`.
        host: one row per host: `host`, `cpu_util_mean_pct`, `memory_used_peak_bytes`, and of the command's tree `processes_peak`, `rss_peak_bytes`
            (both at one poll), `cpu_s` (as far as the polls saw it).
        held_back: `gpu_uuid`, `cause` (`power_cap`, `thermal`, `power_brake`, `sync_boost`), `held_back_ns` (NaN where unknown), `covered_ns` (time that it
            stands for), `basis` (`counter`, `sampled` from the reasons at each tick, `unknown`), `samples`; every held GPU and cause.
        links: one row per held GPU, index `gpu_uuid`: `readings` of its PCIe link under load, `gen` and `width` seen most often in them, `gen_below` and
            `width_below` (share of them below `gen_max` and `width_max`); NaN where unknown.
        hardware: `gpu_uuid`, `kind`, `message`, `count`, `first_ns`: what the hardware of held GPUs reported, the same thing once.
        notes: what a reader of the figures must know, one line each.
        period_ns: the sampling period, None where it is not known.
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
    held_back: DataFrame = field(default_factory=_nothing("gpu_uuid", "cause"))
    links: DataFrame = field(default_factory=_nothing("readings"))
    hardware: DataFrame = field(default_factory=_nothing("gpu_uuid"))
    notes: list[str] = field(default_factory=list)
    period_ns: int | None = None


@dataclass(slots=True)
class Costs:
    """The ledger in money.

    Attributes:
        ledger: the ledger with one more column, `cost_usd`: a `Fraction`, exactly duration x rate / 3600 s, or None where the GPU has no price.
            Nanoseconds of an hourly rate do not end as decimals, and fractions close where rounded decimals would not; round for display only.
        total_usd: the run's cost, exactly the sum of the cells and of rate x held time; None when no held GPU has a price; when only some have
            one, the sum of those, and `unpriced` names the rest.
        unpriced: UUIDs of held GPUs without a price.
    """

    ledger: DataFrame
    total_usd: Fraction | None
    unpriced: list[str]
