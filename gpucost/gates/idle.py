"""Gates on idle waste: gap, idle and empty time of the GPUs, as a share and in money."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpucost.gates import limits
from gpucost.gates.judging import at_most, grows_at_most
from gpucost.gates.model import Gate

if TYPE_CHECKING:
    from gpucost.gates.model import Evidence, Request
    from gpucost.report.comparison import GateResult


def idle_share(request: Request, evidence: Evidence) -> list[GateResult]:
    """The share of idle waste, at most."""
    return at_most("waste_pct", "idle share", request, evidence)


def idle_share_increase(request: Request, evidence: Evidence) -> list[GateResult]:
    """How much larger the share is than the baseline's, at most."""
    return grows_at_most("waste_pct", "idle share", request, evidence)


def idle_cost(request: Request, evidence: Evidence) -> list[GateResult]:
    """The money of idle waste, at most."""
    return at_most("waste_usd", "idle cost", request, evidence)


def idle_cost_increase(request: Request, evidence: Evidence) -> list[GateResult]:
    """How much more idle waste costs than the baseline's, at most."""
    return grows_at_most("waste_usd", "idle cost", request, evidence)


GATES = {
    "idle_share": Gate(idle_share, limits.share, "idle waste in percent of the cost, at most"),
    "idle_share_increase": Gate(
        idle_share_increase, limits.or_ratio(limits.points), "above the baseline, in percent of it or in points (pp)"
    ),
    "idle_cost": Gate(idle_cost, limits.money, "idle waste in US dollars, at most"),
    "idle_cost_increase": Gate(
        idle_cost_increase, limits.or_ratio(limits.money), "above the baseline, in percent or US dollars"
    ),
}
