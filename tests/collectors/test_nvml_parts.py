"""The parts of the NVML collector that need no driver: errors in words, counters, pace."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpucost.collectors._nvml_answers import Answers
from gpucost.collectors._nvml_counters import (
    UNSIGNED_INT,
    UNSIGNED_LONG_LONG,
    EnergyCounter,
    WrappingCounter,
)
from gpucost.collectors._nvml_library import ERRORS, describe
from gpucost.collectors._nvml_pacing import Paced, Pacer, Retry
from gpucost.collectors._nvml_reader import VALUE_LETTERS

NS = 10**9
MS = 10**6


def test_every_error_of_the_binding_has_its_words() -> None:
    """The table is complete, and what it does not know is named by its number."""
    import pynvml

    codes = {value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}
    assert codes <= ERRORS.keys()
    assert describe(12345) == "driver error 12345"


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50), st.integers(0, 2**32 - 1))
def test_a_wrapping_counter_is_followed_exactly(steps: list[int], start: int) -> None:
    """Whatever is counted between two readings in time, and however often the counter wraps, nothing is lost."""
    counter = WrappingCounter(20e9)
    true = start
    assert counter.follow(start, UNSIGNED_INT, 0) == start
    for tick, step in enumerate(steps, 1):
        true += step
        assert counter.follow(true % 2**32, UNSIGNED_INT, tick * 100 * MS) == true


def test_a_counter_is_not_believed_when_it_could_have_wrapped_unseen() -> None:
    """After a gap the reading is null; the count goes on from there, and never falls."""
    counter = WrappingCounter(10e9)
    readings = [counter.follow(raw, UNSIGNED_INT, t * 100 * MS) for t, raw in enumerate((10, 20))]
    readings += [counter.follow(50, UNSIGNED_INT, 2 * NS), counter.follow(60, UNSIGNED_INT, 2 * NS + 100 * MS)]
    assert readings == [10, 20, None, 30]


def test_a_wide_value_over_a_narrow_counter_is_found_out() -> None:
    """A 64-bit value that falls below what 32 bits hold has wrapped there."""
    counter = WrappingCounter(10e9)
    values = [2**32 - 10, 5, 25]
    assert [counter.follow(raw, UNSIGNED_LONG_LONG, t * 100 * MS) for t, raw in enumerate(values)] == [
        2**32 - 10,
        2**32 + 5,
        2**32 + 25,
    ]


def test_a_wide_counter_that_starts_again_is_null_once() -> None:
    """After a reset what was counted in between is unknown."""
    counter = WrappingCounter(10e9)
    values = [2**40, 7, 17]
    assert [counter.follow(raw, UNSIGNED_LONG_LONG, t * 100 * MS) for t, raw in enumerate(values)] == [
        2**40,
        None,
        2**40 + 10,
    ]


def test_more_than_the_link_can_carry_is_not_believed() -> None:
    """A jump that no transfer could make is a counter that started again."""
    counter = WrappingCounter(1e9)
    assert [counter.follow(raw, UNSIGNED_INT, t * 100 * MS) for t, raw in enumerate((0, 2**31, 2**31 + 5))] == [
        0,
        None,
        5,
    ]


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=50))
def test_an_energy_counter_that_only_grows_is_always_believed(steps: list[int]) -> None:
    """Up to the most that a GPU can consume, every reading counts."""
    counter, value = EnergyCounter(10**7), 0
    for tick, step in enumerate(steps):
        value += step
        assert counter.believe(value, tick * 100 * MS)
    assert counter.restarts == 0


def test_a_jump_is_believed_once_there_was_time_for_it() -> None:
    """A reading after a long gap may be far ahead; the same reading after a tick may not."""
    counter = EnergyCounter(1000)
    assert counter.believe(0, 0)
    assert not counter.believe(50_000, NS)
    assert counter.believe(50_000, 60 * NS)


@pytest.mark.parametrize(
    ("kind", "layout", "value"),
    [
        (0, "<d", 12.75),
        (1, "<Ixxxx", 2**32 - 1),
        (2, "<Q", 2**40),
        (3, "<Q", 2**64 - 1),
        (4, "<q", -5),
        (5, "<ixxxx", -7),
        (6, "<Hxxxxxx", 9),
    ],
)
def test_every_type_of_a_field_is_read(kind: int, layout: str, value: float) -> None:
    """NVML's union holds numbers of seven types; what lies beside a short one is not read."""
    answers = Answers()
    answers.take(8)
    offset = answers.take(8, bytes(a | b for a, b in zip(struct.pack(layout, value), bytes(8), strict=True)))
    position = answers.want(offset, VALUE_LETTERS[kind])
    answers.compile()
    assert answers.read()[position] == value


