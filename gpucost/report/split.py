"""One total split by use, in printed digits: of a run, or of one GPU."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from gpucost.analyzers.model import USES
from gpucost.report.rounding import add, apportion
from gpucost.report.text import absent, percent

if TYPE_CHECKING:
    from gpucost.report.material import Material
    from gpucost.report.model import Figure, Money
    from gpucost.report.tally import Uses


class Split:
    """Times, shares and amounts by use, rounded together: any selection of uses prints as the sum of its printed parts."""

    def __init__(self, material: Material, sums: Uses) -> None:
        self._material = material
        self._sums = sums
        cube, whole = material.cube, sums.of()
        tallies = [sums.of(use) for use in USES]
        shares = [cube.share(tally, whole) for tally in tallies]
        self._empty = whole.ns == 0
        self._shares = {use: share or Fraction(0) for use, share in zip(USES, shares, strict=True)}
        self._ns = dict(zip(USES, material.time.units([tally.ns for tally in tallies]), strict=True))
        self._usd = dict(zip(USES, material.money.column([cube.pico(tally) for tally in tallies]), strict=True))
        self._tenths = dict(zip(USES, apportion(list(self._shares.values()), Fraction(1, 1000)), strict=True))

    def money(self, *uses: str) -> Money:
        """The money of these uses (all, when none is named)."""
        chosen = uses or USES
        return self._material.money.money(
            self._material.cube.pico(self._sums.of(*chosen)), add([self._usd[use] for use in chosen])
        )

    def time(self, *uses: str) -> Figure:
        """Their GPU time."""
        chosen = uses or USES
        return self._material.time.figure(self._sums.of(*chosen).ns, sum(self._ns[use] for use in chosen))

    def share(self, *uses: str) -> Fraction:
        """Their exact share (0 to 1)."""
        return sum((self._shares[use] for use in uses), Fraction(0))

    def percent(self, *uses: str, least: bool = False) -> Figure:
        """Their share; with `least`, marked as a lower bound where some time is unknown, and unknown where all of it is."""
        if self._empty:
            return absent()
        if least and self._sums.of("unknown").ns == self._sums.of().ns:
            return percent(None)
        tenths = sum(self._tenths[use] for use in uses)
        return percent(self.share(*uses), tenths, at_least=least and self._sums.uncertain)
