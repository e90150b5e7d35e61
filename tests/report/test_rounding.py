"""Printed parts add up to the printed total."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpucost.report.rounding import PICO, MoneyScale, add, apportion, decimals_for, exact_usd

amounts = st.lists(st.fractions(min_value=0, max_value=10**6, max_denominator=10**12), max_size=40)


@given(amounts, st.sampled_from([Fraction(1, 100), Fraction(1), Fraction(1, 10**12), Fraction(7)]))
def test_rounded_parts_add_up_to_the_rounded_sum_and_none_moves_by_a_unit(parts, unit):
    units = apportion(parts, unit)
    assert sum(units) == round(sum(parts, Fraction(0)) / unit)
    assert all(abs(part / unit - rounded) < 1 for part, rounded in zip(parts, units, strict=True))


@given(amounts)
def test_zero_stays_zero(parts):
    assert apportion([*parts, Fraction(0)])[-1] == 0


def test_the_parts_that_lost_most_get_the_missing_units():
    assert apportion([Fraction("0.4"), Fraction("0.3"), Fraction("0.3")]) == [1, 0, 0]
    assert apportion([Fraction(1, 3)] * 3) == [1, 0, 0]
    assert apportion([]) == []


@pytest.mark.parametrize(
    ("total", "decimals"), [("1234", 2), ("10", 2), ("9.99", 3), ("0.5787", 4), ("0.01", 5), ("0.000001", 9), ("0", 2)]
)
def test_small_totals_show_more_decimals(total, decimals):
    assert decimals_for(Fraction(total), least=2) == decimals


@given(st.lists(st.integers(min_value=0, max_value=10**16), min_size=1, max_size=30))
def test_a_column_of_money_adds_up_as_printed(picos):
    scale = MoneyScale.of(sum(picos))
    printed = [Fraction(money.text.removeprefix("$").replace(",", "")) for money in scale.moneys(picos)]
    assert sum(printed) == Fraction(scale.money(sum(picos)).text.removeprefix("$").replace(",", ""))


@given(st.integers(min_value=0, max_value=10**18))
def test_exact_amounts_lose_no_digit(pico):
    assert Fraction(exact_usd(pico)) * PICO == pico


def test_unknown_is_not_zero():
    scale = MoneyScale.of(None)
    assert scale.money(None).usd is None
    assert scale.money(None).text == "unknown"
    assert scale.money(0).usd == "0"
    assert add([None, None]) is None
    assert add([None, 2]) == 2
    assert add([]) == 0
