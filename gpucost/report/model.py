"""The report: every figure of a run, ready to print. Renderers read it and compute nothing.

A figure that is not known has the value None and says so in its text; it is never 0. Texts of one column are rounded together, so that
what is printed adds up to the printed total (`gpucost.report.rounding`). The same model is what `--format json` prints; its JSON Schema is
`gpucost/data/report.schema.json`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpucost.report.slowness import Finding, GpuSlow
    from gpucost.report.tracks import Timeline

SCHEMA_VERSION = 1
"""Of the JSON output. Fields may be added without a new version; one that is renamed, removed or means something else raises it."""

UNKNOWN = "unknown"
TOO_SHORT = "too short"
"""Text of the energy of a stage that is too short for the sensor to tell."""

NONE = "–"
"""Text of a figure that does not exist (as against one that exists and is not known)."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and its text. The unit of `value` is in the name of the field that holds it; the text brings its own."""

    value: float | int | None
    text: str


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in US dollars: `usd` exact to a millionth of a millionth, as text; `text` rounded for reading."""

    usd: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """What was recorded, when, where, and how it ended.

    Attributes:
        state: `complete`, `live` (still being recorded), `crashed` (its recorder never closed it) or `recovered`.
        end_basis: what the end rests on: `exit`, `last_sample` or `last_mark`.
        exit_code: as a shell gives it; None while unknown.
        gpus: the held GPUs in a few words.
    """

    run_id: str
    name: str | None
    command: list[str]
    command_text: str
    labels: dict[str, str]
    state: str
    state_text: str
    exit_code: int | None
    exit_text: str
    simulated: bool
    started: str
    ended: str | None
    duration_s: Figure
    end_basis: str
    hosts: list[str]
    gpus: str
    bill: str
    parent_run_id: str | None
    driver: dict[str, str]


@dataclass(frozen=True, slots=True)
class Total:
    """The headline.

    Attributes:
        money: the run's cost; with `partial`, of the GPUs that have a price only.
        gpu_hours: held GPU time.
        busy_pct: the share of `busy` in the run, and `waste_pct` that of gap + idle + empty (see `Report.shares_of`).
        note: why money is unknown or partial, else empty.
    """

    money: Money
    partial: bool
    gpu_time_s: Figure
    gpu_hours: Figure
    busy_pct: Figure
    busy: Money
    waste_pct: Figure
    waste_time_s: Figure
    waste: Money
    foreign: Money
    unknown: Money
    unknown_time_s: Figure
    energy_j: Figure
    note: str


@dataclass(frozen=True, slots=True)
class Use:
    """One step of the waterfall; its bar starts where the one above ended (`start_pct`)."""

    use: str
    meaning: str
    gpu_time_s: Figure
    share_pct: Figure
    start_pct: float
    money: Money
    waste: bool


@dataclass(frozen=True, slots=True)
class GpuRow:
    """One held GPU. Shares are of its held time; a share that some unknown time could still raise reads `≥`."""

    uuid: str
    label: str
    name: str
    host: str
    index: int | None
    simulated: bool
    mig_profile: str | None
    held_s: Figure
    busy_pct: Figure
    waste_pct: Figure
    foreign_pct: Figure
    unknown_pct: Figure
    money: Money
    waste: Money
    energy_j: Figure
    util_mean_pct: Figure
    power_mean_w: Figure
    power_max_w: Figure
    memory_peak_bytes: Figure
    temperature_max_c: Figure
    coverage_pct: Figure
    samples: int
    gaps: int
    longest_gap_s: Figure
    holding_basis: str
    energy_basis: str
    shown: bool


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage path. `self_*` is time in which it was the innermost stage (a column of `self_*` adds up); the rest is with its sub-stages.

    Attributes:
        waste_pct: the share of gap + idle + empty in `total_*`.
        short: its spans are shorter than the samples can resolve.
        energy_error_pct: how far `total_energy_j` is known, by the sensor's resolution at the edges of the spans; None where it is not known, or too
            short to tell (then the energy is None too, and its text is `too short`). Likewise `self_energy_error_pct`.
        shown: in tables for people; the others are summed up in `Report.stages_folded`.
    """

    path: str
    name: str
    parent_path: str | None
    depth: int
    spans: int
    truncated: int
    short: bool
    wall_s: Figure
    self_time_s: Figure
    self_money: Money
    self_energy_j: Figure
    self_energy_error_pct: Figure
    total_time_s: Figure
    total_money: Money
    total_energy_j: Figure
    energy_error_pct: Figure
    waste_pct: Figure
    waste: Money
    shown: bool


@dataclass(frozen=True, slots=True)
class Folded:
    """What the rows that are not shown add up to, so that the printed column still adds up."""

    count: int
    time_s: Figure
    money: Money
    energy_j: Figure


@dataclass(frozen=True, slots=True)
class Basis:
    """What a figure rests on: `measured`, `counter`, `integrated`, `sampled`, `estimated`, `simulated`, `mixed` or `unknown`, and in words."""

    figure: str
    basis: str
    text: str


@dataclass(frozen=True, slots=True)
class Price:
    """A price and the GPUs (labels) it is for. `amount_usd` is per GPU-hour, None where no price is known (`note` says why)."""

    gpus: list[str]
    amount_usd: str | None
    text: str
    basis: str | None
    source: str | None
    provider: str | None
    instance_type: str | None
    region: str | None
    as_of: str | None
    stale: bool
    note: str


