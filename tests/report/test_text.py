"""Units in words."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpucost.report.text import EnergyScale, TimeScale, duration, grams, known, percent, size, utc, watts

S = 1_000_000_000


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (423_000_000, "423 ms"),
        (12_345_000_000, "12.34 s"),
        (151_400_000_000, "151.4 s"),
        (754 * S, "12m 34s"),
        (3 * 3600 * S + 62 * S, "3h 01m 02s"),
        (500 * 3600 * S, "500h 00m 00s"),
        (None, "unknown"),
    ],
)
def test_a_duration_is_written_for_its_size(ns, text):
    assert duration(ns).text == text


@pytest.mark.parametrize(
    ("joules", "text"),
    [(12.34, "12.34 J"), (121_120, "33.64 Wh"), (7.2e7, "20.00 kWh"), (0, "0.0 J"), (None, "unknown")],
)
def test_an_energy_is_written_for_its_size(joules, text):
    assert EnergyScale.of(joules).figure(joules).text == text


@given(st.lists(st.floats(min_value=0, max_value=1e7), min_size=1, max_size=20))
def test_a_column_of_energies_adds_up_as_printed(parts):
    scale = EnergyScale.of(sum(parts))
    total = round(sum((Fraction(part) for part in parts), Fraction(0)) * 10**scale.decimals / scale.joules)
    assert sum(scale.units(parts)) == total


@given(st.lists(st.integers(min_value=0, max_value=10**15), max_size=20))
def test_a_column_of_times_adds_up_as_printed(parts):
    scale = TimeScale.of(sum(parts))
    assert sum(scale.units(parts)) == round(Fraction(sum(parts), scale.unit_ns))


def test_other_units():
    assert size(22870700851).text == "21.3 GiB"
    assert size(512).text == "512 B"
    assert watts(412.4).text == "412 W"
    assert percent(0.5).text == "50.0 %"
    assert percent(0.5, at_least=True).text == "≥ 50.0 %"
    assert grams(2260).text == "2.26 kg CO2e"
    assert utc(1_785_001_501 * S) == "2026-07-25T17:45:01Z"
    assert utc(10**30) == "unknown"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "junk"])
def test_what_is_not_a_number_is_unknown(value):
    assert known(value) is None