def test_answers_lie_behind_one_another() -> None:
    """What calls write into the block comes out at the places that were wanted, also when a type changes."""
    answers = Answers()
    first, second = answers.take(12, struct.pack("<III", 1, 2, 3)), answers.take(8, struct.pack("<Q", 2**32 + 5))
    places = [answers.want(first, "I"), answers.want(first + 8, "I"), answers.want(second, "Q")]
    answers.compile()
    assert [answers.read()[place] for place in places] == [1, 3, 2**32 + 5]
    answers.change(places[2], "I4x")
    assert answers.read()[places[2]] == 5
    with pytest.raises(ValueError, match="space"):
        answers.take(10_000)


costs = st.lists(st.floats(0, 1e9, allow_nan=False), min_size=1, max_size=30)


@given(costs)
def test_thinned_calls_keep_to_the_budget(given_costs: list[float]) -> None:
    """At the level found, all calls together cost the budget or less a tick, unless even the rarest asking is too dear."""
    pacer = Pacer(100 * MS, 0.01)
    asked = []
    for position, cost in enumerate(given_costs):
        one = Paced(str(position))
        one.cost_ns = cost
        asked.append(one)
    pacer.review(asked)
    average = sum(one.cost_ns / one.every for one in asked)
    dearest = max(one.every for one in asked)
    assert average <= 0.01 * 100 * MS * (1 + 1e-9) or dearest == pacer.longest
    cheap = [one for one in asked if one.cost_ns <= pacer.budget_ns / len(asked)]
    assert all(one.every == 1 for one in cheap)


def test_nothing_changes_while_calls_fit() -> None:
    """A tier within its budget is left alone, and so is one that exceeded it twice; after three times each call is watched, then reviewed."""
    pacer = Pacer(100 * MS, 0.01)
    within, beyond = round(0.9 * 0.01 * 100 * MS), round(1.5 * 0.01 * 100 * MS)
    spent = [within, beyond, beyond, within, beyond, beyond, within]
    assert not any(pacer.wants_review(one) or pacer.watching for one in spent)
    seen = [(pacer.wants_review(beyond), pacer.watching) for _ in range(6)]
    assert seen == [(False, False), (False, False), (False, True), (False, True), (False, True), (True, True)]


def test_a_call_that_is_cheap_again_gets_its_rate_back() -> None:
    """A thinned tier is looked at every so often."""
    pacer, dear, cheap = Pacer(100 * MS, 0.01), Paced("dear"), Paced("cheap")
    for _ in range(20):
        dear.took(60 * MS)
        cheap.took(MS // 20)
    assert pacer.review([dear, cheap]) == [dear]
    assert (dear.every, cheap.every) == (64, 1)
    for _ in range(40):
        dear.took(MS // 20)
    reviews = [pacer.wants_review(MS // 10) for _ in range(32)]
    assert reviews.count(True) == 2
    assert pacer.review([dear, cheap]) == []
    assert (dear.every, pacer.thinned, pacer.watching) == (1, False, False)


def retries(share: float, cost_ns: int, seconds: int) -> list[int]:
    """The seconds in which a GPU that stays away is tried."""
    retry = Retry(share)
    retry.lost(0)
    found = []
    for second in range(1, seconds + 1):
        if retry.is_due(second * 1000 * MS):
            found.append(second)
            retry.failed(second * 1000 * MS, cost_ns)
    return found


def test_a_gpu_that_is_away_is_tried_each_second_for_a_minute() -> None:
    """Then at doubling distances, up to a minute."""
    tried = retries(0.01, MS, 400)
    assert tried == [*range(1, 62), 62, 64, 68, 76, 92, 124, 184, 244, 304, 364]


def test_trying_a_gpu_again_keeps_to_the_budget() -> None:
    """A try that takes 100 ms costs a hundredth of the time when it is made every 10 s; one that hangs for a minute, once a minute."""
    assert retries(0.01, 100 * MS, 50) == [1, 11, 21, 31, 41]
    assert retries(0.01, 60_000 * MS, 150) == [1, 61, 121]


@given(st.integers(1, 20), st.integers(1, 60))
def test_every_nth_tick_means_every_nth_tick(every: int, ticks: int) -> None:
    """Between two askings lie exactly n - 1 ticks."""
    one = Paced("x")
    one.every = every
    asked = []
    for tick in range(ticks):
        if one.is_due():
            asked.append(tick)
            one.took(1)
    assert asked == list(range(0, ticks, every))
