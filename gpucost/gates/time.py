"""Gates on time: held GPU time, and how long it took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpucost.gates import limits
from gpucost.gates.judging import at_most, grows_at_most
from gpucost.gates.model import Gate

if TYPE_CHECKING:
    from gpucost.gates.model import Evidence, Request
    from gpucost.report.comparison import GateResult


def gpu_hours(request: Request, evidence: Evidence) -> list[GateResult]:
    """Held GPU time, at most."""
    return at_most("gpu_time_s", "GPU time", request, evidence)


def gpu_hours_increase(request: Request, evidence: Evidence) -> list[GateResult]:
    """How much more GPU time than the baseline, at most."""
    return grows_at_most("gpu_time_s", "GPU time", request, evidence)


def duration(request: Request, evidence: Evidence) -> list[GateResult]:
    """How long it took, at most; of a stage, the time in which any of its spans was open."""
    return at_most("duration_s", "duration", request, evidence)


def duration_increase(request: Request, evidence: Evidence) -> list[GateResult]:
    """How much longer than the baseline, at most."""
    return grows_at_most("duration_s", "duration", request, evidence)


GATES = {
    "gpu_hours": Gate(gpu_hours, limits.gpu_hours, "held GPU time in hours, at most"),
    "gpu_hours_increase": Gate(
        gpu_hours_increase, limits.or_ratio(limits.gpu_hours), "above the baseline, in percent or hours"
    ),
    "duration": Gate(duration, limits.duration, "seconds or a time such as 10m, at most"),
    "duration_increase": Gate(
        duration_increase, limits.or_ratio(limits.duration), "above the baseline, in percent or as a time"
    ),
}
