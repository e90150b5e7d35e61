"""GC303: the GPU's hardware or driver reported an error that software did not put right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpucost.analyzers.rules.contract import Finding, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpucost.analyzers.model import Analysis

_PUT_RIGHT = ("was corrected", "many single-bit", "was taken out of use")
"""What the messages of events say that need no action: corrected errors, and memory that was replaced."""


def find(analysis: Analysis) -> Iterator[Finding]:
    """GPUs with XID errors, errors of memory that were not corrected, or that went away."""
    for row in analysis.hardware.to_dict("records"):
        message = str(row["message"])
        if not any(text in message for text in _PUT_RIGHT):
            times = f", {row['count']} times" if row["count"] > 1 else ""
            yield Finding(
                str(row["gpu_uuid"]),
                message or str(row["kind"]),
                f"the driver's event {row['kind']}{times}, first after {row['first_ns'] / 1e9:,.1f} s",
            )


RULE = Rule(
    "GC303",
    "hardware-error",
    "look the XID up in NVIDIA's catalogue; where it is not the program's own, run the GPU's diagnostics before it is trusted with more work",
    find,
)
