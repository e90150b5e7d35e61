"""Gates on money."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpucost.gates import limits
from gpucost.gates.judging import at_most, grows_at_most
from gpucost.gates.model import Gate

if TYPE_CHECKING:
    from gpucost.gates.model import Evidence, Request
    from gpucost.report.comparison import GateResult


def cost(request: Request, evidence: Evidence) -> list[GateResult]:
    """What it cost, at most."""
    return at_most("cost_usd", "cost", request, evidence)


def cost_increase(request: Request, evidence: Evidence) -> list[GateResult]:
    """How much more it cost than the baseline, at most."""
    return grows_at_most("cost_usd", "cost", request, evidence)


GATES = {
    "cost": Gate(cost, limits.money, "US dollars, at most"),
    "cost_increase": Gate(cost_increase, limits.or_ratio(limits.money), "above the baseline, in percent or US dollars"),
}
