"""The ledger in whole picodollars: quantized once, per GPU, so that every sum over it is exact from then on."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from gpucost.report.rounding import PICO, apportion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pandas import DataFrame


class Entry(NamedTuple):
    """One cell of the cube GPU x stage x use; `pico` is None where the GPU has no price."""

    gpu_uuid: str
    stage_path: str
    use: str
    ns: int
    pico: int | None


@dataclass(slots=True)
class Tally:
    """A sum of cells."""

    ns: int = 0
    pico: int = 0
    priced_ns: int = 0

    def add(self, entry: Entry) -> None:
        """Count one more cell."""
        self.ns += entry.ns
        if entry.pico is not None:
            self.pico += entry.pico
            self.priced_ns += entry.ns

    def join(self, other: Tally) -> None:
        """Count all that another sum counts."""
        self.ns += other.ns
        self.pico += other.pico
        self.priced_ns += other.priced_ns


@dataclass(slots=True)
class Uses:
    """Sums by use, of one GPU, one stage or a whole run."""

    by_use: dict[str, Tally] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Count one more cell."""
        self.by_use.setdefault(entry.use, Tally()).add(entry)

    def join(self, other: Uses) -> None:
        """Count all that another counts."""
        for use, tally in other.by_use.items():
            self.by_use.setdefault(use, Tally()).join(tally)

    @property
    def uncertain(self) -> bool:
        """Whether enough time is unknown to move a printed share: half of a tenth of a percent."""
        return self.of("unknown").ns * 2000 >= self.of().ns > 0

    def of(self, *uses: str) -> Tally:
        """The sum over these uses, or over all when none is named."""
        total = Tally()
        for use in uses or self.by_use:
            total.join(self.by_use.get(use, Tally()))
        return total


class Cube:
    """The ledger of a run.

    Attributes:
        entries: every cell.
        run: the run's sums by use; `gpus` and `stages` hold the same for each GPU and stage path.
        priced: some held GPU has a price.
        partial: some held GPU has a price and some other has none.
    """

    def __init__(self, ledger: DataFrame, unpriced: Iterable[str] = ()) -> None:
        self.entries = _quantized(ledger)
        self.run = Uses()
        self.gpus: dict[str, Uses] = {}
        self.stages: dict[str, Uses] = {}
        for entry in self.entries:
            self.run.add(entry)
            self.gpus.setdefault(entry.gpu_uuid, Uses()).add(entry)
            self.stages.setdefault(entry.stage_path, Uses()).add(entry)
        total = self.run.of()
        self.priced = total.priced_ns > 0
        self.partial = self.priced and (total.priced_ns < total.ns or any(True for _ in unpriced))
        self.by_money = self.priced and not self.partial and total.pico > 0

    def pico(self, tally: Tally) -> int | None:
        """The money of a sum; None where none of it has a price."""
        if not self.priced or (tally.ns > 0 and tally.priced_ns == 0):
            return None
        return tally.pico

    def share(self, part: Tally, whole: Tally) -> Fraction | None:
        """`part` of `whole` (0 to 1); None where the whole is nothing."""
        # A stage can be so short that its money rounds to nothing; its time never does.
        if self.by_money and whole.pico > 0:
            return Fraction(part.pico, whole.pico)
        return Fraction(part.ns, whole.ns) if whole.ns > 0 else None


def _quantized(ledger: DataFrame) -> list[Entry]:
    rows = list(
        zip(
            ledger["gpu_uuid"].tolist(),
            ledger["stage_path"].tolist(),
            ledger["use"].tolist(),
            ledger["duration_ns"].tolist(),
            ledger["cost_usd"].tolist(),
            strict=True,
        )
    )
    by_gpu: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if _is_money(row[4]):
            by_gpu.setdefault(row[0], []).append(index)
    picos: dict[int, int] = {}
    for indices in by_gpu.values():
        amounts = [Fraction(rows[index][4]) for index in indices]
        picos.update(zip(indices, apportion(amounts, Fraction(1, PICO)), strict=True))
    return [
        Entry(str(gpu), str(path), str(use), int(ns), picos.get(index))
        for index, (gpu, path, use, ns, _) in enumerate(rows)
    ]


def _is_money(value: object) -> bool:
    """Whether a cell has an amount; a frame may turn None into NaN."""
    return value is not None and value == value  # noqa: PLR0124 (NaN is not itself)
