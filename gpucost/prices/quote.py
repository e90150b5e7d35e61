"""A price and what it rests on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from gpucost.errors import UsageError
from gpucost.prices.parse import parse_price

STALE_AFTER_DAYS = 90


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of one GPU (or MIG device) for one hour.

    Attributes:
        amount: in `currency`, exact; for a MIG device already multiplied by its fraction.
        source: who says so: an option, a variable, a file, or the origin of a list price.
        basis: `user` (said by the user), `config` (a configuration file) or `list price` (the shipped book).
        currency: always `USD` today.
        per: always `gpu_hour` today.
        mode: `on_demand` for list prices; None when the user did not say.
        provider: with `instance_type` and `region`, what the list price is of.
        as_of: the date of the price (ISO), None when it has none.
        stale: older than 90 days at the start of the run (never measured against today).
        note: what a reader must know, in one line.
    """

    amount: Decimal
    source: str
    basis: str
    currency: str = "USD"
    per: str = "gpu_hour"
    mode: str | None = None
    provider: str | None = None
    instance_type: str | None = None
    region: str | None = None
    as_of: str | None = None
    stale: bool = False
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values; the amount as text, so that no digit is lost."""
        return {**asdict(self), "amount": format(self.amount, "f")}

    @classmethod
    def from_json(cls, data: Any) -> Quote | None:
        """The quote in a manifest, or None when it is not one: a manifest can come from anywhere."""
        try:
            amount = parse_price(data["amount"])
        except (KeyError, TypeError, UsageError):
            return None
        if data.get("currency", "USD") != "USD" or data.get("per", "gpu_hour") != "gpu_hour":
            return None

        def text(name: str) -> str | None:
            return None if data.get(name) is None else str(data[name])

        return cls(
            amount=amount,
            source=text("source") or "",
            basis=text("basis") or "",
            mode=text("mode"),
            provider=text("provider"),
            instance_type=text("instance_type"),
            region=text("region"),
            as_of=text("as_of"),
            note=text("note") or "",
        )

    def at(self, time_ns: int) -> Quote:
        """The same quote, marked stale or not as seen from a run that started at `time_ns` (UTC)."""
        return replace(self, stale=_is_stale(self.as_of, time_ns))

    def times(self, fraction: float) -> Quote:
        """The price of a `fraction` (0 to 1) of the GPU."""
        share = f"{fraction:.6g} of {format(self.amount, 'f')} USD per GPU-hour (MIG)"
        note = f"{share}; {self.note}" if self.note else share
        return replace(self, amount=self.amount * Decimal(str(fraction)), note=note)


def _is_stale(as_of: str | None, time_ns: int) -> bool:
    if as_of is None:
        return False
    try:
        started = datetime.fromtimestamp(time_ns / 1e9, tz=UTC).date()
        return (started - date.fromisoformat(as_of)).days > STALE_AFTER_DAYS
    except (ValueError, OverflowError, OSError):
        return True  # a date nobody can read says nothing about freshness
