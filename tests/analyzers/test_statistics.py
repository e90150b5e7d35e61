"""The rank test against known tables and against brute force, and the robust spread."""

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpucost.analyzers.statistics import EXACT_RUNS, mad, mann_whitney, median

# Two-sided critical values of U at 5 %, as printed in textbooks (Mann and Whitney 1947; Siegel 1956, table K).
CRITICAL = [
    (5, 5, 2),
    (5, 6, 3),
    (6, 6, 5),
    (7, 7, 8),
    (8, 8, 13),
    (10, 10, 23),
    (5, 20, 20),
    (12, 15, 49),
    (20, 20, 127),
]


def sides_with_u(first: int, second: int, u: int) -> tuple[list[float], list[float]]:
    """Sides without ties in which the second has exactly `u`."""
    low = [float(number) for number in range(first)]
    moved, high = u, []
    for number in range(second):
        above = min(first, moved)
        moved -= above
        high.append(above - 0.5 + number / 1000)
    return low, high


@pytest.mark.parametrize(("first", "second", "u"), CRITICAL)
def test_the_critical_values_of_the_tables_are_the_last_to_be_significant(first, second, u):
    at = mann_whitney(*sides_with_u(first, second, u))
    beyond = mann_whitney(*sides_with_u(first, second, u + 1))
    assert (at.u, beyond.u) == (u, u + 1)
    assert at.exact
    assert at.p <= 0.05 < beyond.p


def test_five_against_five_without_overlap_is_one_in_126():
    assert mann_whitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]).p == pytest.approx(1 / 126)


figures = st.lists(st.integers(0, 6), min_size=1, max_size=5)


@given(figures, figures)
def test_p_is_the_share_of_all_ways_to_deal_the_figures_that_are_as_extreme(first, second):
    pooled = first + second

    def u_of(chosen: tuple[int, ...]) -> float:
        others = [pooled[index] for index in range(len(pooled)) if index not in chosen]
        return sum((pooled[i] > other) + (pooled[i] == other) / 2 for i in chosen for other in others)

    middle = len(first) * len(second) / 2
    seen = abs(mann_whitney(first, second).u - middle)
    ways = [abs(u_of(chosen) - middle) for chosen in combinations(range(len(pooled)), len(second))]
    expected = sum(way >= seen - 1e-9 for way in ways) / len(ways)
    assert mann_whitney(first, second).p == pytest.approx(expected)


@given(figures, figures)
def test_the_sides_can_be_swapped(first, second):
    one, other = mann_whitney(first, second), mann_whitney(second, first)
    assert one.p == pytest.approx(other.p)
    assert one.u + other.u == len(first) * len(second)


@given(st.integers(0, 625))
def test_the_approximation_takes_over_where_the_exact_distribution_ends(u):
    # 25 against 25 is exact; the same test by the approximation is what 26 against 25 would get, so the two must be close.
    exact = mann_whitney(*sides_with_u(25, 25, u))
    deviation = math.sqrt(25 * 25 * 51 / 12)
    approximated = math.erfc(max(0.0, abs(u - 312.5) - 0.5) / deviation / math.sqrt(2))
    assert exact.exact
    assert exact.p == pytest.approx(approximated, abs=0.006)


def test_many_runs_take_the_approximation_with_the_correction_for_ties():
    first, second = [1.0, 2.0, 3.0] * 10, [2.0, 3.0, 4.0] * 10
    found = mann_whitney(first, second)
    assert not found.exact
    assert len(first) + len(second) > EXACT_RUNS
    # By hand: 450 pairs count a half or one, U = 700; ties of 10, 20, 20, 10.
    variance = 900 / 12 * (61 - (2 * (1000 - 10) + 2 * (8000 - 20)) / (60 * 59))
    assert found.u == 700
    assert found.p == pytest.approx(math.erfc((250 - 0.5) / math.sqrt(2 * variance)))


def test_equal_figures_are_never_a_change():
    assert mann_whitney([3.0] * 40, [3.0] * 40).p == 1.0
    assert mann_whitney([3.0] * 5, [3.0] * 5).p == 1.0


@pytest.mark.parametrize("sides", [([], [1.0]), ([1.0], []), ([math.nan], [1.0]), ([1.0], [math.inf])])
def test_nothing_and_infinity_are_refused(sides):
    with pytest.raises(ValueError, match="figure"):
        mann_whitney(*sides)


def test_the_median_and_its_deviation_do_not_follow_an_outlier():
    assert median([1.0, 2.0, 3.0, 4.0, 1000.0]) == 3.0
    assert mad([1.0, 2.0, 3.0, 4.0, 1000.0]) == 1.0
    assert median([1.0, 2.0]) == 1.5
