"""What stages say of their own work (`flops`, `tokens`), against the time, the energy and the cards that it took.

MFU, the model FLOP utilization of PaLM (arXiv 2204.02311, appendix B): the FLOP that the program needed, over what its GPUs could have done in the time
that the stage was charged for. Against the book's dense peak, and against what the card itself was measured to sustain.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gpucost.analyzers.arrays import texts, times
from gpucost.analyzers.model import PATH_SEPARATOR
from gpucost.analyzers.stages import read_spans

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpucost.analyzers.model import Analysis
    from gpucost.recording import Recording

USUAL_DTYPE = "bf16"
DTYPES = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8_e4m3", "int8")
_ALIASES = {"fp8": "fp8_e4m3", "float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}
_MOST = 1e30


@dataclass(frozen=True, slots=True)
class Rates:
    """What one card can do, TFLOP/s by dtype.

    Attributes:
        book: the vendor's dense peak.
        measured: the profile's sustained rate, with the ends of its interval: (low, rate, high).
    """

    book: Mapping[str, float]
    measured: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class Work:
    """The stated work of one stage path.

    Attributes:
        stage_path: the path; its sub-stages' time is in it, and what they state is not.
        flops, tokens: sums over its finished spans, None where none states them.
        spans, stated: how many finished spans there are, and how many of them state any work.
        dtype: the precision that the MFU is of; `dtype_assumed` where no span says it.
        gpu_time_ns: GPU time that the path and its sub-stages were charged for, by UUID.
        wall_ns: the union of its spans.
        energy_j: of that GPU time, None where unknown or (`energy_too_short`) where the spans are too short for the sensor to tell.
        energy_error_pct: how far it is known, None where that is not known.
        tflops: flops over GPU time, per GPU.
        mfu_book: share of the book's peak, None where a card's peak is not known.
        mfu_measured: share of the measured ceiling, with its range; None where a card has no profile with this dtype.
    """

    stage_path: str
    flops: float | None
    tokens: float | None
    spans: int
    stated: int
    dtype: str
    dtype_assumed: bool
    gpu_time_ns: Mapping[str, int]
    wall_ns: int
    energy_j: float | None
    energy_error_pct: float | None = None
    energy_too_short: bool = False
    tflops: float | None = None
    mfu_book: float | None = None
    mfu_measured: tuple[float, float, float] | None = None


def stated_work(recording: Recording, analysis: Analysis, rates: Mapping[str, Rates]) -> list[Work]:
    """The work that stages state, in the order of the analysis; empty where none states any.

    Spans that were cut off state what they meant to do, not what they did, and are left out.
    """
    frame = recording.frames.get("stage")
    if frame is None or not len(frame) or "attributes" not in frame.columns:
        return []
    attributes = _attributes(recording)
    if not any({"flops", "tokens"} & one.keys() for one in attributes):
        return []
    spans = read_spans(recording)
    by_path: dict[str, list[dict[str, Any]]] = {}
    for span, stated in enumerate(attributes):
        if not spans.truncated[span]:
            by_path.setdefault(spans.paths[int(spans.path[span])].text, []).append(stated)
    return [
        _of_path(str(path), by_path[path], analysis, rates)
        for path in analysis.stages["stage_path"]
        if any({"flops", "tokens"} & one.keys() for one in by_path.get(path, []))
    ]


def _attributes(recording: Recording) -> list[dict[str, Any]]:
    """What each span states, in the order of `read_spans`; only numbers that can be amounts of work, and a known dtype."""
    frame = recording.frames["stage"]
    start, started = times(frame, "start_t_ns")
    rows = np.flatnonzero(started)
    rows = rows[np.argsort(start[rows], kind="stable")]
    column = texts(frame, "attributes")
    return [_stated(column[row]) for row in rows.tolist()]


def _stated(text: str | None) -> dict[str, Any]:
    try:
        given = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(given, dict):
        return {}
    found: dict[str, Any] = {}
    for name in ("flops", "tokens"):
        value = given.get(name)
        if (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
            and 0 < value < _MOST
        ):
            found[name] = float(value)
    dtype = given.get("dtype")
    dtype = _ALIASES.get(dtype, dtype) if isinstance(dtype, str) else None
    if dtype in DTYPES:
        found["dtype"] = dtype
    return found


def _of_path(path: str, stated: Sequence[dict[str, Any]], analysis: Analysis, rates: Mapping[str, Rates]) -> Work:
    dtypes = {one["dtype"] for one in stated if "dtype" in one}
    dtype = next(iter(dtypes)) if len(dtypes) == 1 else USUAL_DTYPE
    below = analysis.ledger["stage_path"]
    mine = analysis.ledger[(below == path) | below.str.startswith(path + PATH_SEPARATOR)]
    gpu_time = {str(uuid): int(ns) for uuid, ns in mine.groupby("gpu_uuid", sort=False)["duration_ns"].sum().items()}
    row = analysis.stages[analysis.stages["stage_path"] == path].iloc[0]
    energy, error = float(row["total_energy_j"]), float(row.get("energy_error_pct", math.nan))
    too_short = bool(row.get("energy_too_short", False))
    work = Work(
        stage_path=path,
        flops=_sum(stated, "flops"),
        tokens=_sum(stated, "tokens"),
        spans=len(stated),
        stated=sum(1 for one in stated if {"flops", "tokens"} & one.keys()),
        dtype=dtype,
        dtype_assumed=len(dtypes) != 1,
        gpu_time_ns=gpu_time,
        wall_ns=int(row["wall_ns"]),
        energy_j=energy if math.isfinite(energy) and not too_short else None,
        energy_error_pct=error if math.isfinite(error) and not too_short else None,
        energy_too_short=too_short,
    )
    return _with_rates(work, rates)


def _sum(stated: Sequence[dict[str, Any]], name: str) -> float | None:
    values = [one[name] for one in stated if name in one]
    return math.fsum(values) if values else None


def _with_rates(work: Work, rates: Mapping[str, Rates]) -> Work:
    from dataclasses import replace

    total_s = sum(work.gpu_time_ns.values()) / 1e9
    if work.flops is None or total_s <= 0:
        return work
    book = _possible(work, {uuid: one.book.get(work.dtype) for uuid, one in rates.items()})
    measured = [_possible(work, {uuid: _end(one, work.dtype, end) for uuid, one in rates.items()}) for end in range(3)]
    low, middle, high = (None if one is None else work.flops / one for one in reversed(measured))
    return replace(
        work,
        tflops=work.flops / total_s / 1e12,
        mfu_book=None if book is None else work.flops / book,
        mfu_measured=None if low is None or middle is None or high is None else (low, middle, high),
    )


def _end(rates: Rates, dtype: str, end: int) -> float | None:
    found = rates.measured.get(dtype)
    return None if found is None else found[end]


def _possible(work: Work, tflops: Mapping[str, float | None]) -> float | None:
    """FLOP that the stage's GPU time could have held; None where a card's rate is not known."""
    total = 0.0
    for uuid, ns in work.gpu_time_ns.items():
        rate = tflops.get(uuid)
        if rate is None:
            return None
        total += rate * 1e12 * ns / 1e9
    return total or None
