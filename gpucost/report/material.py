"""What a report is made from, and the scales and labels all its parts share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpucost.report.rounding import MoneyScale
from gpucost.report.tally import Cube
from gpucost.report.text import EnergyScale, TimeScale, known

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpucost.analyzers.model import Analysis, Costs, Settings
    from gpucost.manifest import Gpu
    from gpucost.prices import Quote
    from gpucost.recording import Recording


@dataclass(frozen=True, slots=True)
class Material:
    """One run's recording, analysis and money.

    Attributes:
        held: the held GPUs, in the manifest's order.
        labels: a short and unique name for each of them, by UUID.
        energy_j: of all held GPUs, None where none is known; `energy_partial` when some of it is not known.
    """

    recording: Recording
    analysis: Analysis
    quotes: Mapping[str, Quote | None]
    settings: Settings
    cube: Cube
    held: list[Gpu]
    labels: dict[str, str]
    money: MoneyScale
    time: TimeScale
    energy: EnergyScale
    energy_j: float | None
    energy_partial: bool

    def gpu(self, uuid: str) -> Mapping[Any, Any]:
        """A GPU's row of `analysis.gpus`."""
        return self.analysis.gpus.loc[uuid].to_dict()

    def gpu_energy(self, uuid: str) -> Mapping[Any, Any]:
        """A GPU's row of `analysis.energy_gpus`, empty where there is none."""
        frame = self.analysis.energy_gpus
        return frame.loc[uuid].to_dict() if uuid in frame.index else {}

    def energy_is_partial(self, uuid: str) -> bool:
        """Whether a GPU's energy stands for less than the time it was held (a thousandth is let pass)."""
        covered = known(self.gpu_energy(uuid).get("covered_ns"))
        held = known(self.gpu(uuid).get("held_ns")) or 0.0
        return covered is not None and covered < held * 0.999


def gather(
    recording: Recording, analysis: Analysis, costs: Costs, quotes: Mapping[str, Quote | None], settings: Settings
) -> Material:
    """Put together what the parts of a report share."""
    cube = Cube(costs.ledger, costs.unpriced)
    held = [gpu for gpu in recording.manifest.gpus if gpu.uuid in analysis.gpus.index]
    total = cube.run.of()
    frame = analysis.energy_gpus
    energies = [known(frame.loc[gpu.uuid]["energy_j"]) if gpu.uuid in frame.index else None for gpu in held]
    sums = [joules for joules in energies if joules is not None]
    energy_j = sum(sums) if sums else None
    material = Material(
        recording=recording,
        analysis=analysis,
        quotes=quotes,
        settings=settings,
        cube=cube,
        held=held,
        labels=_labels(held),
        money=MoneyScale.of(cube.pico(total)),
        time=TimeScale.of(total.ns),
        energy=EnergyScale.of(energy_j),
        energy_j=energy_j,
        energy_partial=len(sums) < len(energies),
    )
    if any(material.energy_is_partial(gpu.uuid) for gpu in held):
        from dataclasses import replace

        return replace(material, energy_partial=True)
    return material


def _labels(gpus: list[Gpu]) -> dict[str, str]:
    several_hosts = len({gpu.host for gpu in gpus}) > 1
    labels: dict[str, str] = {}
    for gpu in gpus:
        label = f"gpu{gpu.index}" if gpu.index is not None else short_uuid(gpu.uuid)
        if gpu.mig_profile:
            label = f"{label}:{gpu.mig_profile}"
        labels[gpu.uuid] = f"{gpu.host}/{label}" if several_hosts and gpu.host else label
    seen = list(labels.values())
    return {uuid: label if seen.count(label) == 1 else f"{label} {short_uuid(uuid)}" for uuid, label in labels.items()}


def short_uuid(uuid: str) -> str:
    """The first block of a UUID (`GPU-1a2b3c4d`)."""
    kind, dash, rest = uuid.partition("-")
    return f"{kind}-{rest.split('-')[0]}" if dash else uuid
