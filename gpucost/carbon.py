"""Greenhouse gas of the electricity a run used: CO2e = energy x PUE x grid intensity.

PUE (power usage effectiveness) is the energy of the whole data centre over that of its machines. The grid's intensity is a yearly
average over a country or region and its whole life cycle where the source says so; it is not the intensity of the hour. The energy is
that of the GPUs alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpucost._data import rows
from gpucost.errors import UsageError

J_PER_KWH = 3.6e6
ASSUMED_PUE = 1.2
"""Where none is configured: between the 1.1 to 1.2 of large clouds and the 1.6 of an average data centre. Always shown as assumed."""


@dataclass(frozen=True, slots=True)
class Intensity:
    """How much CO2e one kWh of a grid stands for.

    Attributes:
        code: `FRA`, `gcp:europe-west9`, `SE3`, `WORLD`.
        g_per_kwh: grams of CO2e per kWh.
        year: of the figure, None where the source does not say.
    """

    code: str
    name: str
    g_per_kwh: float
    year: int | None
    source: str


def lookup(region: str) -> Intensity:
    """The grid intensity of a region, by code (`FRA`, `gcp:us-central1` or just `us-central1`) or by name (`France`); case does not matter.

    Raises:
        UsageError: the table has no such region; the hint names the nearest.
    """
    wanted = region.strip().casefold()
    table = rows("carbon.csv")
    for row in table:
        if wanted in _names(row):
            return Intensity(
                code=row["code"],
                name=row["name"],
                g_per_kwh=float(row["g_co2e_per_kwh"]),
                year=int(row["year"]) if row["year"] else None,
                source=row["source"],
            )
    from difflib import get_close_matches

    near = get_close_matches(wanted, [name for row in table for name in _names(row)], n=3, cutoff=0.5)
    raise UsageError(
        f"no grid intensity is known for the region {region!r}",
        hint=f"nearest: {', '.join(near)}"
        if near
        else "give a country (FRA, France) or a Google Cloud region (gcp:us-central1)",
    )


def co2e_g(energy_j: float, intensity: Intensity, pue: float) -> float:
    """Grams of CO2e of `energy_j` joules at the device."""
    return energy_j / J_PER_KWH * pue * intensity.g_per_kwh


def _names(row: dict[str, str]) -> tuple[str, ...]:
    code = row["code"].casefold()
    return (code, row["name"].casefold(), code.partition(":")[2] or code)
