"""What the driver kept between ticks, and what it says that the ticks do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis_builders import GPU, MS, S, frame_of, gpu_rows, recording, tenths, uses_ns
from gpucost.analyzers import analyze
from gpucost.analyzers.finer import refine
from gpucost.analyzers.timeline import Ticks, read_ticks

SAMPLE_NS = 200 * MS


def samples(
    start_ns: int, util: list[float | None], *, every_ns: int = SAMPLE_NS, **columns: Any
) -> list[dict[str, Any]]:
    """Rows of `gpu_sample`, of periods that adjoin from `start_ns` on."""
    return [
        {
            "t_ns": start_ns + (i + 1) * every_ns,
            "gpu_uuid": GPU,
            "gpu_util_pct": value,
            **{k: v[i] for k, v in columns.items()},
        }
        for i, value in enumerate(util)
    ]


def refined(ticks: Ticks, rows: list[dict[str, Any]], period_ns: int) -> Ticks:
    frame = frame_of("gpu_sample", rows)
    return refine(ticks, frame, np.arange(len(frame)), period_ns)


def ticks_at(t_ns: list[int], util: float = 50.0, **columns: Any) -> Ticks:
    rows = gpu_rows([t / S for t in t_ns], util, **columns)
    return read_ticks(frame_of("gpu", rows), np.arange(len(rows)))


series = st.lists(st.sampled_from([0.0, 0.0, 1.0, 40.0, 100.0]), min_size=4, max_size=40)


@given(
    util=series,
    hz=st.sampled_from([1, 3, 10, 20]),
    late_ns=st.lists(st.integers(0, 40 * MS), min_size=200, max_size=200),
)
def test_busy_time_is_that_of_the_samples_whatever_the_rate(util: list[float], hz: int, late_ns: list[int]) -> None:
    """Over the time that samples and ticks both cover, the sum of share x time is the samples' own, and where they say nothing ran, nothing did."""
    end_ns = len(util) * SAMPLE_NS
    period_ns = S // hz
    t_ns = [k * period_ns + late_ns[k] for k in range(end_ns // period_ns + 1) if k * period_ns + late_ns[k] <= end_ns]
    merged = refined(ticks_at(t_ns), samples(0, list(util)), period_ns)
    start, stop = merged.t_ns[:-1], merged.t_ns[1:]
    truth = np.interp(
        merged.t_ns, np.arange(len(util) + 1) * SAMPLE_NS, np.append(0, np.cumsum(util)) * SAMPLE_NS / 100
    )
    found = merged.util[1:] * (stop - start)
    assert found.sum() == pytest.approx(truth[-1] - truth[0], abs=10 * len(found))
    idle = np.array(util) == 0
    for i in np.flatnonzero(merged.util[1:] > 0):
        touched = slice(int(start[i] // SAMPLE_NS), int(-(-stop[i] // SAMPLE_NS)))
        assert not idle[touched].any()


def test_ticks_that_come_often_gain_readings_only_where_work_begins_or_ends() -> None:
    ticks = ticks_at([k * 100 * MS + 3 for k in range(1, 41)], energy_j=[float(k) for k in range(40)])
    merged = refined(
        ticks, samples(0, [0, 0, 80, 90, 100, 70, 0, 0, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60]), 100 * MS
    )
    assert sorted(set(merged.t_ns.tolist()) - set(ticks.t_ns.tolist())) == [400 * MS, 1200 * MS, 1600 * MS, 4000 * MS]


def test_a_slow_recording_gains_every_sample() -> None:
    merged = refined(ticks_at([S, 2 * S, 3 * S], energy_j=[1.0, 2.0, 3.0]), samples(0, [10, 20, 30, 40, 50] * 3), S)
    assert merged.t_ns.tolist() == [k * SAMPLE_NS for k in range(1, 16)]
    assert merged.util[1:5] == pytest.approx([0.2, 0.3, 0.4, 0.5])


def test_where_no_tick_came_the_samples_say_what_happened() -> None:
    """A recorder that was stopped for eight seconds while the driver went on: work until the fifth second, then none."""
    at = [*tenths(0, 1), *tenths(9, 10)]
    rows = gpu_rows(at, [100.0] * 10 + [0.0] * 10)
    kept = samples(0, [100.0] * 25 + [0.0] * 25)
    assert uses_ns(analyze(recording(10, rows)))["unknown"] == 8 * S
    found = uses_ns(analyze(recording(10, rows, gpu_sample=kept)))
    assert found == {"busy": 5 * S, "idle": 5 * S}


def test_a_hole_in_the_samples_leaves_the_ticks_their_own_readings() -> None:
    kept = [*samples(0, [100.0] * 5), *samples(5 * S, [100.0] * 5)]
    merged = refined(ticks_at([k * 100 * MS for k in range(1, 61)], 25.0), kept, 100 * MS)
    util = dict(zip(merged.t_ns.tolist(), merged.util.tolist(), strict=True))
    assert {util[k * 100 * MS] for k in range(11, 51)} == {0.25}
    assert {util[k * 100 * MS] for k in range(51, 61)} == {1.0}


def test_power_between_ticks_counts_only_where_there_is_no_counter() -> None:
    kept = samples(0, [None] * 20, every_ns=100 * MS, power_w=[300.0] * 20)
    with_counter = refined(ticks_at([S, 2 * S], power_w=100.0, energy_j=[0.0, 300.0]), kept, S)
    without = refined(ticks_at([S, 2 * S], power_w=100.0), kept, S)
    assert with_counter.t_ns.tolist() == [S, 2 * S]
    assert len(without) == 20
    assert np.nanmax(without.power_w) == 300.0


def test_samples_that_tell_nothing_change_nothing() -> None:
    ticks = ticks_at([S, 2 * S])
    assert refined(ticks, samples(0, [None] * 10), S) is ticks
    assert refined(ticks, [], S) is ticks
