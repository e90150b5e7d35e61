"""Every use, by hand."""

from __future__ import annotations

import pytest

from analysis_builders import GPU, HOST, MIB, MS, S, gpu_process, gpu_rows, recording, tenths, uses_ns
from gpucost.analyzers import Settings, analyze
from gpucost.manifest import Gpu


def on_off(*parts: tuple[float, float]) -> list[float]:
    """Utilization at 10 Hz: pairs of percent and seconds."""
    return [util for util, seconds in parts for _ in range(round(seconds * 10))]


def test_utilization_makes_busy_and_the_rest_of_an_active_window_is_gap() -> None:
    """37 % of ten seconds."""
    found = analyze(recording(10, gpu_rows(tenths(0, 10), 37.0)))
    assert uses_ns(found) == {"busy": 3_700 * MS, "gap": 6_300 * MS}


def test_no_kernel_for_a_second_is_idle_and_for_less_is_gap() -> None:
    """Stretches of 0.9 s and 1.0 s."""
    util = on_off((100, 1), (0, 0.9), (100, 1), (0, 1.0), (100, 0.1))
    found = analyze(recording(4, gpu_rows(tenths(0, 4), util)))
    assert uses_ns(found) == {"busy": 2_100 * MS, "gap": 900 * MS, "idle": 1_000 * MS}
    assert found.idle_intervals.to_dict("list") == {
        "gpu_uuid": [GPU],
        "use": ["idle"],
        "start_ns": [2_900 * MS],
        "end_ns": [3_900 * MS],
    }


