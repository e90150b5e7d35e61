"""The benchmark's statistics, on synthetic series whose answers are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpucost.bench import statistics as stats

WINDOW_S = 0.05


def autocorrelated(n, phi, *, seed, level=100.0, noise=0.01):
    """A first-order autoregressive series around a level; its neighbours resemble each other by `phi`."""
    rng = np.random.default_rng(seed)
    shocks = rng.normal(0, 1, n + 100)
    x = np.zeros(n + 100)
    for i in range(1, n + 100):
        x[i] = phi * x[i - 1] + shocks[i]
    return level * (1 + noise * x[100:])


def test_percentiles_of_a_known_series():
    found = stats.summarize(list(range(101)), WINDOW_S)
    assert (found.n, found.median, found.p5, found.p95) == (101, 50, 5, 95)
    assert found.mad == 25
    assert found.rel_iqr == pytest.approx(1.0)


def test_an_empty_series_has_no_summary():
    with pytest.raises(ValueError, match="nothing"):
        stats.summarize([], WINDOW_S)


def test_drift_is_the_second_half_against_the_first():
    assert stats.drift([100] * 10 + [97] * 10) == pytest.approx(-0.03)
    assert stats.drift([100] * 10 + [1] + [110] * 10) == pytest.approx(0.1), (
        "the middle of an odd series is in neither half"
    )
    assert stats.drift([1, 2, 3]) is None


def test_a_constant_series_has_an_interval_without_width():
    assert stats.summarize([5.0] * 40, WINDOW_S).ci95 == (5.0, 5.0)


def test_a_short_series_has_no_interval_rather_than_a_narrow_one():
    assert stats.summarize([1.0, 2.0, 3.0, 2.0, 1.0, 2.0, 3.0], WINDOW_S).ci95 is None


@pytest.mark.parametrize(("n", "phi", "least"), [(300, 0.0, 0.88), (300, 0.5, 0.86), (50, 0.5, 0.80), (16, 0.0, 0.84)])
def test_the_interval_holds_the_true_median_about_as_often_as_it_says(n, phi, least):
    hits = 0
    for seed in range(150):
        series = autocorrelated(n, phi, seed=seed)
        low, high = stats.median_interval(series, stats.block_windows(n, WINDOW_S))
        hits += low <= 100 <= high
    assert hits / 150 >= least


def test_neighbours_that_resemble_each_other_widen_the_interval():
    series = autocorrelated(400, 0.9, seed=1)
    shuffled = np.random.default_rng(0).permutation(series)
    wide, narrow = (stats.median_interval(one, 20) for one in (series, shuffled))
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])


def test_a_block_is_a_second_where_there_is_room_for_four():
    assert stats.block_windows(300, 0.05) == 20
    assert stats.block_windows(16, 0.05) == 4
    assert stats.block_windows(300, 5.0) == 1
    assert stats.block_windows(3, 0.05) == 1


@given(st.lists(st.floats(1, 1e6), min_size=8, max_size=60), st.floats(0.5, 2000))
def test_the_interval_is_around_the_median_and_scales_with_the_unit(values, factor):
    low, high = stats.median_interval(values, 2)
    middle = float(np.median(values))
    assert low <= middle * (1 + 1e-9)
    assert high >= middle * (1 - 1e-9)
    scaled = stats.median_interval([factor * one for one in values], 2)
    assert scaled == pytest.approx((factor * low, factor * high), rel=1e-6)


def test_the_same_windows_always_give_the_same_interval():
    series = autocorrelated(60, 0.4, seed=3)
    assert stats.summarize(series, WINDOW_S) == stats.summarize(series.copy(), WINDOW_S)


# --- steadiness --------------------------------------------------------------------------------------------------------------------

TIMES = [i * 0.1 for i in range(40)]
LIMITS = stats.SteadyLimits()


def unsteady(**series):
    full = {"rate": [100.0] * 40, **series}
    return stats.unsteady({name: (TIMES, values) for name, values in full.items()}, LIMITS)


def test_a_flat_warm_up_is_steady():
    assert unsteady(clock=[1980.0] * 40, temperature=[60.0] * 40, power=[650.0] * 40) == []


def test_a_warm_up_shorter_than_its_span_is_not_steady_however_flat():
    assert stats.unsteady({"rate": ([0.0, 0.1, 0.2], [1.0, 1.0, 1.0])}, LIMITS) == ["rate"]


def test_a_rate_that_still_falls_is_not_steady():
    assert unsteady(rate=[100 * (1 - 0.01 * t) for t in TIMES]) == ["rate"]


def test_a_temperature_that_still_rises_is_not_steady():
    assert unsteady(temperature=[50 + 0.8 * t for t in TIMES]) == ["temperature"]


def test_a_clock_that_steps_is_not_steady():
    assert unsteady(clock=[1980.0] * 30 + [1890.0] * 10) == ["clock"]


def test_power_that_still_rises_is_not_steady():
    assert unsteady(power=[600 * (1 + 0.02 * t) for t in TIMES]) == ["power"]


def test_only_the_last_two_seconds_count():
    assert unsteady(temperature=[30 + 10 * min(t, 1.5) for t in TIMES]) == []


def test_what_cannot_be_measured_holds_nothing_up():
    assert stats.unsteady({"rate": (TIMES, [1.0] * 40), "power": ([], [])}, LIMITS) == []


def test_the_slope_of_a_line_is_its_slope():
    assert stats.slope([0, 1, 2, 3], [5, 7, 9, 11]) == pytest.approx(2)
    assert stats.slope([1], [5]) == 0


# --- two series --------------------------------------------------------------------------------------------------------------------


def test_a_card_that_is_three_per_cent_slower_is_found():
    found = stats.difference(autocorrelated(100, 0.3, seed=1), autocorrelated(100, 0.3, seed=2, level=97), WINDOW_S)
    assert found.ratio == pytest.approx(0.97, abs=0.01)
    assert found.ci95[1] < 1
    assert found.p_value < 0.01


def test_two_series_of_one_card_seldom_differ():
    found = [
        stats.difference(
            autocorrelated(100, 0.3, seed=seed), autocorrelated(100, 0.3, seed=1000 + seed), WINDOW_S
        ).p_value
        for seed in range(60)
    ]
    assert sum(p < 0.05 for p in found) <= 8


def test_series_too_short_for_a_test_give_a_ratio_and_nothing_else():
    found = stats.difference([100.0] * 4, [110.0] * 4, WINDOW_S)
    assert (found.ratio, found.ci95, found.p_value) == (1.1, None, None)


@pytest.mark.parametrize("bad", [([], [1.0]), ([1.0], []), ([0.0, 1.0], [1.0])])
def test_only_series_of_positive_rates_can_be_compared(bad):
    with pytest.raises(ValueError, match="positive"):
        stats.difference(*bad, WINDOW_S)


# Student's t table, two-sided 5 % and 1 %.
@pytest.mark.parametrize(
    ("t", "freedom", "p"), [(12.706, 1, 0.05), (2.776, 4, 0.05), (4.604, 4, 0.01), (2.228, 10, 0.05), (0.0, 5, 1.0)]
)
def test_the_p_value_of_student_t_is_that_of_the_tables(t, freedom, p):
    assert stats.student_p(t, freedom) == pytest.approx(p, rel=2e-3)


def test_the_welch_test_of_a_known_example():
    # Means 20 and 22, variances of the means 10/5 and 10/5: t = 1, 8 degrees of freedom.
    a, b = [16, 18, 20, 22, 24], [18, 20, 22, 24, 26]
    assert stats.welch_p(a, b) == pytest.approx(0.3466, abs=2e-3)


def test_equal_constants_do_not_differ_and_unequal_ones_do():
    assert stats.welch_p([1, 1, 1], [1, 1, 1]) == 1.0
    assert stats.welch_p([1, 1, 1], [2, 2, 2]) == 0.0


def test_the_holm_adjustment_of_a_known_example():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []
