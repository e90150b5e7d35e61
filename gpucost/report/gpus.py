"""The table by GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpucost.analyzers.model import WASTE
from gpucost.report.model import Figure, Folded, GpuRow, Money
from gpucost.report.rounding import add
from gpucost.report.split import Split
from gpucost.report.tally import Uses
from gpucost.report.text import absent, degrees, duration, known, percent, size, watts

if TYPE_CHECKING:
    from gpucost.manifest import Gpu
    from gpucost.report.material import Material

MAX_SHOWN = 16
"""GPUs in tables for people; the rest is summed up in one row."""


def gpus_of(material: Material) -> tuple[list[GpuRow], Folded | None]:
    """Every held GPU, and the sum of those beyond the shown."""
    sums = [material.cube.gpus.get(gpu.uuid, Uses()) for gpu in material.held]
    tallies = [uses.of() for uses in sums]
    picos = [material.cube.pico(tally) for tally in tallies]
    joules = [known(material.gpu_energy(gpu.uuid).get("energy_j")) for gpu in material.held]
    time_units = material.time.units([tally.ns for tally in tallies])
    money_units = material.money.column(picos)
    energy_units = material.energy.units(joules)
    rows = []
    for number, gpu in enumerate(material.held):
        partial = material.energy_is_partial(gpu.uuid)
        rows.append(
            _row(
                material,
                gpu,
                Split(material, sums[number]),
                held=material.time.figure(tallies[number].ns, time_units[number]),
                money=material.money.money(picos[number], money_units[number]),
                energy=material.energy.figure(joules[number], energy_units[number], at_least=partial),
                shown=number < MAX_SHOWN,
            )
        )
    if len(rows) <= MAX_SHOWN:
        return rows, None
    rest = slice(MAX_SHOWN, None)
    rest_joules = [value for value in joules[rest] if value is not None]
    folded = Folded(
        count=len(rows) - MAX_SHOWN,
        time_s=material.time.figure(sum(tally.ns for tally in tallies[rest]), sum(time_units[rest])),
        money=material.money.money(add(picos[rest]), add(money_units[rest])),
        energy_j=material.energy.figure(sum(rest_joules) if rest_joules else None, add(energy_units[rest])),
    )
    return rows, folded


def _row(
    material: Material, gpu: Gpu, split: Split, *, held: Figure, money: Money, energy: Figure, shown: bool
) -> GpuRow:
    facts = material.gpu(gpu.uuid)
    return GpuRow(
        uuid=gpu.uuid,
        label=material.labels[gpu.uuid],
        name=gpu.name,
        host=gpu.host,
        index=gpu.index,
        simulated=gpu.simulated,
        mig_profile=gpu.mig_profile,
        held_s=held,
        busy_pct=split.percent("busy", least=True),
        waste_pct=split.percent(*WASTE, least=True),
        foreign_pct=split.percent("foreign"),
        unknown_pct=split.percent("unknown"),
        money=money,
        waste=split.money(*WASTE),
        energy_j=energy,
        util_mean_pct=_percent(facts.get("util_mean_pct")),
        power_mean_w=watts(known(facts.get("power_mean_w"))),
        power_max_w=watts(known(facts.get("power_max_w"))),
        memory_peak_bytes=size(known(facts.get("memory_peak_bytes"))),
        temperature_max_c=degrees(known(facts.get("temperature_max_c"))),
        coverage_pct=_percent(facts.get("coverage"), of=1.0),
        samples=_whole(facts.get("samples")),
        gaps=_whole(facts.get("gaps")),
        longest_gap_s=duration(_whole(facts.get("longest_gap_ns"))) if _whole(facts.get("gaps")) else absent(),
        holding_basis=str(facts.get("holding_basis") or "none"),
        energy_basis=str(material.gpu_energy(gpu.uuid).get("basis") or "unknown"),
        shown=shown,
    )


def _percent(value: Any, of: float = 100.0) -> Figure:
    number = known(value)
    return percent(None if number is None else number / of)


def _whole(value: Any) -> int:
    return int(known(value) or 0)
