"""Which reading speaks for which time."""

from __future__ import annotations

import pytest

from analysis_builders import GPU, MS, S, gpu_rows, recording, tenths, uses_ns
from gpucost.analyzers import analyze

NAN = float("nan")


def test_a_reading_speaks_for_the_time_since_the_one_before() -> None:
    """0.1 s at 100 % and then 0.1 s at 40 %, not the other way round."""
    found = analyze(recording(0.2, gpu_rows([0.1, 0.2], [100.0, 40.0])))
    assert uses_ns(found) == {"busy": 140 * MS, "gap": 60 * MS}


def test_nothing_is_known_before_the_first_reading_but_for_one_period() -> None:
    """At 10 Hz the first reading, at 3 s, speaks for 0.1 s."""
    found = analyze(recording(3, gpu_rows([3], 100.0)))
    assert uses_ns(found) == {"unknown": 2900 * MS, "busy": 100 * MS}


def test_nothing_is_known_after_the_last_reading() -> None:
    """The run went on for two seconds that nobody measured."""
    found = analyze(recording(3, gpu_rows(tenths(0, 1), 100.0)))
    assert uses_ns(found) == {"busy": S, "unknown": 2 * S}


def test_a_reading_just_after_the_end_covers_up_to_the_end() -> None:
    """The last sample of a run is taken when the command has ended already."""
    found = analyze(recording(1, gpu_rows([*tenths(0, 0.9), 1.05], 100.0)))
    assert uses_ns(found) == {"busy": S}


def test_a_reading_long_after_the_end_says_nothing_of_the_run() -> None:
    """It speaks for one period of its own."""
    found = analyze(recording(1, gpu_rows([*tenths(0, 0.5), 60], 100.0)))
    assert uses_ns(found) == {"busy": 500 * MS, "unknown": 500 * MS}


@pytest.mark.parametrize(
    ("hz", "spacing_ms", "unknown_ms"),
    [(10, 350, 0), (10, 351, 251), (10, 1000, 900), (1, 2500, 0), (1, 2501, 1501), (50, 270, 0), (50, 271, 251)],
)
def test_a_late_tick_is_no_gap_but_a_missing_one_is(hz: float, spacing_ms: int, unknown_ms: int) -> None:
    """A spacing is a gap when it is over 2.5 periods and over 0.25 s longer than one; then one period of it is covered."""
    start = 1 / hz
    end = start + spacing_ms / 1000
    found = analyze(recording(end, gpu_rows([start, end], 100.0), hz=hz))
    assert uses_ns(found).get("unknown", 0) == unknown_ms * MS


def test_a_rate_that_the_recorder_does_not_say_is_the_median_spacing() -> None:
    """Readings every two seconds with a hole of ten."""
    found = analyze(recording(20, gpu_rows([2, 4, 6, 16, 18, 20], 100.0), hz=None))
    assert uses_ns(found) == {"busy": 12 * S, "unknown": 8 * S}
    assert found.period_ns == 2 * S


def test_a_single_reading_at_an_unknown_rate_speaks_for_no_time() -> None:
    """There is no spacing to go by."""
    found = analyze(recording(1, gpu_rows([0.5], 100.0), hz=None))
    assert uses_ns(found) == {"unknown": S}


@pytest.mark.parametrize("hz", [NAN, 0.0, -10.0, float("inf"), "10", True])
def test_a_rate_that_makes_no_sense_is_not_believed(hz: object) -> None:
    """The median spacing stands in for it."""
    run = recording(1, gpu_rows(tenths(0, 1), 100.0))
    run.manifest.recorder["hz"] = hz
    assert uses_ns(analyze(run)) == {"busy": S}


def test_readings_out_of_order_are_sorted() -> None:
    """The frame's order does not matter."""
    found = analyze(recording(0.3, gpu_rows([0.3, 0.1, 0.2], [30.0, 10.0, 20.0])))
    assert uses_ns(found)["busy"] == 60 * MS


def test_two_readings_of_one_instant_complete_each_other() -> None:
    """One knows the utilization, the other the memory."""
    rows = gpu_rows([0.1, 0.1], [70.0, None], memory_used_bytes=[None, 2.0**30])
    found = analyze(recording(0.1, rows))
    assert uses_ns(found) == {"busy": 70 * MS, "gap": 30 * MS}
    assert found.gpus.loc[GPU, "memory_peak_bytes"] == 2.0**30


def test_two_readings_of_one_instant_that_disagree_are_both_unknown() -> None:
    """Nobody knows which one is right."""
    found = analyze(recording(0.2, gpu_rows([0.1, 0.1, 0.2], [70.0, 20.0, 100.0])))
    assert uses_ns(found) == {"unknown": 100 * MS, "busy": 100 * MS}


@pytest.mark.parametrize("util", [None, NAN, -1.0, 100.5, 6e5, float("inf")])
def test_a_utilization_that_cannot_be_is_unknown_and_not_zero(util: float | None) -> None:
    """Neither busy nor idle."""
    found = analyze(recording(0.2, gpu_rows([0.1, 0.2], [util, 100.0])))
    assert uses_ns(found) == {"unknown": 100 * MS, "busy": 100 * MS}


def test_a_utilization_speaks_for_ticks_before_it_that_did_not_ask() -> None:
    """A recorder that spares a slow driver asks at every second or third tick; at every fourth, the next one is too far away."""
    second = gpu_rows(tenths(0, 0.5), [10.0, None, 30.0, None, 50.0])
    assert uses_ns(analyze(recording(0.5, second)))["busy"] == (10 + 30 + 30 + 50 + 50) * MS
    third = gpu_rows(tenths(0, 0.4), [10.0, None, None, 40.0])
    assert uses_ns(analyze(recording(0.4, third)))["busy"] == (10 + 3 * 40) * MS
    fourth = gpu_rows(tenths(0, 0.5), [10.0, None, None, None, 50.0])
    assert uses_ns(analyze(recording(0.5, fourth))) == {"busy": 60 * MS, "gap": 140 * MS, "unknown": 300 * MS}


def test_a_utilization_that_is_missing_at_the_end_is_unknown() -> None:
    """No later reading speaks for it."""
    found = analyze(recording(0.3, gpu_rows(tenths(0, 0.3), [100.0, 100.0, None])))
    assert uses_ns(found) == {"busy": 200 * MS, "unknown": 100 * MS}


def test_readings_before_the_start_cover_the_start() -> None:
    """A recorder that sampled before the command started."""
    found = analyze(recording(0.1, gpu_rows([-0.05, 0.05, 0.15], [0.0, 100.0, 100.0])))
    assert uses_ns(found) == {"busy": 100 * MS}


def test_a_gpu_without_readings_is_unknown_all_the_time() -> None:
    """And says so."""
    found = analyze(recording(5))
    assert uses_ns(found) == {"unknown": 5 * S}
    assert found.gpus.loc[GPU, "coverage"] == 0
    assert any("no readings" in note for note in found.notes)


def test_times_beyond_any_run_are_left_out() -> None:
    """A damaged clock must not overflow the arithmetic."""
    run = recording(0.2, gpu_rows([0.1, 0.2], 100.0))
    run.frames["gpu"].loc[2] = {**run.frames["gpu"].loc[1].to_dict(), "t_ns": (1 << 63) - 1}
    run.frames["gpu"].loc[3] = {**run.frames["gpu"].loc[1].to_dict(), "t_ns": -(1 << 63)}
    run.frames["gpu"]["t_ns"] = run.frames["gpu"]["t_ns"].astype("int64")
    assert uses_ns(analyze(run)) == {"busy": 200 * MS}
