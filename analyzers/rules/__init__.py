"""Rules: what an analysis shows that somebody should look into, one file a rule.

To add one: write a module with a `RULE`, and name it in `RULES`. A rule reads an analysis and gives findings; its code never changes its
meaning, and `docs/findings.md` has a section on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpucost.analyzers.rules import hardware_error, pcie_link, thermal_slowdown

if TYPE_CHECKING:
    from gpucost.analyzers.model import Analysis
    from gpucost.analyzers.rules.contract import Finding, Rule

RULES: tuple[Rule, ...] = (thermal_slowdown.RULE, pcie_link.RULE, hardware_error.RULE)
"""Every rule, in order of its code."""


def findings_of(analysis: Analysis) -> list[tuple[Rule, Finding]]:
    """What the rules find, in order of the rules and then of the GPUs."""
    return [(rule, finding) for rule in RULES for finding in rule.find(analysis)]