def test_idle_after_can_be_set() -> None:
    """With 0.5 s, both stretches are idle."""
    util = on_off((100, 1), (0, 0.9), (100, 1), (0, 1.0), (100, 0.1))
    found = analyze(recording(4, gpu_rows(tenths(0, 4), util)), Settings(idle_after_ns=S // 2))
    assert uses_ns(found) == {"busy": 2_100 * MS, "idle": 1_900 * MS}


def test_idleness_is_not_assumed_across_time_without_a_reading() -> None:
    """Two stretches of 0.9 s around a hole are two gaps, not one idle stretch."""
    times = [*tenths(0, 0.9), *tenths(2.9, 3.8)]
    found = analyze(recording(3.8, gpu_rows(times, 0.0)))
    assert uses_ns(found) == {"gap": 1_800 * MS, "unknown": 2_000 * MS}
    assert found.idle_intervals.empty


def test_idleness_is_not_assumed_across_readings_without_a_utilization() -> None:
    """Four nulls between two stretches are too long for the next reading to speak for, and break them."""
    found = analyze(recording(2.2, gpu_rows(tenths(0, 2.2), [*[0.0] * 9, *[None] * 4, *[0.0] * 9])))
    assert uses_ns(found) == {"gap": 1_800 * MS, "unknown": 400 * MS}


def test_a_gpu_that_no_process_of_the_run_is_on_is_empty() -> None:
    """Whatever its utilization says, known or not."""
    rows = gpu_rows(tenths(0, 2), [0.0] * 10 + [None] * 10, processes=0, run_processes=0)
    found = analyze(recording(2, rows))
    assert uses_ns(found) == {"empty": 2 * S}
    assert found.idle_intervals["use"].tolist() == ["empty"]


def test_what_only_others_execute_is_foreign_and_the_rest_of_that_time_empty() -> None:
    """A neighbour at 60 %, no process of the run."""
    found = analyze(recording(2, gpu_rows(tenths(0, 2), 60.0, processes=1, run_processes=0)))
    assert uses_ns(found) == {"foreign": 1_200 * MS, "empty": 800 * MS}
    assert found.idle_intervals.empty


def test_shared_activity_is_split_by_utilization_of_the_processes() -> None:
    """The run 30 %, a neighbour 10 %: three quarters of the activity are the run's."""
    rows = gpu_rows(tenths(0, 2), 80.0, processes=2, run_processes=1)
    shares = [
        gpu_process(t, pid, in_run=own, sm=sm)
        for t in tenths(0, 2)
        for pid, own, sm in ((7, True, 30.0), (8, False, 10.0))
    ]
    found = analyze(recording(2, rows, gpu_process=shares))
    assert uses_ns(found) == {"busy": 1_200 * MS, "foreign": 400 * MS, "gap": 400 * MS}


def test_shared_activity_of_unknown_shares_is_split_by_heads() -> None:
    """One process of the run among four."""
    found = analyze(recording(2, gpu_rows(tenths(0, 2), 80.0, processes=4, run_processes=1)))
    assert uses_ns(found) == {"busy": 400 * MS, "foreign": 1_200 * MS, "gap": 400 * MS}


def test_a_run_that_waits_while_others_execute_is_idle_and_the_activity_foreign() -> None:
    """The run holds memory, its own utilization is zero."""
    rows = gpu_rows(tenths(0, 2), 50.0, processes=2, run_processes=1)
    shares = [
        gpu_process(t, pid, in_run=own, sm=sm)
        for t in tenths(0, 2)
        for pid, own, sm in ((7, True, 0.0), (8, False, 50.0))
    ]
    found = analyze(recording(2, rows, gpu_process=shares))
    assert uses_ns(found) == {"foreign": S, "idle": S}


def test_shares_hold_for_the_time_since_the_poll_before() -> None:
    """Polled at 1 s and 2 s: all the run's first, half of it then."""
    polls = [None] * 9 + [1] + [None] * 9 + [2]
    rows = gpu_rows(tenths(0, 2), 100.0, processes=polls, run_processes=[p and 1 for p in polls])
    shares = [
        gpu_process(1, 7, in_run=True, sm=100.0),
        gpu_process(2, 7, in_run=True, sm=50.0),
        gpu_process(2, 8, in_run=False, sm=50.0),
    ]
    found = analyze(recording(2, rows, gpu_process=shares))
    assert uses_ns(found) == {"busy": 1_500 * MS, "foreign": 500 * MS}


def test_kernels_with_nobody_listed_are_unknown() -> None:
    """Something executed between two polls that saw nobody, and memory was in use: nobody knows whose."""
    processes = [1] + [0] * 19
    memory = [900 * MIB] * 20
    rows = gpu_rows(
        tenths(0, 2), [0.0] * 15 + [50.0] * 5, processes=processes, run_processes=processes, memory_used_bytes=memory
    )
    found = analyze(recording(2, rows))
    assert uses_ns(found)["unknown"] == 500 * MS
    assert found.unknown_intervals["reason"].tolist() == ["unlisted"]


def test_utilization_of_a_bare_gpu_is_the_drivers_own() -> None:
    """Nobody listed and no memory in use: empty, even if asking it woke the GPU."""
    processes = [1] + [0] * 19
    memory = [900 * MIB] + [501 * MIB] * 19
    rows = gpu_rows(
        tenths(0, 2), [0.0] * 15 + [4.0] * 5, processes=processes, run_processes=processes, memory_used_bytes=memory
    )
    assert "unknown" not in uses_ns(analyze(recording(2, rows)))


def test_a_gpu_that_asking_wakes_is_still_empty_if_nobody_is_ever_on_it() -> None:
    """A few percent at no memory are no reason to doubt an empty process list."""
    rows = gpu_rows(tenths(0, 2), 4.0, processes=0, run_processes=0, memory_used_bytes=501 * MIB)
    found = analyze(recording(2, rows))
    assert uses_ns(found) == {"empty": 2 * S}
    assert found.gpus.loc[GPU, "holding_basis"] == "processes"


def test_only_held_gpus_are_in_the_ledger() -> None:
    """A GPU that the run does not hold costs nothing, and rows of one that the manifest does not know are left out."""
    gpus = [Gpu(GPU, "Test GPU", HOST, 0), Gpu("GPU-1", "Test GPU", HOST, 1, held=False)]
    rows = [*gpu_rows([0.1], 100.0), *gpu_rows([0.1], 100.0, uuid="GPU-1"), *gpu_rows([0.1], 100.0, uuid="GPU-2")]
    found = analyze(recording(0.1, rows, gpus=gpus))
    assert found.gpus.index.tolist() == [GPU]
    assert found.ledger["gpu_uuid"].unique().tolist() == [GPU]


def test_every_gpu_has_its_own_ledger() -> None:
    """Two GPUs at 100 % and at 0 %."""
    gpus = [Gpu(uuid, "Test GPU", HOST, i) for i, uuid in enumerate((GPU, "GPU-1"))]
    rows = [*gpu_rows(tenths(0, 2), 100.0), *gpu_rows(tenths(0, 2), 0.0, uuid="GPU-1")]
    found = analyze(recording(2, rows, gpus=gpus))
    assert uses_ns(found) == {"busy": 2 * S}
    assert uses_ns(found, "GPU-1") == {"idle": 2 * S}


@pytest.mark.parametrize("util", [33.3, 0.1, 99.9, 12.345])
def test_rounding_never_loses_a_nanosecond(util: float) -> None:
    """Thirds and tenths of odd spacings still add up."""
    times = [0.100000001 * i for i in range(1, 51)]
    found = analyze(recording(5.000000051, gpu_rows(times, util)))
    assert sum(uses_ns(found).values()) == 5_000_000_051
