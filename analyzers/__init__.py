"""Analyses: pure functions from frames to frames, one file each.

`analyze` turns a recording into every figure but money, `cost` puts prices on its ledger. Importing this package is cheap: the arrays come
with the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpucost.analyzers.model import Analysis, Costs, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from gpucost.recording import Recording

__all__ = ["Analysis", "Costs", "Settings", "analyze", "cost"]

_DEFAULTS = Settings()


def analyze(recording: Recording, settings: Settings = _DEFAULTS) -> Analysis:
    """Every figure of a run but its money.

    Args:
        recording: the run; a table or column that is missing reads as unknown, never as an error.
        settings: how to analyze it.

    Raises:
        ValueError: `settings.idle_split` is not one of `owner`, `equal`, `none`.
    """
    from gpucost.analyzers import analysis

    return analysis.analyze(recording, settings)


def cost(analysis: Analysis, rates: Mapping[str, Decimal | None]) -> Costs:
    """The ledger in money, exactly.

    Args:
        analysis: the run.
        rates: US dollars per GPU-hour by UUID, a MIG device's fraction already applied. A GPU that is missing or None has no price, and its
            money is unknown.

    Raises:
        ValueError: a rate is negative or not finite.
    """
    from gpucost.analyzers import costs

    return costs.cost(analysis, rates)