@dataclass(frozen=True, slots=True)
class Overhead:
    """What recording itself cost: the recorder's process on the busiest host, ticks and driver calls of all."""

    cpu_pct: Figure
    memory_bytes: Figure
    ticks: int | None
    ticks_late: int | None
    ticks_missed: int | None
    driver_s: Figure
    driver_calls: int | None
    rows_dropped: int | None
    errors: int | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened while recording, folded: `count` times, first at `first_s` after the start.

    `subject` is what it is about as it was recorded, and `about` the same in this report's words (a GPU's label).
    """

    kind: str
    source: str
    subject: str | None
    about: str | None
    message: str
    count: int
    first_s: Figure


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong with the recording."""

    code: str
    message: str
    count: int


@dataclass(frozen=True, slots=True)
class UnknownTime:
    """GPU time without a valid measurement, by reason."""

    reason: str
    meaning: str
    gpu_time_s: Figure


@dataclass(frozen=True, slots=True)
class Quality:
    """What the figures rest on.

    Attributes:
        unknown_time_s: GPU time without a valid measurement; `unknown` splits it by reason.
        uncertain: enough time is unknown to move the printed shares, which then read `≥`.
    """

    coverage_pct: Figure
    gaps: int
    longest_gap_s: Figure
    unknown_time_s: Figure
    unknown: list[UnknownTime]
    uncertain: bool
    bases: list[Basis]
    prices: list[Price]
    overhead: Overhead
    events: list[Event]
    events_left_out: int
    problems: list[Trouble]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Carbon:
    """CO2e of the electricity of the GPUs; only when a region is configured."""

    co2e_g: Figure
    region: str
    region_name: str
    intensity_g_per_kwh: float
    year: int | None
    source: str
    pue: float
    pue_assumed: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the ledger. `usd` as in `Money`; over any axis the cells add up to the digit."""

    gpu_uuid: str
    stage_path: str
    use: str
    duration_ns: int
    usd: str | None


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """What one unit of work costs at the least: the price of a card over what it was measured to sustain.

    Attributes:
        what: the dtype, or `memory`.
        unit: `PFLOP` or `TB`.
        rate: sustained, in TFLOP/s (int8: TOP/s) or GB/s.
        money: per unit; `low` and `high` are at the ends of the rate's 95 % interval.
    """

    what: str
    unit: str
    rate: Figure
    money: Money
    low: Money
    high: Money


@dataclass(frozen=True, slots=True)
class GpuEfficiency:
    """How much of a card's measured ability the run used while it was busy: an estimate, and no part of the ledger.

    Attributes:
        profile: run id of the benchmark profile, None where the card has none; `profile_text` says of when and what.
        basis: `gpm`, `energy` (a bound from above) or `none`; `basis_text` says what it rests on, or why there is none.
        used_pct: share of the ceiling, None where only a bound is known; the range is `used_low_pct` to `used_high_pct`.
        used_text: all three in words.
        headroom_low, headroom_high: the busy cost times what was not used.
        moved_bytes: through the card's memory, from the performance monitor; unknown without one. `per_tb` is the card's cost over them.
        prices: per PFLOP and per TB, at the card's best.
    """

    uuid: str
    label: str
    profile: str | None
    profile_text: str
    basis: str
    basis_text: str
    used_pct: Figure
    used_low_pct: Figure
    used_high_pct: Figure
    used_text: str
    compute_pct: Figure
    memory_pct: Figure
    headroom_low: Money
    headroom_high: Money
    headroom_text: str
    moved_bytes: Figure
    per_tb: Money
    moved_text: str
    prices: list[UnitPrice]


@dataclass(frozen=True, slots=True)
class WorkRow:
    """The work that a stage states of itself, against the GPU time that it and its sub-stages were charged for.

    Attributes:
        flops, tokens: what it states; unknown where it does not.
        tflops: FLOP over GPU time, per GPU.
        mfu_book_pct: against the book's dense peak of `dtype`.
        mfu_measured_pct: against what the cards were measured to sustain; its range comes from the interval of the ceiling.
        per_pflop, per_million_tokens: the stage's cost over its work.
        note: what to know of it.
    """

    path: str
    flops: Figure
    tokens: Figure
    dtype: str
    dtype_assumed: bool
    tflops: Figure
    mfu_book_pct: Figure
    mfu_measured_pct: Figure
    mfu_measured_low_pct: Figure
    mfu_measured_high_pct: Figure
    mfu_measured_text: str
    per_pflop: Money
    tokens_per_s: Figure
    per_million_tokens: Money
    joules_per_token: Figure
    note: str


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What the cards could have done, as far as their benchmark profiles and the stages' own figures say."""

    gpus: list[GpuEfficiency]
    work: list[WorkRow]


@dataclass(frozen=True, slots=True)
class Report:
    """A run's report.

    Attributes:
        shares_of: what the shares of `total` and `uses` are of: `cost`, or `gpu_time` where a price is missing or zero.
        quotes: GPU UUID to the price it was costed at (the fields of `gpucost.prices.Quote`); a GPU without a price is not there.
        marked_stages: whether any stage was marked.
        efficiency: None where no card has a benchmark profile and no stage states its work.
        slow: why each held GPU was slow.
        findings: ranked by money, then by code.
    """

    run: Run
    total: Total
    shares_of: str
    uses: list[Use]
    gpus: list[GpuRow]
    gpus_folded: Folded | None
    stages: list[StageRow]
    stages_folded: Folded | None
    marked_stages: bool
    timeline: Timeline
    carbon: Carbon | None
    quality: Quality
    quotes: dict[str, dict[str, Any]]
    ledger: list[Cell]
    settings: dict[str, Any] = field(default_factory=dict)
    efficiency: Efficiency | None = None
    slow: list[GpuSlow] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return asdict(self)

    def quotes_json(self) -> dict[str, dict[str, Any]]:
        """The quotes as a manifest keeps them."""
        return {uuid: dict(quote) for uuid, quote in self.quotes.items()}
