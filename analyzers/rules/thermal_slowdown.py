"""GC301: heat held the clocks down for more than a hundredth of the time in which kernels ran."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gpucost.analyzers.rules.contract import Finding, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpucost.analyzers.model import Analysis

LEAST_SHARE = 0.01

_FEWEST_SAMPLES = 5
"""Fewer ticks that say so are no finding: a tick is a snapshot."""


def find(analysis: Analysis) -> Iterator[Finding]:
    """GPUs that were too hot to run at full clocks."""
    frame = analysis.held_back
    for row in frame[frame["cause"] == "thermal"].to_dict("records"):
        uuid, held_ns = str(row["gpu_uuid"]), float(row["held_back_ns"])
        facts = analysis.gpus.loc[uuid].to_dict()
        at_work_ns = int(facts["busy_ns"]) + int(facts["foreign_ns"])
        if math.isnan(held_ns) or not held_ns or held_ns <= LEAST_SHARE * at_work_ns:
            continue
        if row["basis"] == "sampled" and held_ns < _FEWEST_SAMPLES * row["covered_ns"] / row["samples"]:
            continue
        hottest = float(facts["temperature_max_c"])
        heat = "" if math.isnan(hottest) else f"; up to {hottest:.0f} °C"
        of_work = f", {held_ns / at_work_ns:.1%} of the time in which kernels ran" if at_work_ns > held_ns else ""
        yield Finding(
            uuid,
            f"heat held the clocks down for {held_ns / 1e9:,.1f} s{of_work}",
            ("the driver's counter" if row["basis"] == "counter" else f"{int(row['samples']):,} samples") + heat,
            round(held_ns),
        )


RULE = Rule(
    "GC301",
    "thermal-slowdown",
    "look at air flow, fans and the inlet temperature, or lower the power limit: a GPU that is kept cool does the same work sooner",
    find,
)
