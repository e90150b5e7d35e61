"""The book: on-demand list prices of AWS, Azure and Google Cloud, by GPU.

A list price is of a whole virtual machine; per GPU-hour it is divided by the machine's GPUs. Only machines with whole GPUs count
(`scope` is `host` in the table): not fractions of a GPU, not GPU surcharges that come on top of a machine, not machines whose GPU count
is unverified, and not shapes that are never sold on demand. Of what is left, the lowest is the answer: a reader who pays more knows
that, and nobody's waste is overstated.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache
from typing import NamedTuple

from gpucost._data import rows
from gpucost.prices.quote import Quote


class Entry(NamedTuple):
    """One list price, ordered by its amount first, then by its names, so that the lowest is always the same one."""

    usd_per_gpu_hour: Decimal
    provider: str
    region: str
    instance_type: str
    as_of: str
    source: str


def quote(nvml_name: str) -> Quote | None:
    """The lowest on-demand list price of a GPU, or None when the book has none for exactly this name."""
    entries = _by_gpu().get(_price_keys().get(physical_name(nvml_name), ""), ())
    if not entries:
        return None
    lowest, highest = min(entries), max(entries)
    return Quote(
        amount=lowest.usd_per_gpu_hour,
        source=lowest.source,
        basis="list price",
        mode="on_demand",
        provider=lowest.provider,
        instance_type=lowest.instance_type,
        region=lowest.region,
        as_of=lowest.as_of,
        note=_note(len(entries), lowest.usd_per_gpu_hour, highest.usd_per_gpu_hour),
    )


def physical_name(nvml_name: str) -> str:
    """The name of the GPU that a MIG device is part of (`NVIDIA A100-SXM4-40GB MIG 1g.5gb`); other names as they are."""
    return re.sub(r",?\s+MIG\s+\S+$", "", nvml_name)


def _note(count: int, lowest: Decimal, highest: Decimal) -> str:
    if count == 1:
        return "the only on-demand list price known"
    return f"lowest of {count} on-demand list prices, {lowest:.2f} to {highest:.2f} USD per GPU-hour"


@cache
def _price_keys() -> dict[str, str]:
    return {row["nvml_name"]: row["price_key"] for row in rows("gpu_aliases.csv")}


@cache
def _by_gpu() -> dict[str, tuple[Entry, ...]]:
    found: dict[str, list[Entry]] = {}
    for row in rows("gpu_prices.csv"):
        if row["scope"] == "host":
            amount = Decimal(row["usd_per_hour"]) / Decimal(row["gpu_count"])
            entry = Entry(amount, row["provider"], row["region"], row["instance_type"], row["as_of"], row["source"])
            found.setdefault(row["price_key"], []).append(entry)
    return {key: tuple(entries) for key, entries in found.items()}
