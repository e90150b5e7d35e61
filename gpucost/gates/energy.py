"""Gates on the energy of the GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpucost.gates import limits
from gpucost.gates.judging import at_most, grows_at_most
from gpucost.gates.model import Gate

if TYPE_CHECKING:
    from gpucost.gates.model import Evidence, Request
    from gpucost.report.comparison import GateResult


def energy(request: Request, evidence: Evidence) -> list[GateResult]:
    """The energy, at most."""
    return at_most("energy_j", "energy", request, evidence)


def energy_increase(request: Request, evidence: Evidence) -> list[GateResult]:
    """How much more energy than the baseline's, at most."""
    return grows_at_most("energy_j", "energy", request, evidence)


GATES = {
    "energy": Gate(energy, limits.energy, "with its unit, such as 1.5 kWh, at most"),
    "energy_increase": Gate(
        energy_increase, limits.or_ratio(limits.energy), "above the baseline, in percent or with a unit"
    ),
}
