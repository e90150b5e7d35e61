"""The ledger in money, exactly: a cell costs its duration times its GPU's rate, and the cells add up to the run's cost."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import pandas as pd

from gpucost.analyzers.model import Costs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpucost.analyzers.model import Analysis

NS_PER_HOUR = 3_600_000_000_000


def cost(analysis: Analysis, rates: Mapping[str, Decimal | None]) -> Costs:
    """Price every cell of the ledger.

    Args:
        analysis: the run.
        rates: US dollars per GPU-hour by UUID, a MIG device's fraction already applied. A GPU that is missing or None has no price, and its
            money is unknown.

    Raises:
        ValueError: a rate is negative or not finite.
    """
    per_ns: dict[str, Fraction] = {}
    for uuid in analysis.gpus.index:
        rate = rates.get(uuid)
        if rate is not None:
            per_ns[uuid] = _per_ns(uuid, rate)
    cells = zip(analysis.ledger["gpu_uuid"].tolist(), analysis.ledger["duration_ns"].tolist(), strict=True)
    amounts = [per_ns[uuid] * duration if uuid in per_ns else None for uuid, duration in cells]
    held = {str(uuid): int(ns) for uuid, ns in analysis.gpus["held_ns"].items()}
    return Costs(
        ledger=analysis.ledger.assign(cost_usd=pd.Series(amounts, index=analysis.ledger.index, dtype=object)),
        total_usd=sum((rate * held[uuid] for uuid, rate in per_ns.items()), Fraction(0)) if per_ns else None,
        unpriced=[uuid for uuid in held if uuid not in per_ns],
    )


def _per_ns(uuid: str, rate: Decimal) -> Fraction:
    if not Decimal(rate).is_finite() or rate < 0:
        raise ValueError(f"the rate of {uuid} is not a price: {rate}")
    return Fraction(rate) / NS_PER_HOUR
