"""Models of two sides compared and of gates judged, ready to print. Renderers read them and compute nothing.

As in `gpucost.report.model`, a figure that is not known has the value None and says so in its text. Their JSON Schemas are
`gpucost/data/comparison.schema.json` and `gpucost/data/check.schema.json`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpucost.report.model import Figure

COMPARISON_VERSION = 1
"""Of the JSON of a comparison. Fields may be added without a new version; one that is renamed, removed or means something else raises it."""

CHECK_VERSION = 1
"""Of the JSON of a check, likewise."""

METRICS: dict[str, str] = {
    "cost_usd": "cost",
    "gpu_time_s": "GPU time",
    "busy_s": "busy",
    "waste_s": "idle",
    "waste_usd": "idle cost",
    "energy_j": "energy",
    "duration_s": "duration",
    "waste_pct": "idle share",
}
"""Every figure that is compared, and its name for people. Idle is gap + idle + empty. `duration_s` is of runs and stages (wall time)."""

DIRECTIONS = ("higher", "lower", "same", "undecided", "unknown")
STATUSES = ("passed", "failed", "missing", "undecided")


@dataclass(frozen=True, slots=True)
class RunRef:
    """One run of a side.

    Attributes:
        driver: the driver's version, None where it is not known.
        price: what a GPU-hour cost, in words.
    """

    run_id: str
    name: str | None
    started: str
    labels: dict[str, str]
    gpus: str
    driver: str | None
    exit_text: str
    state: str
    simulated: bool
    price: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that was chosen for the baseline and is not in it, and why."""

    run_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Side:
    """The runs of one side; with several of them, the figures of the side are means, because means add up."""

    runs: list[RunRef]
    left_out: list[LeftOut]


@dataclass(frozen=True, slots=True)
class Change:
    """One figure on both sides. `delta` is head minus base in the very digits that are printed.

    Attributes:
        delta_pct: of the base, from the exact figures; None where the base is zero or not known.
        direction: `higher` or `lower` where the statistics say so, `same` where they do not, `undecided` where there are too few runs, `unknown`.
        worse: the change is one to look into; None where the figure is neither good nor bad, or nothing is decided.
        p: two-sided, of the Mann-Whitney U test; None where there was no such test.
        note: what the direction rests on, in a few words.
    """

    base: Figure
    head: Figure
    delta: Figure
    delta_pct: Figure
    direction: str
    worse: bool | None
    p: float | None
    note: str

    @property
    def word(self) -> str:
        """The verdict in a word, empty where none was possible."""
        if self.direction in ("undecided", "unknown"):
            return ""
        if self.direction == "same" or self.worse is None:
            return self.direction
        return "worse" if self.worse else "better"


@dataclass(frozen=True, slots=True)
class GpuChange:
    """One GPU of both sides, matched by UUID where all runs had the same GPUs, else by model and position.

    Attributes:
        presence: `both`, `added` or `removed`.
        changes: by metric of `METRICS`; each metric's deltas add up over the GPUs to the run's.
    """

    label: str
    name: str
    presence: str
    changes: dict[str, Change]


@dataclass(frozen=True, slots=True)
class StageChange:
    """One stage of both sides, matched by its path.

    Attributes:
        presence: `both`, `added`, `removed` or `renamed` (a guess: see `was`).
        was: the path it seems to have had in the base.
        changes: of its own time (innermost stage); each metric's deltas add up over the stages to the run's. `duration_s` is its wall time and
            does not add up.
        total: the same with its sub-stages; never to be added up.
        shown: in tables for people; the others are summed up in `Comparison.stages_folded`.
    """

    path: str
    name: str
    parent_path: str | None
    depth: int
    presence: str
    was: str | None
    changes: dict[str, Change]
    total: dict[str, Change]
    shown: bool


@dataclass(frozen=True, slots=True)
class FoldedChange:
    """What the rows that are not shown add up to."""

    count: int
    changes: dict[str, Change]


@dataclass(frozen=True, slots=True)
class Method:
    """How the verdicts came about.

    Attributes:
        name: `mann-whitney` (five or more runs a side), `median-mad` (fewer new ones against a history of five or more) or `report-only`.
        text: the same in a sentence, with its limits.
        alpha: of the test.
        min_effect_pct: changes of the median below this are `same`.
    """

    name: str
    text: str
    base_runs: int
    head_runs: int
    alpha: float
    min_effect_pct: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides compared.

    Attributes:
        run: the whole run, by metric of `METRICS`.
        headline: what changed, in a line.
        simulated: some run of either side had simulated GPUs.
        matched_on: what baseline runs had to have in common with the head.
        notes: what a reader of the figures must know, one line each.
        settings: how the analyses were made.
    """

    base: Side
    head: Side
    method: Method
    headline: str
    run: dict[str, Change]
    gpus: list[GpuChange]
    stages: list[StageChange]
    stages_folded: FoldedChange | None
    matched_on: list[str]
    notes: list[str]
    simulated: bool
    settings: dict[str, Any] = field(default_factory=dict)
    schema_version: int = COMPARISON_VERSION

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate, judged.

    Attributes:
        gate: its name in `gpucost.gates.GATES`, for example `cost` or `cost_increase`.
        title: the gate and its scope for people, for example `cost of stage plan`. The stage's name comes from the configuration.
        stage: the stage path, None for the whole run.
        status: `passed`, `failed`, `missing` (a figure it needs is not known) or `undecided` (too few runs for a verdict).
        fails: whether it makes the check fail: a failed gate, and a missing figure unless that is allowed.
        value: what was measured; for a gate on an increase, the increase.
        limit: what was allowed.
        message: one sentence that says all of it.
    """

    gate: str
    title: str
    stage: str | None
    status: str
    fails: bool
    value: Figure
    limit: Figure
    message: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """All gates of one check.

    Attributes:
        run: the run that was checked (the first of several repeats); `repeats` is how many there were, and their means were judged.
        gates: in the order of the configuration, failed or not.
        comparison: against the baseline; None when there was none.
    """

    run: RunRef
    repeats: int
    gates: list[GateResult]
    comparison: Comparison | None
    notes: list[str] = field(default_factory=list)
    schema_version: int = CHECK_VERSION

    @property
    def passed(self) -> bool:
        """Whether no gate makes the check fail."""
        return not self.failing

    @property
    def failing(self) -> list[GateResult]:
        """The gates that make the check fail."""
        return [gate for gate in self.gates if gate.fails]

    @property
    def exit_code(self) -> int:
        """0: passed. 1: a gate failed, or something that it needs is missing."""
        return 0 if self.passed else 1

    def to_json(self) -> dict[str, Any]:
        """The check as plain JSON values."""
        return {"passed": self.passed, **asdict(self)}
