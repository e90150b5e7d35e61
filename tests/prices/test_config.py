"""The configuration file: found, read, and refused in one line when it is wrong."""

from decimal import Decimal

import pytest

from gpucost import config
from gpucost.errors import UsageError

FULL = """
price = 2.49
runs = "runs"
hz = 5
idle_after = 0.5
idle_split = "equal"
[prices]
"GPU-1" = 1
[carbon]
region = "FRA"
pue = 1.1
"""


def test_no_file_is_an_empty_configuration(tmp_path):
    assert not config.exists(tmp_path)
    assert config.load(tmp_path).price is None


def test_every_key_is_read(tmp_path):
    (tmp_path / "gpucost.toml").write_text(FULL)
    found = config.load(tmp_path)
    assert (found.price, found.prices, found.hz) == (Decimal("2.49"), {"GPU-1": Decimal(1)}, 5.0)
    assert (found.idle_after_s, found.idle_split, found.region, found.pue) == (0.5, "equal", "FRA", 1.1)
    assert found.runs == str(tmp_path / "runs"), "relative to the file, not to the working directory"
    assert found.file_name == "gpucost.toml"


def test_the_nearest_file_upward_wins(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "gpucost.toml").write_text("price = 1")
    assert config.load(inner).price == 1
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.gpucost]\nprice = 2")
    assert config.load(inner).price == 2
    (inner / "gpucost.toml").write_text("price = 3")
    assert config.load(inner).price == 3


def test_a_project_without_our_table_is_passed_over(tmp_path):
    inner = tmp_path / "a"
    inner.mkdir()
    (tmp_path / "gpucost.toml").write_text("price = 1")
    (inner / "pyproject.toml").write_text('[project]\ndependencies = ["gpucost"]')
    assert config.load(inner).price == 1


def test_somebody_elses_broken_project_file_is_not_our_business(tmp_path):
    (tmp_path / "pyproject.toml").write_text("gpucost [[[")
    assert config.load(tmp_path).price is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prise = 1", r"unknown key 'prise'; did you mean 'price'\?"),
        ("[carbon]\nregoin = 'FRA'", r"unknown key 'carbon.regoin'; did you mean 'region'\?"),
        ("price = true", "price is True, but takes dollars"),
        ("price = -1", "price: the price '-1' is negative"),
        ("[prices]\nX = 'abc'", "prices.X: 'abc' is not a price"),
        ("prices = 3", "prices is 3, but is a table"),
        ("hz = 100", "hz is 100, but takes a number"),
        ("hz = 0.01", "hz is 0.01, but takes a number"),
        ("call_budget = 0", "call_budget is 0, but takes a percentage above 0 and up to 100"),
        ("call_budget = 101", "call_budget is 101, but takes a percentage"),
        ("call_budget = true", "call_budget is True, but takes a percentage"),
        ("hz = 'fast'", "hz is 'fast', but takes a number"),
        ("runs = ''", "runs is '', but takes a text"),
        ("idle_after = 0", "idle_after is 0, but takes seconds above 0"),
        ("idle_split = 'all'", "idle_split is 'all', but takes one of owner, equal, none"),
        ("[carbon]\npue = 0.5", "carbon.pue is 0.5, but takes a number from 1 to 10"),
        ("price = ", "is not valid TOML"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(tmp_path, text, says):
    (tmp_path / "gpucost.toml").write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        config.load(tmp_path)
    assert str(tmp_path / "gpucost.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_in_the_file_s_place_is_one_line(tmp_path):
    (tmp_path / "gpucost.toml").mkdir()
    with pytest.raises(UsageError, match="cannot read"):
        config.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["hz = nan", "[carbon]\npue = nan", "idle_after = nan", "hz = " + "9" * 5000, "idle_after = " + "9" * 400, "hz = 1e" + "9" * 30,
     "hz = " + "[" * 20_000],
)  # fmt: skip
def test_what_is_toml_and_no_number_is_one_line_too(tmp_path, text):
    (tmp_path / "gpucost.toml").write_text(text)
    with pytest.raises(UsageError, match=r"gpucost\.toml"):
        config.load(tmp_path)
