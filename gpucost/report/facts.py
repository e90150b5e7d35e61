"""The figures of one run that can be compared and judged, taken out of its report: exact, and None where not known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from gpucost.analyzers.model import WASTE
from gpucost.report.model import TOO_SHORT
from gpucost.report.rounding import PICO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpucost.report.model import Cell, Figure, Report

_NS = 1_000_000_000


@dataclass(slots=True)
class Quantities:
    """Sums over some part of a run's ledger, and what belongs to the same part.

    Attributes:
        pico: picodollars, None where any GPU of the run has no price; likewise `waste_pico` and `unknown_pico`.
        joules: None where none of it is known; `joules_partial` when some of it is not, `joules_too_short` when a stage is too short to tell.
        joules_error: how far `joules` may be off, by the sensor's resolution at a stage's edges.
        wall_ns: of the run or of the stage's spans; None for a GPU.
        top_w: the highest power that any GPU of the run was seen to draw; None where one was never seen.
    """

    ns: int = 0
    busy_ns: int = 0
    waste_ns: int = 0
    unknown_ns: int = 0
    pico: int | None = 0
    waste_pico: int | None = 0
    unknown_pico: int | None = 0
    joules: float | None = 0.0
    joules_partial: bool = False
    joules_too_short: bool = False
    joules_error: float = 0.0
    wall_ns: int | None = None
    top_w: float | None = None

    def add(self, cell: Cell, *, priced: bool) -> None:
        """Count one more cell of the ledger."""
        pico = int(Decimal(cell.usd) * PICO) if priced and cell.usd is not None else None
        waste, unknown = cell.use in WASTE, cell.use == "unknown"
        self.ns += cell.duration_ns
        self.busy_ns += cell.duration_ns if cell.use == "busy" else 0
        self.waste_ns += cell.duration_ns if waste else 0
        self.unknown_ns += cell.duration_ns if unknown else 0
        self.pico = _sum(self.pico, pico)
        self.waste_pico = _sum(self.waste_pico, pico if waste or pico is None else 0)
        self.unknown_pico = _sum(self.unknown_pico, pico if unknown or pico is None else 0)

    def join(self, other: Quantities) -> None:
        """Count all that another counts, but for its wall time; energy that is not known makes the sum partial."""
        self.ns += other.ns
        self.busy_ns += other.busy_ns
        self.waste_ns += other.waste_ns
        self.unknown_ns += other.unknown_ns
        self.pico = _sum(self.pico, other.pico)
        self.waste_pico = _sum(self.waste_pico, other.waste_pico)
        self.unknown_pico = _sum(self.unknown_pico, other.unknown_pico)
        self.joules_partial = self.joules_partial or other.joules_partial or other.joules is None
        known = [joules for joules in (self.joules, other.joules) if joules is not None]
        self.joules = sum(known) if known else None


@dataclass(slots=True)
class GpuFacts:
    """A held GPU: its UUID, its label in the report, its model."""

    uuid: str
    label: str
    name: str
    own: Quantities


@dataclass(slots=True)
class StageFacts:
    """A stage path: its `own` time, in which it was the innermost, and the `total` with its sub-stages."""

    path: str
    name: str
    parent_path: str | None
    own: Quantities
    total: Quantities


@dataclass(slots=True)
class Facts:
    """One run.

    Attributes:
        priced: every held GPU has a price.
        held: the run held a GPU at all.
        stages: by path, in the report's order (parents before their children).
    """

    report: Report
    priced: bool
    held: bool
    run: Quantities
    gpus: list[GpuFacts] = field(default_factory=list)
    stages: dict[str, StageFacts] = field(default_factory=dict)


def facts_of(report: Report) -> Facts:
    """The figures of a report."""
    total = report.total
    priced = total.money.usd is not None and not total.partial
    tops = [row.power_max_w.value for row in report.gpus]
    top_w = max((float(top) for top in tops if top is not None), default=None) if None not in tops else None
    facts = Facts(report, priced, bool(report.gpus), _empty(priced, total.energy_j, top_w))
    facts.run.wall_ns = _ns(report.run.duration_s)
    gpus = {
        row.uuid: GpuFacts(row.uuid, row.label, row.name, _empty(priced, row.energy_j, top_w)) for row in report.gpus
    }
    for row in report.stages:
        own = _empty(priced, row.self_energy_j, top_w)
        _set_energy(own, row.self_energy_j, row.self_energy_error_pct)
        own.wall_ns = _ns(row.wall_s)
        facts.stages[row.path] = StageFacts(row.path, row.name, row.parent_path, own, _empty(priced, None, top_w))
    for cell in report.ledger:
        facts.run.add(cell, priced=priced)
        gpus[cell.gpu_uuid].own.add(cell, priced=priced)
        facts.stages[cell.stage_path].own.add(cell, priced=priced)
    facts.gpus = list(gpus.values())
    _add_up(facts)
    for row in report.stages:
        _set_energy(facts.stages[row.path].total, row.total_energy_j, row.energy_error_pct)
    return facts


def _set_energy(part: Quantities, energy: Figure, error_pct: Figure) -> None:
    """The energy of a stage, as far as its report knows it."""
    part.joules = None if energy.value is None else float(energy.value)
    part.joules_partial = at_least(energy)
    part.joules_too_short = energy.text == TOO_SHORT
    part.joules_error = (part.joules or 0.0) * (error_pct.value or 0.0) / 100


def _add_up(facts: Facts) -> None:
    """The totals of the stages: children stand behind their parents, so the last comes first."""
    for stage in facts.stages.values():
        stage.total = replace(stage.own)
    for stage in reversed(facts.stages.values()):
        parent = facts.stages.get(stage.parent_path) if stage.parent_path else None
        if parent is not None and parent is not stage:
            parent.total.join(stage.total)


def _empty(priced: bool, energy: Figure | None, top_w: float | None) -> Quantities:
    """Nothing counted yet; where a run has no price, not even nothing has one."""
    money = 0 if priced else None
    joules = None if energy is None or energy.value is None else float(energy.value)
    partial = energy is not None and at_least(energy)
    return Quantities(
        pico=money, waste_pico=money, unknown_pico=money, joules=joules, joules_partial=partial, top_w=top_w
    )


def at_least(figure: Figure) -> bool:
    """Whether a figure of a report is only a lower bound."""
    return figure.text.startswith("≥")


def _ns(figure: Figure) -> int | None:
    return None if figure.value is None else round(figure.value * _NS)


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def gpu_keys(all_facts: Iterable[Facts]) -> list[dict[str, str]]:
    """For each run, its GPUs' UUIDs with a key that is the same in all of them.

    That is the UUID where every run held the same GPUs; else the model and the position among the GPUs of that model.
    """
    runs = [facts.gpus for facts in all_facts]
    if len({frozenset(gpu.uuid for gpu in gpus) for gpus in runs}) == 1:
        return [{gpu.uuid: gpu.uuid for gpu in gpus} for gpus in runs]
    keys = []
    for gpus in runs:
        seen: dict[str, int] = {}
        mine = {}
        for gpu in gpus:
            seen[gpu.name] = seen.get(gpu.name, -1) + 1
            mine[gpu.uuid] = f"{gpu.name}#{seen[gpu.name]}"
        keys.append(mine)
    return keys
