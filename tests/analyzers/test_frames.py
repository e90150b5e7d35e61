"""The other frames: GPUs, timeline, unknown and idle intervals, hosts, notes."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from analysis_builders import GPU, HOST, MIB, MS, S, frame_of, gpu_rows, recording, stage, tenths, uses_ns
from gpucost.analyzers import Analysis, Settings, analyze
from gpucost.analyzers.model import NO_STAGE, USES
from gpucost.manifest import Gpu
from gpucost.schema import TABLES

GPUS = [
    "held_ns",
    *(f"{use}_ns" for use in USES),
    "coverage",
    "util_mean_pct",
    "memory_peak_bytes",
    "power_mean_w",
    "power_max_w",
    "temperature_max_c",
    "samples",
    "holding_basis",
    "longest_gap_ns",
    "gaps",
]
COLUMNS = {
    "ledger": ["gpu_uuid", "stage_path", "use", "duration_ns"],
    "gpus": GPUS,
    "energy": ["gpu_uuid", "stage_path", "energy_j", "active_j", "idle_j", "foreign_j"],
    "energy_gpus": [
        "energy_j",
        "counter_j",
        "integral_j",
        "basis",
        "difference_pct",
        "idle_power_w",
        "idle_power_basis",
        "covered_ns",
    ],
    "timeline": ["gpu_uuid", "bucket", "start_ns", "end_ns", "util_pct", "power_w", "memory_used_bytes"],
    "stage_timeline": ["stage_path", "bucket", "open_share"],
    "unknown_intervals": ["gpu_uuid", "start_ns", "end_ns", "reason"],
    "idle_intervals": ["gpu_uuid", "use", "start_ns", "end_ns"],
    "host": ["host", "cpu_util_mean_pct", "memory_used_peak_bytes", "processes_peak", "rss_peak_bytes", "cpu_s"],
}


def gpu(found: Analysis) -> dict[str, Any]:
    """The row of the one GPU."""
    return found.gpus.loc[GPU].to_dict()


@pytest.mark.parametrize("bare", ["no GPUs", "no rows", "no length", "no tables"])
def test_empty_inputs_give_empty_frames_with_the_right_columns(bare: str) -> None:
    """Whatever is missing, nobody who reads them has to ask first."""
    run = recording(0 if bare == "no length" else 3, gpus=[] if bare == "no GPUs" else None)
    if bare == "no tables":
        run.frames = {}
    found = analyze(run)
    for name, columns in COLUMNS.items():
        assert list(getattr(found, name).columns) == columns, name
    assert found.gpus.index.name == found.energy_gpus.index.name == "gpu_uuid"
    assert found.stages["stage_path"].tolist() == [NO_STAGE]
    assert found.ledger["duration_ns"].dtype == "int64"
    assert len(found.gpus) == (0 if bare == "no GPUs" else 1)


def test_means_are_weighted_by_the_time_each_reading_speaks_for() -> None:
    """0.1 s at 100 % and 0.3 s at 20 %."""
    rows = gpu_rows(
        [0.1, 0.4],
        [100.0, 20.0],
        power_w=[400.0, 100.0],
        memory_used_bytes=[900 * MIB, 700 * MIB],
        temperature_c=[40, 60],
    )
    row = gpu(analyze(recording(0.4, rows)))
    assert row["util_mean_pct"] == pytest.approx(40)
    assert row["power_mean_w"] == pytest.approx(175)
    assert (row["power_max_w"], row["memory_peak_bytes"], row["temperature_max_c"], row["samples"]) == (
        400,
        900 * MIB,
        60,
        2,
    )


def test_what_was_not_measured_is_nan_and_not_zero() -> None:
    """A GPU that gives nothing but its utilization."""
    row = gpu(analyze(recording(1, gpu_rows(tenths(0, 1), 0.0))))
    assert row["util_mean_pct"] == 0
    assert all(pd.isna(row[name]) for name in ("power_mean_w", "power_max_w", "memory_peak_bytes", "temperature_max_c"))


def test_readings_outside_the_run_are_not_counted() -> None:
    """One before it and one after it."""
    row = gpu(analyze(recording(1, gpu_rows([-0.5, *tenths(0, 1), 1.5], 0.0, power_w=[900.0, *[100.0] * 10, 900.0]))))
    assert (row["samples"], row["power_max_w"]) == (10, 100)


def test_coverage_counts_the_unknown_stretches_and_the_longest() -> None:
    """Holes of 0.9 s and 1.9 s in five seconds, and two seconds after the last reading."""
    times = [*tenths(0, 1), *tenths(1.9, 2), *tenths(3.9, 5)]
    row = gpu(analyze(recording(7, gpu_rows(times, 50.0))))
    assert (row["gaps"], row["longest_gap_ns"], row["unknown_ns"]) == (3, 2 * S, 4_800 * MS)
    assert row["coverage"] == pytest.approx(2.2 / 7)


def reasons(found: Analysis) -> list[tuple[float, float, str]]:
    """Start, end (in seconds) and reason of every unknown interval."""
    return [(start / S, end / S, reason) for _, start, end, reason in found.unknown_intervals.itertuples(index=False)]


def test_a_hole_has_no_sample_and_the_time_after_a_crash_of_the_recorder_was_not_closed() -> None:
    """The end of the run is known from elsewhere."""
    times = [*tenths(0, 1), *tenths(2, 3)]
    found = analyze(recording(5, gpu_rows(times, 50.0), end_basis="last_mark"))
    assert reasons(found) == [(1, 2, "no_sample"), (3, 5, "not_closed")]
    assert reasons(analyze(recording(5, gpu_rows(times, 50.0), end_basis="last_mark", live=True)))[1][2] == "no_sample"
    assert reasons(analyze(recording(5, gpu_rows(times, 50.0))))[1][2] == "no_sample"


def test_a_lost_gpu_is_the_reason_for_the_time_after_its_loss() -> None:
    """Reported at 1.2 s, back at 3 s; a later hole has nothing to do with it."""
    times = [*tenths(0, 1), *tenths(3, 4), *tenths(7, 8)]
    event = {"t_ns": 1_200 * MS, "kind": "gpu_lost", "source": "nvml", "subject": GPU}
    found = analyze(recording(8, gpu_rows(times, 50.0), event=[event]))
    assert reasons(found) == [(1, 3, "gpu_lost"), (4, 7, "no_sample")]
    other = {**event, "subject": "GPU-1"}
    assert reasons(analyze(recording(8, gpu_rows(times, 50.0), event=[other])))[0][2] == "no_sample"


def test_a_gpu_that_never_gives_a_utilization_does_not_support_it() -> None:
    """A null now and then is an invalid reading."""
    assert reasons(analyze(recording(1, gpu_rows(tenths(0, 1), None)))) == [(0, 1, "unsupported")]
    assert reasons(analyze(recording(1, gpu_rows(tenths(0, 1), [50.0] * 5 + [None] * 5)))) == [(0.5, 1, "invalid")]


def test_neighbouring_unknown_intervals_of_different_reasons_are_one_gap() -> None:
    """Invalid readings, then none."""
    found = analyze(recording(2, gpu_rows(tenths(0, 1), [50.0] * 5 + [None] * 5)))
    assert reasons(found) == [(0.5, 1, "invalid"), (1, 2, "no_sample")]
    assert (gpu(found)["gaps"], gpu(found)["longest_gap_ns"]) == (1, 1_500 * MS)


def test_the_timeline_is_means_by_bucket_and_nan_where_nothing_was_measured() -> None:
    """Four buckets of one second; the third has no reading, the fourth a half."""
    times = [*tenths(0, 2), *tenths(3.5, 4)]
    util = [100.0] * 5 + [0.0] * 5 + [40.0] * 10 + [80.0] * 5
    found = analyze(recording(4, gpu_rows(times, util, power_w=100.0)), Settings(timeline_buckets=4)).timeline
    assert found["util_pct"].tolist()[:2] == pytest.approx([50, 40])
    assert pd.isna(found["util_pct"][2])
    assert found["util_pct"][3] == pytest.approx(80)
    assert found["power_w"].tolist()[3] == pytest.approx(100)
    assert found["memory_used_bytes"].isna().all()
    assert found[["start_ns", "end_ns"]].to_numpy().tolist() == [[i * S, (i + 1) * S] for i in range(4)]


def test_a_reading_across_buckets_counts_in_each_by_its_time() -> None:
    """Readings every second, buckets of 0.75 s."""
    found = analyze(recording(3, gpu_rows([1, 2, 3], [100.0, 0.0, 50.0]), hz=1), Settings(timeline_buckets=4)).timeline
    assert found["util_pct"].tolist() == pytest.approx([100, 100 / 3, 50 / 3, 50])


def test_a_run_shorter_than_its_buckets_has_empty_ones() -> None:
    """Three nanoseconds in ten parts."""
    run = recording(0, gpu_rows([0.1], 100.0))
    run.end_ns = 3
    found = analyze(run, Settings(timeline_buckets=10)).timeline
    assert len(found) == 10
    assert found["util_pct"].notna().sum() == 3
    assert analyze(run, Settings(timeline_buckets=0)).timeline.empty


def test_idle_and_empty_stretches_are_listed_in_order() -> None:
    """Empty for two seconds, busy, idle for one, busy, and a pause too short to list."""
    own = [0] * 20 + [1] * 40
    util = [0.0] * 20 + [90.0] * 10 + [0.0] * 10 + [90.0] * 10 + [0.0] * 5 + [90.0] * 5
    found = analyze(recording(6, gpu_rows(tenths(0, 6), util, processes=own, run_processes=own))).idle_intervals
    assert found[["use", "start_ns", "end_ns"]].to_numpy().tolist() == [["empty", 0, 2 * S], ["idle", 3 * S, 4 * S]]


def test_hosts_are_summed_up() -> None:
    """CPU weighted by time, peaks of memory and of the tree at one poll, CPU seconds of every process ever seen."""
    machine = [
        {"t_ns": t * S, "cpu_util_pct": cpu, "memory_used_bytes": used}
        for t, cpu, used in ((1, 90.0, 5), (2, 10.0, 9), (4, 40.0, 7))
    ]
    process = [
        {"t_ns": t * S, "pid": pid, "start_time_ns": born, "rss_bytes": rss, "cpu_s": cpu}
        for t, pid, born, rss, cpu in (
            (1, 7, 1, 100, 1.0),
            (2, 7, 1, 150, 2.5),
            (2, 8, 2, 50, 0.5),
            (3, 7, 3, 120, 4.0),
        )
    ]
    found = analyze(recording(4, machine=machine, process=process)).host
    assert found.iloc[0].to_dict() == {
        "host": HOST,
        "cpu_util_mean_pct": pytest.approx((10 * 1 + 40 * 2) / 3),
        "memory_used_peak_bytes": 9,
        "processes_peak": 2,
        "rss_peak_bytes": 200,
        "cpu_s": 2.5 + 0.5 + 4.0,
    }


@pytest.mark.parametrize("table", sorted(TABLES))
def test_any_missing_column_reads_as_unknown(table: str) -> None:
    """Every column of every table, one after the other; the ledger still closes."""
    process = [{"t_ns": S, "pid": 7, "start_time_ns": 1, "ppid": 1}]
    rows = {
        "gpu": gpu_rows(tenths(0, 2), 50.0, power_w=100.0, memory_used_bytes=900 * MIB),
        "gpu_process": [{"t_ns": S, "gpu_uuid": GPU, "pid": 7, "in_run": True, "sm_util_pct": 50.0}],
        "stage": [stage("a", 0, 1, pid=7), stage("b", 0, None, pid=7)],
        "process": process,
        "machine": [{"t_ns": S, "cpu_util_pct": 3.0}],
        "event": [{"t_ns": S, "kind": "gpu_lost", "source": "nvml", "subject": GPU}],
    }
    for column in frame_of(table, ()).columns:
        run = recording(2, rows["gpu"], **{name: value for name, value in rows.items() if name != "gpu"})
        run.frames[table] = run.frames[table].drop(columns=column)
        assert sum(uses_ns(analyze(run)).values()) == 2 * S, column


def test_a_manifest_that_names_a_gpu_twice_bills_it_once() -> None:
    """Two recorders of one run described the same device."""
    gpus = [Gpu(GPU, "Test GPU", HOST, 0), Gpu(GPU, "Test GPU", HOST, 0)]
    found = analyze(recording(1, gpu_rows(tenths(0, 1), 100.0), gpus=gpus))
    assert found.gpus.index.tolist() == [GPU]


def test_gpus_are_in_the_manifests_order() -> None:
    """Not in that of their names or of their rows."""
    gpus = [Gpu(uuid, "Test GPU", HOST, i) for i, uuid in enumerate(("GPU-9", GPU, "GPU-5"))]
    found = analyze(recording(1, gpu_rows(tenths(0, 1), 100.0), gpus=gpus))
    assert found.gpus.index.tolist() == ["GPU-9", GPU, "GPU-5"]
    assert found.ledger["gpu_uuid"].drop_duplicates().tolist() == ["GPU-9", GPU, "GPU-5"]


def test_the_same_recording_gives_the_same_analysis() -> None:
    """Frame by frame, and the recording is not touched."""
    run = recording(3, gpu_rows(tenths(0, 3), 33.3, power_w=77.7), stage=[stage("a", 0, 2), stage("b", 1, 3)])
    before = {name: frame.copy() for name, frame in run.frames.items()}
    one, two = analyze(run), analyze(run)
    for name in COLUMNS:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(two, name))
    for name, frame in before.items():
        pd.testing.assert_frame_equal(run.frames[name], frame)
