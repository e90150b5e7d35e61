"""What makes a figure valid, apart from its being stable: nobody else was there, it is possible, it is in order with its neighbours, and it is right.

A busy neighbour can make a very steady wrong rate, so none of this asks how steady a series is. Pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gpucost.bench.model import CONTENDED, NOT_MONOTONE, TOO_HIGH, TOO_LOW, WRONG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpucost.bench.model import Result
    from gpucost.schema import GpuRow

HIGH = 1.02
"""Above this share of what is theoretically possible, something was not computed, not moved, or counted in the wrong unit."""

LOW = 0.2
"""Below this share, it was not this device that was measured, or not by itself."""

IDLE_UTILIZATION_PCT = 5.0
IDLE_POWER = 1.10
MONOTONE = 0.95
"""A rate may fall this much short of one that it should exceed: two measurements differ a little, an order does not turn."""

HOST_SHARE = 0.95
"""A device that was less busy than this while windows were queued back to back was waiting for its host."""

HOST_PRESSURE = 0.10
"""Share of the time in which some task waited for a core (pressure stall information); above it, figures that the host makes are not the host's own."""

MIN_CLEAN = 5
"""Clean windows below which a CPU figure says nothing of the machine."""

RELATIVE_ERRORS = {
    "fp64": 1e-12,
    "fp32": 1e-5,
    "tf32": 1e-3,
    "fp16": 2e-3,
    "bf16": 1e-2,
    "fp8_e4m3": 1e-2,
    "int8": 0.0,
}
"""Largest relative Frobenius error against fp64 of the same rounded inputs; correct products measure 4 to 50 times less (docs/bench.md)."""

FREIVALDS_FACTOR = 5.0
"""The largest of thousands of row errors is some five times their root mean square, where all is well."""

STREAM_ERROR = 1e-5
"""Largest relative error of a streaming kernel."""


@dataclass(slots=True)
class Look:
    """What was seen on a device before anything of ours ran on it.

    Attributes:
        known: the driver could be asked; without it, nobody can be ruled out.
        reasons: why the device is not free, one line each.
        idle_w: median power, and `idle_samples` how many readings that is.
    """

    known: bool
    reasons: list[str] = field(default_factory=list)
    idle_w: float | None = None
    idle_samples: int = 0

    @property
    def verdict(self) -> str:
        """`none`, `found` or `unknown`."""
        if self.reasons:
            return "found"
        return "none" if self.known else "unknown"


def before(rows: Sequence[GpuRow], foreign: set[int], *, listed: bool, known_idle_w: float | None) -> Look:
    """Judge a device by a look of a second or more.

    Args:
        rows: samples of the device.
        foreign: processes on it (none of them can be ours yet).
        listed: whether the driver lists processes here.
        known_idle_w: what the device drew when an earlier benchmark found it idle, if there was one. It counts where processes or activity cannot be
            seen: otherwise a card that has just worked, and is still warm, would be taken for a shared one.
    """
    reasons = []
    if foreign:
        reasons.append(f"other processes are on it ({_some(sorted(foreign))})")
    utilization = _median([row.gpu_util_pct for row in rows])
    if utilization is not None and utilization > IDLE_UTILIZATION_PCT:
        reasons.append(f"it is {utilization:.0f} % busy before anything was started")
    power = [row.power_w for row in rows if row.power_w is not None]
    middle = _median(power)
    unseen = not listed or utilization is None
    if unseen and known_idle_w and middle is not None and middle > IDLE_POWER * known_idle_w:
        reasons.append(f"it draws {middle:.0f} W; idle it drew {known_idle_w:.0f} W")
    return Look(bool(rows) and (listed or utilization is not None), reasons, middle, len(power))


def _some(pids: Sequence[int]) -> str:
    shown = ", ".join(str(pid) for pid in pids[:3])
    return f"pid {shown}" if len(pids) <= 3 else f"pids {shown} and {len(pids) - 3} more"  # noqa: PLR2004


def _median(values: Sequence[float | None]) -> float | None:
    import statistics

    present = [value for value in values if value is not None]
    return float(statistics.median(present)) if present else None


def plausible(rate: float, most: float | None, *, slow_by_nature: bool = False) -> list[str]:
    """Flags of a rate against the most that is theoretically possible; none where that is not known, and only the upper one for what is meant to be slow."""
    if most is None or most <= 0:
        return []
    if rate > HIGH * most:
        return [TOO_HIGH]
    return [TOO_LOW] if rate < LOW * most and not slow_by_nature else []


def numerics(kind: str, errors: Mapping[str, Any]) -> list[str]:
    """Flags of what was computed.

    Args:
        kind: a dtype of `RELATIVE_ERRORS`, or `stream` for copies and streaming kernels.
        errors: `error_fp64` and, for products, `error_freivalds`; null means that the proof failed altogether.
    """
    limit = RELATIVE_ERRORS.get(kind, STREAM_ERROR)
    limits = {"error_fp64": limit, "error_freivalds": FREIVALDS_FACTOR * limit}
    return [WRONG] if any(value is None or not value <= limits[name] for name, value in errors.items()) else []


def disturbed_device(host_share: float | None, *, host_bound: bool, pressure: float | None) -> list[str]:
    """Flags of a device test: a device that waited for its host, and a host under pressure where it is the host that is timed."""
    starved = host_share is not None and host_share < HOST_SHARE
    pressed = host_bound and pressure is not None and pressure > HOST_PRESSURE
    return [CONTENDED] if starved or pressed else []


def disturbed_cpu(clean: int) -> list[str]:
    """Flags of a CPU test: too few windows in which no core was taken away."""
    return [CONTENDED] if clean < MIN_CLEAN else []


# (what should be at least as fast, than what); on a CPU only the second part holds: whether bf16 beats fp32 there is a matter of the model.
_DEVICE_ORDER = (
    ("gemm.bf16", "gemm.tf32"),
    ("gemm.fp16", "gemm.tf32"),
    ("gemm.tf32", "gemm.fp32"),
    ("gemm.fp8_e4m3", "gemm.bf16"),
)
_ANY_ORDER = (("mem.triad.cache", "mem.triad"), ("gemm.fp32", "gemm.fp32.1thread"))


def out_of_order(results: Mapping[str, Result], *, device: bool) -> list[tuple[str, str]]:
    """Pairs of tests whose rates are the wrong way round; which of the two is wrong cannot be told, so both fail.

    Emulated dtypes and results that failed another gate are left out.
    """
    found = []
    for fast, slow in (*(_DEVICE_ORDER if device else ()), *_ANY_ORDER):
        one, other = results.get(fast), results.get(slow)
        if one is None or other is None or not (one.valid and other.valid):
            continue
        if "emulated" in one.flags or one.sustained is None or other.sustained is None:
            continue
        if one.sustained < MONOTONE * other.sustained:
            found.append((fast, slow))
    return found


_CEILINGS = ("gemm", "mem", "link", "launch")


def close(results: Sequence[Result], *, device: bool) -> None:
    """Flag what is out of order, and say of every result whether it may be a ceiling. Changes the results."""
    by_id = {one.id: one for one in results}
    for pair in out_of_order(by_id, device=device):
        for name in pair:
            if NOT_MONOTONE not in by_id[name].flags:
                by_id[name].flags.append(NOT_MONOTONE)
            by_id[name].message = f"{pair[0]} should not be slower than {pair[1]}"
    for one in results:
        measured = one.id.split(".")[0] in _CEILINGS and one.data in (None, "randn")
        one.ceiling = measured and one.valid and one.sustained is not None
