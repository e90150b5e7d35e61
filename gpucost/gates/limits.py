"""Reading limits: `2.50`, `$2.50`, `1.5 h`, `10m`, `30 %`, `2 kWh`, and for increases `10 %` or an amount."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from gpucost.gates.model import Limit
from gpucost.report.rounding import PICO
from gpucost.report.text import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,12})?|\.\d{1,12}")
_PIECE = re.compile(r"(\d{1,15}(?:\.\d{1,12})?|\.\d{1,12})\s*([a-zA-Z%]*)")
_SECONDS = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86_400),
}
_JOULES = {"J": 1, "kJ": 10**3, "MJ": 10**6, "Wh": 3600, "kWh": 3_600_000, "MWh": 3_600_000_000}


def money(value: object) -> Limit:
    """US dollars."""
    text = _text(value)
    bare = text.removeprefix("$").removesuffix("USD").removeprefix("USD").strip()
    return Limit(_number(bare, "takes US dollars, for example 2.50") * PICO, relative=False, text=f"${_tidy(bare, 2)}")


def duration(value: object) -> Limit:
    """Seconds, or a time such as `1h 30m`."""
    text = _text(value)
    what = "takes seconds or a time such as 90s, 10m or 1h 30m"
    if _NUMBER.fullmatch(text):
        return Limit(Fraction(text) * NS_PER_S, relative=False, text=f"{text} s")
    pieces = _PIECE.findall(text)
    if not pieces or _PIECE.sub("", text).strip() or any(unit not in _SECONDS for _, unit in pieces):
        raise ValueError(what)
    total = sum((Fraction(number) * _SECONDS[unit] for number, unit in pieces), Fraction(0))
    return Limit(total * NS_PER_S, relative=False, text=" ".join(f"{number} {unit}" for number, unit in pieces))


def gpu_hours(value: object) -> Limit:
    """Hours of held GPU time."""
    text = _text(value)
    bare = re.sub(r"\s*(GPU-?)?h(ours)?$", "", text)
    hours = _number(bare, "takes GPU-hours, for example 1.5")
    return Limit(hours * 3600 * NS_PER_S, relative=False, text=f"{bare} GPU-h")


def energy(value: object) -> Limit:
    """Energy with its unit."""
    found = _PIECE.fullmatch(_text(value))
    if not found or found[2] not in _JOULES:
        raise ValueError(f"takes an energy with its unit ({', '.join(_JOULES)}), for example '1.5 kWh'")
    return Limit(Fraction(found[1]) * _JOULES[found[2]], relative=False, text=f"{found[1]} {found[2]}")


def share(value: object) -> Limit:
    """A share of 0 % to 100 %; a bare number could be read in two ways, so the sign is asked for."""
    found = _PIECE.fullmatch(_text(value))
    if not found or found[2] != "%" or Fraction(found[1]) > 100:  # noqa: PLR2004
        raise ValueError("takes a share with its sign, for example '30 %'")
    return Limit(Fraction(found[1]) / 100, relative=False, text=f"{found[1]} %")


def points(value: object) -> Limit:
    """Percentage points: `5 pp`."""
    found = _PIECE.fullmatch(_text(value))
    if not found or found[2] != "pp":
        raise ValueError("takes percentage points ('5 pp') or a share of the baseline ('10 %')")
    return Limit(Fraction(found[1]) / 100, relative=False, text=f"{found[1]} pp")


def ratio(value: object) -> Limit:
    """A share of the baseline: `10 %`.

    Raises:
        ValueError: it is not one.
    """
    found = _PIECE.fullmatch(_text(value))
    if not found or found[2] != "%":
        raise ValueError("takes a share of the baseline, for example '10 %'")
    return Limit(Fraction(found[1]) / 100, relative=True, text=f"{found[1]} %")


def or_ratio(amount: Callable[[object], Limit]) -> Callable[[object], Limit]:
    """A reader of limits on an increase: a share of the baseline, or what `amount` reads."""

    def read(value: object) -> Limit:
        return ratio(value) if isinstance(value, str) and value.strip().endswith("%") else amount(value)

    return read


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise ValueError("takes a number or a text")  # noqa: TRY004 (every wrong value is a ValueError here)
    text = format(value, "f") if isinstance(value, Decimal) else str(value)
    return text.strip().removeprefix("+").strip()


def _number(text: str, what: str) -> Fraction:
    if not _NUMBER.fullmatch(text):
        raise ValueError(what)
    return Fraction(text)


def _tidy(number: str, decimals: int) -> str:
    """A number with at least so many decimals."""
    whole, _, rest = number.partition(".")
    return f"{whole or '0'}.{rest.ljust(decimals, '0')}"
