"""Reading a price that somebody typed; imports next to nothing, because `record --price` checks it before it starts the command."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from gpucost.errors import UsageError

MAX_USD = Decimal(1_000_000)
"""No GPU-hour costs a million dollars; a larger number is a typing error."""

_PER_HOUR = ("/gpu-hour", "/gpu-h", "/gpuh", "/hour", "/hr", "/h")
_DOLLARS = ("usd", "us$", "$")
_DIGITS = frozenset("0123456789")
_NUMBER = _DIGITS | frozenset("+-.e")
_HINT = "give US dollars per GPU and hour, for example 2.49"


def parse_price(value: str | float | Decimal) -> Decimal:
    """Dollars per GPU-hour out of `2.49`, `2.49/h`, `$2.49` or `USD 2.49`.

    Raises:
        UsageError: not a price, or not in US dollars.
    """
    number = _bare_number(value) if isinstance(value, str) else value
    try:
        amount = Decimal(str(number))
    except InvalidOperation as error:
        raise UsageError(f"{value!r} is not a price", hint=_HINT) from error
    if not amount.is_finite():
        raise UsageError(f"the price {str(value)!r} is not a finite number", hint=_HINT)
    if amount < 0:
        raise UsageError(f"the price {str(value)!r} is negative", hint=_HINT)
    if amount >= MAX_USD:
        raise UsageError(f"the price {str(value)!r} is too high for one GPU-hour", hint=_HINT)
    return abs(amount)  # minus zero is zero


def _bare_number(text: str) -> str:
    bare = text.strip().lower().replace("/ ", "/")
    for ending in _PER_HOUR:
        if bare.endswith(ending):
            bare = bare.removesuffix(ending).rstrip()
            break
    for dollars in _DOLLARS:
        if bare.startswith(dollars) or bare.endswith(dollars):
            bare = bare.removeprefix(dollars).removesuffix(dollars).strip()
            break
    if bare.lstrip("+-") in ("nan", "inf", "infinity"):
        return bare
    if not _DIGITS.intersection(bare):
        raise UsageError(f"{text!r} is not a price", hint=_HINT)
    rest = bare.strip("0123456789.,+- ")
    if rest and (rest in "€£¥₹" or (len(rest) == 3 and rest.isalpha())):  # noqa: PLR2004 (ISO 4217 codes have three letters)
        raise UsageError(f"the price {text!r} is not in US dollars, the only currency gpucost counts in", hint=_HINT)
    if not _NUMBER.issuperset(bare):
        raise UsageError(f"{text!r} is not a price", hint=_HINT)
    return bare
