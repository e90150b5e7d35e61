"""Why a GPU was slow: time in which something held its clocks down, its PCIe link under load, and what its hardware reported.

The driver's own counters say how long the clocks were held down; where it has none, the reasons read at each tick are samples of it. A
link slows down when nothing is to be carried, so only readings between two readings with kernels say what it is. What was not
measured is unknown, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpucost.analyzers.arrays import known_floats, table, texts, times
from gpucost.analyzers.timeline import partition

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from gpucost.analyzers.arrays import BoolArray, FloatArray, IntArray
    from gpucost.manifest import Gpu

COUNTER, SAMPLED, UNKNOWN = "counter", "sampled", "unknown"


class Cause(NamedTuple):
    """Something that holds clocks down: the counters of its time, and the bits of NVML's clock-event reasons that mean it."""

    counters: tuple[str, ...]
    bits: int


CAUSES = {
    "power_cap": Cause(("sw_power_cap_ns",), 0x4),
    "thermal": Cause(("sw_thermal_ns", "hw_thermal_ns"), 0x20 | 0x40),
    "power_brake": Cause(("hw_power_brake_ns",), 0x80),
    "sync_boost": Cause(("sync_boost_ns",), 0x10),
}
"""`HwSlowdown` (0x8) is in none: NVML sets it at changes of the clocks too, and its causes have bits of their own."""

HARDWARE_EVENTS = ("xid", "ecc_error", "row_remap", "gpu_unavailable", "gpu_recovery", "gpu_lost")
"""Kinds of the table `event` that tell of the hardware's state."""

_LEAP_NS = 2_000_000_000
"""A counter that grew by this much more than the time that passed did not count time."""

