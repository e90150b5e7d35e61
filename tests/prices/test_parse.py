"""Prices as people type them."""

import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpucost.errors import UsageError
from gpucost.prices import parse_price


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("2.49", "2.49"),
        (" 2.49 ", "2.49"),
        ("2.49/h", "2.49"),
        ("2.49 / hour", "2.49"),
        ("2.49/GPU-hour", "2.49"),
        ("$2.49", "2.49"),
        ("$ 2.49/hr", "2.49"),
        ("USD 2.49", "2.49"),
        ("usd2.49", "2.49"),
        ("2.49 USD", "2.49"),
        ("US$2.49", "2.49"),
        (".5", "0.5"),
        ("0", "0"),
        ("-0", "0"),
        (3, "3"),
        (0.1, "0.1"),
        (Decimal("1.10"), "1.10"),
    ],
)
def test_a_price_in_dollars_is_read_to_the_last_digit(text, amount):
    assert str(parse_price(text)) == amount


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("abc", "is not a price"),
        ("", "is not a price"),
        ("$", "is not a price"),
        ("2,49", "is not a price"),
        ("1_000", "is not a price"),
        ("2.49/day", "is not a price"),
        ("2.4.9", "is not a price"),
        ("٣", "is not a price"),
        ("-1", "is negative"),
        ("$-1", "is negative"),
        ("nan", "is not a finite number"),
        ("inf", "is not a finite number"),
        ("-Infinity", "is not a finite number"),
        (float("nan"), "is not a finite number"),
        ("1e9", "is too high"),
        ("€2.49", "is not in US dollars"),
        ("2.49 EUR", "is not in US dollars"),
        ("GBP 2.49/h", "is not in US dollars"),
    ],
)
def test_what_is_not_a_price_in_dollars_is_refused_in_one_line_with_an_example(text, says):
    with pytest.raises(UsageError, match=says) as caught:
        parse_price(text)
    assert "\n" not in str(caught.value)
    assert "2.49" in caught.value.hint


@given(st.text())
def test_any_text_is_a_price_or_a_usage_error(text):
    try:
        amount = parse_price(text)
    except UsageError:
        return
    assert 0 <= amount < 1_000_000


def test_checking_a_price_imports_nothing_slow():
    code = "import sys, gpucost.prices; gpucost.prices.parse_price('1'); print({'csv', 'dataclasses', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
