"""Rounding that adds up: a column's parts are rounded together, so that the printed parts add up to the printed total.

The method is that of the largest remainder (Hamilton's): every part is rounded down to the unit, and the units still missing go to the
parts that lost most. No part moves by a whole unit, and an exact zero stays zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from gpucost.report.model import UNKNOWN, Money

if TYPE_CHECKING:
    from collections.abc import Sequence

PICO = 10**12
"""Picodollars in a dollar: the resolution of exact amounts."""

SIGNIFICANT = 4
MAX_DECIMALS = 12


def apportion(parts: Sequence[Fraction | int], unit: Fraction | int = 1) -> list[int]:
    """Each part in whole units, so that their sum is the rounded sum of the parts.

    Args:
        parts: not negative.
        unit: the size of one unit, above 0.
    """
    exact = [Fraction(part) / unit for part in parts]
    units = [int(part) for part in exact]
    missing = round(sum(exact, Fraction(0))) - sum(units)
    by_loss = sorted(range(len(exact)), key=lambda index: (units[index] - exact[index], index))
    for index in by_loss[:missing]:
        units[index] += 1
    return units


def decimals_for(total: Fraction | int, *, least: int, significant: int = SIGNIFICANT) -> int:
    """Decimals with which `total` shows at least `significant` digits, and never fewer than `least`."""
    if total <= 0:
        return least
    decimals = least
    while decimals < MAX_DECIMALS and total * 10**decimals < 10 ** (significant - 1):
        decimals += 1
    return decimals


@dataclass(frozen=True, slots=True)
class MoneyScale:
    """How money is printed in one report: with the same decimals everywhere."""

    decimals: int

    @classmethod
    def of(cls, total_pico: int | None) -> MoneyScale:
        """Cents from ten dollars up; below, as many decimals as show four digits."""
        return cls(decimals_for(Fraction(total_pico or 0, PICO), least=2))

    def column(self, picos: Sequence[int | None]) -> list[int | None]:
        """Printed units of the parts of one total; None stays None."""
        known = apportion([pico for pico in picos if pico is not None], Fraction(PICO, 10**self.decimals))
        units = iter(known)
        return [None if pico is None else next(units) for pico in picos]

    def money(self, pico: int | None, units: int | None = None) -> Money:
        """An amount and its text; `units` is what the column it stands in gave it."""
        if pico is None:
            return Money(None, UNKNOWN)
        if units is None:
            units = round(Fraction(pico * 10**self.decimals, PICO))
        return Money(exact_usd(pico), f"${Decimal(units).scaleb(-self.decimals):,.{self.decimals}f}")

    def moneys(self, picos: Sequence[int | None]) -> list[Money]:
        """A whole column."""
        return [self.money(pico, units) for pico, units in zip(picos, self.column(picos), strict=True)]


def exact_usd(pico: int) -> str:
    """Picodollars as dollars, every digit, without trailing zeros."""
    text = format(Decimal(pico).scaleb(-12), ".12f").rstrip("0").rstrip(".")
    return text or "0"


def add(parts: Sequence[int | None]) -> int | None:
    """The sum of what is known; None when there are parts and none is known."""
    known = [part for part in parts if part is not None]
    return sum(known) if known or not parts else None