_LARGEST = 2.0**62  # what is larger is no reading, and no int64 either
_NOTHING = (np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class HeldBack:
    """How long one cause held one GPU's clocks down.

    Attributes:
        cause: of `CAUSES`.
        held_back_ns: NaN where unknown.
        covered_ns: time of the run that this stands for.
        basis: `counter`, `sampled` or `unknown`.
        samples: readings that it rests on.
    """

    cause: str
    held_back_ns: float
    covered_ns: int
    basis: str
    samples: int


@dataclass(frozen=True, slots=True)
class Link:
    """One GPU's PCIe link under load.

    Attributes:
        readings: taken under load, with generation or width.
        gen: the generation seen most often, NaN where unknown; likewise `width` in lanes.
        gen_below: share (0 to 1) of the readings below the most that card and slot can do together, NaN where either is unknown; likewise
            `width_below`.
    """

    readings: int
    gen: float
    width: float
    gen_below: float
    width_below: float


@dataclass(frozen=True, slots=True)
class Slow:
    """What one GPU adds."""

    held_back: list[HeldBack]
    link: Link


class Readings(NamedTuple):
    """The known readings of one column, in time order."""

    t_ns: IntArray
    read: FloatArray

    def at(self, t_ns: IntArray) -> FloatArray:
        """The reading of each of these moments, NaN where there is none."""
        place = np.minimum(np.searchsorted(self.t_ns, t_ns), max(len(self.t_ns) - 1, 0))
        if not len(self.t_ns):
            return np.full(len(t_ns), np.nan)
        return np.where(self.t_ns[place] == t_ns, self.read[place], np.nan)


def slow_of(frame: pd.DataFrame, rows: IntArray, gpu: Gpu, period_ns: int, end_ns: int) -> Slow:
    """Why one GPU was slow.

    Args:
        frame: the table `gpu`.
        rows: the row numbers of this GPU.
        gpu: as the manifest has it.
        period_ns: its sampling period.
        end_ns: the run's length.
    """
    t_ns, known = times(frame, "t_ns", rows)
    if not known.all():
        rows, t_ns = rows[known], t_ns[known]

    def read(column: str, low: float = 0) -> Readings:
        """The known readings of a column, in time order, the first of each moment."""
        at, values = known_floats(frame, column, rows, low=low, high=_LARGEST)
        moments = t_ns[at]
        if (moments[1:] > moments[:-1]).all():
            return Readings(moments, values)
        order = np.argsort(moments, kind="stable")
        order = order[np.append(True, np.diff(moments[order]) > 0)]
        return Readings(moments[order], values[order])

    counted = {
        name: _by_counter(name, [read(column) for column in cause.counters], end_ns) for name, cause in CAUSES.items()
    }
    # A day of ticks takes a while to go through, and where every cause has a counter nobody needs them.
    needed = None in counted.values()
    sampled = _sampled(read("clocks_event_reasons"), period_ns, end_ns) if needed else _NOTHING
    found = [one or _by_samples(name, CAUSES[name].bits, *sampled) for name, one in counted.items()]
    return Slow(found, _link(read("gpu_util_pct"), read("pcie_link_gen", low=1), read("pcie_link_width", low=1), gpu))


def _by_counter(cause: str, counters: Sequence[Readings], end_ns: int) -> HeldBack | None:
    """From the driver's counters; where two count the same time, the longer of both between two readings. None where there are none."""
    counters = [one for one in counters if len(one.t_ns) > 1]
    if not counters:
        return None
    t_ns = counters[0].t_ns
    values = np.stack([one.at(t_ns) for one in counters])
    read = np.isfinite(values).all(axis=0)
    t_ns, values = t_ns[read], values[:, read]
    passed, grown = np.diff(t_ns), np.diff(values, axis=1)
    valid = ((grown >= 0) & (grown <= passed + _LEAP_NS)).all(axis=0)
    inside = np.diff(np.clip(t_ns, 0, end_ns))
    covered = int(inside[valid].sum())
    if not covered:
        return None
    held = float((grown.max(axis=0) * inside / passed)[valid].sum())
    return HeldBack(cause, min(held, float(covered)), covered, COUNTER, int((valid & (inside > 0)).sum()) + 1)


def _sampled(reasons: Readings, period_ns: int, end_ns: int) -> tuple[IntArray, IntArray]:
    """The reasons read, and for how long each speaks."""
    if not len(reasons.t_ns):
        return _NOTHING
    apart = int(np.median(np.diff(reasons.t_ns))) if len(reasons.t_ns) > 1 else period_ns
    parts = partition(reasons.t_ns, max(period_ns, apart), end_ns)
    some = parts.tick >= 0
    return reasons.read[parts.tick[some]].astype(np.int64), parts.duration_ns[some]


def _by_samples(cause: str, bits: int, reasons: IntArray, duration_ns: IntArray) -> HeldBack:
    if not len(reasons):
        return HeldBack(cause, float("nan"), 0, UNKNOWN, 0)
    held = float(duration_ns[(reasons & bits) != 0].sum())
    return HeldBack(cause, held, int(duration_ns.sum()), SAMPLED, len(reasons))


def _link(util: Readings, gen: Readings, width: Readings, gpu: Gpu) -> Link:
    gens, widths = gen.read[_loaded(util, gen.t_ns)], width.read[_loaded(util, width.t_ns)]
    return Link(
        readings=max(len(gens), len(widths)),
        gen=_usual(gens),
        width=_usual(widths),
        gen_below=_below(gens, gpu.pcie_gen_max),
        width_below=_below(widths, gpu.pcie_width_max),
    )


def _loaded(util: Readings, t_ns: IntArray) -> BoolArray:
    """Which moments lie between two readings of utilization with kernels."""
    after = np.searchsorted(util.t_ns, t_ns, side="right")
    found = np.zeros(len(t_ns), np.bool_)
    inside = (after > 0) & (after < len(util.t_ns))
    found[inside] = (util.read[after[inside] - 1] > 0) & (util.read[after[inside]] > 0)
    return found


def _usual(values: FloatArray) -> float:
    some, counts = np.unique(values, return_counts=True)
    return float(some[counts.argmax()]) if len(some) else float("nan")


def _below(values: FloatArray, most: int | None) -> float:
    return float((values < most).mean()) if most and len(values) else float("nan")


def held_back_frame(uuids: Sequence[str], found: Sequence[Slow]) -> pd.DataFrame:
    """`Analysis.held_back`."""
    rows = [(uuid, one) for uuid, slow in zip(uuids, found, strict=True) for one in slow.held_back]
    return table(
        {
            "gpu_uuid": [uuid for uuid, _ in rows],
            "cause": [one.cause for _, one in rows],
            "held_back_ns": np.array([one.held_back_ns for _, one in rows], np.float64),
            "covered_ns": np.array([one.covered_ns for _, one in rows], np.int64),
            "basis": [one.basis for _, one in rows],
            "samples": np.array([one.samples for _, one in rows], np.int64),
        }
    )


def links_frame(gpus: Sequence[Gpu], found: Sequence[Slow]) -> pd.DataFrame:
    """`Analysis.links`."""
    links = [slow.link for slow in found]
    return table(
        {
            "gpu_uuid": [gpu.uuid for gpu in gpus],
            "readings": np.array([link.readings for link in links], np.int64),
            **{
                name: np.array([getattr(link, name) for link in links], np.float64)
                for name in ("gen", "width", "gen_below", "width_below")
            },
            "gen_max": np.array([gpu.pcie_gen_max or np.nan for gpu in gpus], np.float64),
            "width_max": np.array([gpu.pcie_width_max or np.nan for gpu in gpus], np.float64),
        },
        index="gpu_uuid",
    )


def hardware_frame(frame: pd.DataFrame | None, uuids: Sequence[str]) -> pd.DataFrame:
    """`Analysis.hardware`: what the hardware of these GPUs reported, the same thing once, in order of its first time.

    Args:
        frame: the table `event`.
        uuids: of the held GPUs.
    """
    found: dict[tuple[str, str, str], list[int]] = {}
    if frame is not None and len(frame):
        t_ns, known = times(frame, "t_ns")
        kinds, subjects, messages = (texts(frame, column) for column in ("kind", "subject", "message"))
        for row in np.flatnonzero(known)[np.argsort(t_ns[known], kind="stable")].tolist():
            kind, subject = kinds[row], subjects[row]
            if kind in HARDWARE_EVENTS and subject in uuids:
                found.setdefault((str(subject), str(kind), messages[row] or ""), []).append(int(t_ns[row]))
    return table(
        {
            "gpu_uuid": [key[0] for key in found],
            "kind": [key[1] for key in found],
            "message": [key[2] for key in found],
            "count": np.array([len(at) for at in found.values()], np.int64),
            "first_ns": np.array([at[0] for at in found.values()], np.int64),
        }
    )
