"""GC302: under load, the PCIe link was slower than card and slot can be together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gpucost.analyzers.rules.contract import Finding, Rule

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from gpucost.analyzers.model import Analysis

LEAST_SHARE = 0.5
"""Of the readings under load: a link trains for a moment now and then."""

FEWEST_READINGS = 3


def find(analysis: Analysis) -> Iterator[Finding]:
    """GPUs whose link was below its maximum in most readings under load."""
    for uuid, row in analysis.links.to_dict("index").items():
        below = max((row[name] for name in ("gen_below", "width_below") if not math.isnan(row[name])), default=0.0)
        if row["readings"] >= FEWEST_READINGS and below > LEAST_SHARE:
            now = " ".join(_part(row, name, sign) for name, sign in (("gen", "gen "), ("width", "x")))
            best = " ".join(_part(row, f"{name}_max", sign) for name, sign in (("gen", "gen "), ("width", "x")))
            yield Finding(
                str(uuid),
                f"the PCIe link ran at {now} under load, and card and slot can do {best}",
                f"{below:.0%} of {int(row['readings']):,} readings while kernels ran",
            )


def _part(row: Mapping[Hashable, float], name: str, sign: str) -> str:
    return f"{sign}?" if math.isnan(row[name]) else f"{sign}{row[name]:.0f}"


RULE = Rule(
    "GC302",
    "pcie-link-below-maximum",
    "seat the card anew, and look at risers, slot bifurcation and the BIOS's link speed",
    find,
)
