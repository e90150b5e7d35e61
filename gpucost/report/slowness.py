"""The part of the report's model on why a GPU was slow, and on what somebody should look into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpucost.report.model import Figure, Money


@dataclass(frozen=True, slots=True)
class HeldBack:
    """How long one cause held a GPU's clocks down.

    Attributes:
        cause: `power_cap` (a normal state under load), `thermal`, `power_brake` or `sync_boost`.
        time_s: unknown where nothing was read of it; where it was read for a part of the run only, a lower bound (`≥`).
        share_pct: of the held time.
        basis: `counter` (the driver's, of time), `sampled` (the reasons at each tick) or `unknown`.
        samples: readings that it rests on.
    """

    cause: str
    time_s: Figure
    share_pct: Figure
    basis: str
    samples: int


@dataclass(frozen=True, slots=True)
class Link:
    """A GPU's PCIe link, from readings between two readings with kernels: an idle link slows down.

    Attributes:
        gen: generation seen most often, likewise `width` in lanes; None where there is no reading under load.
        below_pct: share of the readings below the most that card and slot can do together; unknown where that is not recorded.
        readings: how many there are under load.
    """

    gen: int | None
    gen_max: int | None
    width: int | None
    width_max: int | None
    below_pct: Figure
    readings: int
    text: str


@dataclass(frozen=True, slots=True)
class HardwareEvent:
    """What a GPU's hardware reported, the same thing once."""

    kind: str
    message: str
    count: int
    first_s: Figure


@dataclass(frozen=True, slots=True)
class GpuSlow:
    """Why a GPU was slow, as far as the driver says.

    Attributes:
        held_back: every cause, known or not.
        known: anything was read of it; without, tables for people leave the GPU out.
        basis_text: what the times rest on.
    """

    uuid: str
    label: str
    held_back: list[HeldBack]
    link: Link
    events: list[HardwareEvent]
    known: bool
    basis_text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look into; `docs/findings.md` has a section on every `code`.

    Attributes:
        gpu: label of the GPU; `gpu_uuid` is its UUID.
        seen: what was seen, and `evidence` what that rests on.
        gpu_time_s, money: GPU time that it touches and its price; no saving, and no part of the ledger.
        advice: what to try.
    """

    code: str
    name: str
    gpu: str
    gpu_uuid: str
    seen: str
    evidence: str
    gpu_time_s: Figure
    money: Money
    advice: str
