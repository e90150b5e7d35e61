"""A recording, its analysis and its money, put into one report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpucost.analyzers.model import NO_STAGE
from gpucost.report.efficiency import efficiency_of
from gpucost.report.gpus import gpus_of
from gpucost.report.header import run_of, total_of, uses_of
from gpucost.report.material import Material, gather
from gpucost.report.model import Carbon, Cell, Report
from gpucost.report.quality import prices_of, quality_of
from gpucost.report.rounding import exact_usd
from gpucost.report.slow import findings_of, slow_of
from gpucost.report.split import Split
from gpucost.report.stages import stages_of
from gpucost.report.text import count, grams
from gpucost.report.timeline import timeline_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpucost.analyzers.model import Analysis, Costs, Settings
    from gpucost.bench.model import Profile
    from gpucost.carbon import Intensity
    from gpucost.prices import Quote
    from gpucost.recording import Recording


def build(
    recording: Recording,
    analysis: Analysis,
    costs: Costs,
    quotes: Mapping[str, Quote | None],
    settings: Settings,
    *,
    intensity: Intensity | None = None,
    pue: float | None = None,
    profiles: Mapping[str, Profile] | None = None,
) -> Report:
    """The report of one run; the same arguments give the same report.

    Args:
        recording: what was recorded.
        analysis: its figures but for money, made with `settings`.
        costs: the ledger in money, made with the amounts of `quotes`.
        quotes: the price of each GPU, None where unknown.
        settings: how the analysis was made.
        intensity: of the electricity grid; None leaves CO2e out.
        pue: power usage effectiveness; None takes `gpucost.carbon.ASSUMED_PUE` and says so.
        profiles: benchmark profiles of the held GPUs, by UUID.
    """
    material = gather(recording, analysis, costs, quotes, settings)
    split = Split(material, material.cube.run)
    gpus, gpus_folded = gpus_of(material)
    stages, stages_folded = stages_of(material)
    return Report(
        run=run_of(material),
        total=total_of(material, split, _note(material)),
        shares_of="cost" if material.cube.by_money else "gpu_time",
        uses=uses_of(material, split),
        gpus=gpus,
        gpus_folded=gpus_folded,
        stages=stages,
        stages_folded=stages_folded,
        marked_stages=any(row.path != NO_STAGE for row in stages),
        timeline=timeline_of(material, stages),
        carbon=_carbon(material, intensity, pue),
        quality=quality_of(material, gpus, stages),
        quotes={uuid: quote.to_json() for uuid, quote in quotes.items() if quote is not None},
        ledger=[
            Cell(
                entry.gpu_uuid,
                entry.stage_path,
                entry.use,
                entry.ns,
                None if entry.pico is None else exact_usd(entry.pico),
            )
            for entry in material.cube.entries
        ],
        efficiency=efficiency_of(material, profiles or {}),
        slow=slow_of(material),
        findings=findings_of(material),
        settings={"idle_after_s": settings.idle_after_ns / 1e9, "idle_split": settings.idle_split},
    )


def _note(material: Material) -> str:
    """Why the run's money is unknown or not all of it."""
    if not material.held:
        return "no GPU was held: only stages, processes and the machine were recorded"
    missing = [price for price in prices_of(material) if price.amount_usd is None]
    if not missing:
        return ""
    which = "; ".join(f"{', '.join(price.gpus)}: {price.note}" for price in missing)
    if not material.cube.partial:
        return f"the cost is unknown. {which}"
    number = sum(len(price.gpus) for price in missing)
    return f"{count(number, 'GPU')} without a price, whose cost is not in these sums. {which}"


def _carbon(material: Material, intensity: Intensity | None, pue: float | None) -> Carbon | None:
    if intensity is None:
        return None
    from gpucost.carbon import ASSUMED_PUE, co2e_g
    from gpucost.report.model import UNKNOWN, Figure

    factor = ASSUMED_PUE if pue is None else pue
    joules = material.energy_j
    return Carbon(
        co2e_g=Figure(None, UNKNOWN) if joules is None else grams(co2e_g(joules, intensity, factor)),
        region=intensity.code,
        region_name=intensity.name,
        intensity_g_per_kwh=intensity.g_per_kwh,
        year=intensity.year,
        source=intensity.source,
        pue=factor,
        pue_assumed=pue is None,
    )
