"""Reading a run: one time axis, known types, and a clear word for whatever is not as it should be."""

import json
import os
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpucost import rundir
from gpucost.errors import DamagedRunError, NewerSchemaError, UsageError
from gpucost.manifest import RECOVERED, Host
from gpucost.schema import TABLES, EventRow, GpuProcessRow, GpuRow, MachineRow, StageRow
from gpucost.store.manifest_io import read_manifest, write_manifest
from gpucost.store.reader import END_BASIS_KEY, STAGE_STARTED, load
from gpucost.store.seal import seal_run
from store.making import (
    HOST,
    MONO_NS,
    TIME_NS,
    WRITER,
    S,
    assert_same_frames,
    frames,
    gpu,
    journal,
    make_run,
    mutate,
    problem_counts,
    process,
    write_rounds,
)
from store.strategies import rows_of

PART = f"host={HOST}/gpu/part-{WRITER}-1-1.parquet"


def write(run: Path, table: str, rows: list, *, host: str = HOST, writer: str = WRITER) -> None:
    log = journal(run, host, writer)
    log.append(table, rows)
    assert log.rows_dropped == 0
    log.close()


def mark(**fields: object) -> str:
    return json.dumps(fields) + "\n"


def at(seconds: float) -> dict[str, int]:
    """The two times of a mark `seconds` after the run's start."""
    return {"time_ns": TIME_NS + round(seconds * S), "mono_ns": MONO_NS + round(seconds * S)}


def stage_file(run: Path, host: str = HOST) -> Path:
    return Path(rundir.stage_file(str(run), host))


@pytest.fixture
def sealed(run) -> Path:
    """A run with three readings in one part."""
    write(run, "gpu", [gpu(number, power_w=100.0 + number, temperature_c=50) for number in range(3)])
    seal_run(str(run), HOST, final=True)
    return run


# --- rows ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(TABLES))
@given(data=st.data())
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_rows_come_back_from_the_journal_and_from_parquet_with_the_unknown_unknown(tmp_path_factory, name, data):
    times = st.integers(TIME_NS, TIME_NS + 2**40)
    rows = data.draw(st.lists(rows_of(name, times), max_size=12, unique_by=lambda row: row[:6]))
    run = make_run(tmp_path_factory.mktemp("runs"))
    write(run, name, rows)
    journalled = frames(run)
    seal_run(str(run), HOST, final=True)
    assert_same_frames(frames(run), journalled)
    found = journalled[name]
    assert len(found) == len(rows)
    column = "start_mono_ns" if name == "stage" else "mono_ns"
    assert list(found[column]) == sorted(getattr(row, column) for row in rows)
    for field in TABLES[name].columns:
        want = sorted(repr(_plain(getattr(row, field))) for row in rows)
        assert sorted(repr(_plain(value)) for value in found[field]) == want, field


def _plain(value: object) -> object:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, str | bool | np.bool_):
        return str(value)
    return float(value) + 0.0


def test_every_table_is_there_with_all_its_columns_also_when_empty(run):
    for name, frame in frames(run).items():
        axis = ["start_t_ns", "end_t_ns"] if name == "stage" else ["t_ns"]
        assert list(frame.columns) == [*TABLES[name].columns, *axis, "host"]
        assert len(frame) == 0


def test_types_do_not_depend_on_there_being_rows(run, sealed, tmp_path):
    empty = frames(make_run(tmp_path / "other"))
    for name, frame in frames(sealed).items():
        types = [str(kind) if kind.name != "category" else "category" for kind in frame.dtypes]
        assert types == [str(kind) if kind.name != "category" else "category" for kind in empty[name].dtypes]


def test_types_are_those_that_are_promised(run):
    write(run, "gpu", [gpu(0, power_w=1.5)])
    write(run, "gpu_process", [GpuProcessRow(TIME_NS, MONO_NS, "GPU-0", 7, TIME_NS + 1, None, "compute")])
    write(run, "stage", [StageRow("a", "plan", TIME_NS, TIME_NS, MONO_NS, MONO_NS)])
    found = frames(run)
    gpus, processes, stages = found["gpu"], found["gpu_process"], found["stage"]
    assert gpus["gpu_uuid"].dtype == "category"
    assert gpus["host"].dtype == "category"
    assert [str(gpus[name].dtype) for name in ("time_ns", "t_ns", "power_w", "temperature_c", "processes")] == [
        "int64", "int64", "float64", "float64", "float64"]  # fmt: skip
    assert [str(processes[name].dtype) for name in ("pid", "start_time_ns", "in_run")] == ["int64", "Int64", "boolean"]
    assert processes["start_time_ns"][0] == TIME_NS + 1
    assert processes["in_run"].isna().all()
    assert [str(stages[name].dtype) for name in ("start_t_ns", "end_t_ns", "truncated")] == ["int64", "Int64", "bool"]


def test_infinity_in_a_part_is_unknown(sealed):
    _rewrite(sealed, "power_w", pa.array([1.0, float("inf"), float("-inf")], pa.float32()))
    assert list(frames(sealed)["gpu"]["power_w"].isna()) == [False, True, True]


def test_rows_are_in_time_order_and_at_one_instant_in_the_order_of_what_they_are_about(run):
    write(run, "gpu", [gpu(2, "GPU-a"), gpu(1, "GPU-b"), gpu(1, "GPU-a")])
    write(run, "gpu", [gpu(1.5, "GPU-a"), gpu(1, "GPU-0")], writer="second")
    found = frames(run)["gpu"]
    assert list(zip(found["t_ns"] / S, found["gpu_uuid"], strict=True)) == [
        (1, "GPU-0"), (1, "GPU-a"), (1, "GPU-b"), (1.5, "GPU-a"), (2, "GPU-a")]  # fmt: skip
    assert list(found["gpu_uuid"].cat.categories) == ["GPU-0", "GPU-a", "GPU-b"]
    assert list(found.index) == list(range(5))


@pytest.mark.parametrize("writers", [1, 2])
def test_rows_can_come_gpu_by_gpu_each_in_time_order(run, writers):
    for number in range(writers):
        rows = [
            gpu(
                number / 4 + i / 2,
                f"GPU-{i % 3}",
                power_w=i + 0.5,
                temperature_c=i,
                sm_clock_mhz=1980,
                memory_clock_mhz=1 << 25,
            )
            for i in range(60)
        ]
        write(run, "gpu", rows, writer=f"writer{number}")
        seal_run(str(run), HOST, final=True)
    grouped = load(str(run), grouped=["gpu"]).frames["gpu"]
    assert len(grouped) == 60 * writers
    assert grouped["gpu_uuid"].astype(str).is_monotonic_increasing
    assert all(rows["t_ns"].is_monotonic_increasing for _, rows in grouped.groupby("gpu_uuid", observed=True))
    in_time = grouped.sort_values(["t_ns", "gpu_uuid"], kind="stable").reset_index(drop=True)
    whole = load(str(run)).frames["gpu"]
    pd.testing.assert_frame_equal(in_time, whole.dropna(axis="columns", how="all"), check_dtype=False)
    assert {str(grouped[name].dtype) for name in ("power_w", "temperature_c", "sm_clock_mhz")} == {"float32"}
    assert grouped["memory_clock_mhz"].dtype == np.float64
    assert "pstate" not in grouped.columns


def test_rows_that_are_there_twice_count_once(run):
    rows = [gpu(1, "GPU-a", power_w=5.0), gpu(1, "GPU-b"), gpu(2, "GPU-a")]
    write(run, "gpu", rows)
    write(run, "gpu", [*rows[:2], gpu(2, "GPU-a", power_w=1.0)], writer="copy")
    assert len(frames(run)["gpu"]) == 4
    assert problem_counts(run)["duplicate_rows"] == 2


# --- time and hosts -----------------------------------------------------------------------------------------------------------------


def test_a_step_of_the_wall_clock_moves_nothing(run):
    write(
        run, "gpu", [gpu(1), gpu(2)._replace(time_ns=TIME_NS - 3600 * S), gpu(3)._replace(time_ns=TIME_NS + 3600 * S)]
    )
    assert list(frames(run)["gpu"]["t_ns"]) == [S, 2 * S, 3 * S]


def test_each_hosts_monotonic_clock_is_placed_by_its_own_start(tmp_path):
    run = make_run(tmp_path, hosts=["a", "b"])
    manifest = read_manifest(str(run))
    manifest.hosts["b"] = Host("b", TIME_NS + 2 * S, 77)  # started two seconds later, booted a moment ago
    write_manifest(str(run), manifest)
    write(run, "gpu", [gpu(5, "GPU-a")], host="a")
    write(run, "gpu", [GpuRow(TIME_NS, 77 + S, "GPU-b")], host="b")
    found = frames(run)["gpu"]
    assert list(zip(found["host"], found["gpu_uuid"], found["t_ns"] / S, strict=True)) == [
        ("b", "GPU-b", 3),
        ("a", "GPU-a", 5),
    ]


def test_a_host_keeps_the_name_of_the_manifest(tmp_path):
    run = make_run(tmp_path, hosts=["my host/1"])
    write(run, "gpu", [gpu(1)], host="my host/1")
    assert list(frames(run)["gpu"]["host"]) == ["my host/1"]


def test_a_host_that_the_manifest_does_not_know_is_placed_by_the_time_of_day(tmp_path):
    run = make_run(tmp_path, hosts=["a"])
    rundir.add_host(str(run), "b")
    write(run, "gpu", [GpuRow(TIME_NS + 4 * S, 99, "GPU-b"), GpuRow(TIME_NS + 4 * S, 99 + S, "GPU-b")], host="b")
    assert list(frames(run)["gpu"]["t_ns"]) == [4 * S, 5 * S]
    assert problem_counts(run)["unknown_host"] == 1


def test_a_sample_from_just_before_the_start_counts_as_at_the_start_and_earlier_ones_are_left_out(run):
    write(run, "gpu", [gpu(-100), gpu(-1.001), gpu(-0.4), gpu(0.5)])
    write(run, "machine", [MachineRow(TIME_NS, 0)])
    assert list(frames(run)["gpu"]["t_ns"]) == [0, S // 2]
    assert len(frames(run)["machine"]) == 0
    assert problem_counts(run)["before_start"] == 3


def test_several_writers_on_one_host_are_read_together(run):
    for number in range(4):
        write(run, "gpu", [gpu(number)], writer=f"writer{number}")
        seal_run(str(run), HOST, {f"writer{number}"}, final=number % 2 == 0)
    assert len(frames(run)["gpu"]) == 4


# --- only what is asked for ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seal", [False, True])
def test_only_the_tables_and_columns_that_are_asked_for_are_there(run, seal):
    write_rounds(run, 3)
    if seal:
        seal_run(str(run), HOST, final=True)
    found = load(str(run), tables=["gpu"], columns={"gpu": ["power_w"]})
    assert list(found.frames["gpu"].columns) == ["gpu_uuid", "power_w", "t_ns", "host"]
    whole = load(str(run))
    pd.testing.assert_frame_equal(found.frames["gpu"], whole.frames["gpu"][["gpu_uuid", "power_w", "t_ns", "host"]])
    assert found.end_ns == whole.end_ns
    assert len(found.frames["process"]) == 0
    assert list(found.frames["process"].columns) == list(whole.frames["process"].columns)


def test_a_table_or_column_that_does_not_exist_is_refused(run):
    with pytest.raises(UsageError, match="no table moon"):
        load(str(run), tables=["moon"])
    with pytest.raises(UsageError, match="no column moon"):
        load(str(run), columns={"gpu": ["moon"]})


# --- how a run ended ----------------------------------------------------------------------------------------------------------------


def test_a_closed_run_is_as_long_as_its_command_ran(tmp_path):
    run = make_run(tmp_path, end_s=12.5)
    write(run, "gpu", [gpu(20)])
    found = load(str(run))
    assert (found.end_ns, found.end_basis, found.live) == (12_500_000_000, "exit", False)
    assert found.problems == []


def test_a_wall_clock_that_stepped_does_not_change_the_length(tmp_path):
    run = make_run(tmp_path, end_s=10, end_time_ns=TIME_NS - 5)
    assert load(str(run)).end_ns == 10 * S
    run = make_run(tmp_path, end_s=10, end_mono_ns=None)
    assert load(str(run)).end_ns == 10 * S


def test_a_run_that_was_not_closed_is_as_long_as_its_last_sample(run):
    write(run, "gpu", [gpu(3)])
    write(run, "process", [process(7, 1)])
    found = load(str(run))
    assert (found.end_ns, found.end_basis, found.live) == (7 * S, "last_sample", False)
    assert [problem.code for problem in found.problems] == ["not_closed"]


def test_a_mark_after_the_last_sample_makes_the_run_longer(run):
    write(run, "gpu", [gpu(3)])
    stage_file(run).write_text(mark(event="start", id="a", name="n", **at(1)) + mark(event="end", id="a", **at(9)))
    found = load(str(run))
    assert (found.end_ns, found.end_basis) == (9 * S, "last_mark")


def test_a_mark_from_the_far_future_does_not(run):
    write(run, "gpu", [gpu(3)])
    far = 50 * 365 * 86400
    stage_file(run).write_text(mark(event="start", id="a", name="n", **at(1)) + mark(event="end", id="a", **at(far)))
    assert (load(str(run)).end_ns, load(str(run)).end_basis) == (3 * S, "last_sample")


def test_a_run_with_nothing_in_it_has_no_length(run):
    found = load(str(run))
    assert (found.end_ns, found.end_basis) == (0, "last_sample")


def test_a_recovered_run_keeps_what_its_end_rests_on(tmp_path):
    run = make_run(tmp_path, end_s=4, status=RECOVERED, recorder={END_BASIS_KEY: "last_mark"})
    assert (load(str(run)).end_ns, load(str(run)).end_basis) == (4 * S, "last_mark")


def test_a_run_is_live_while_its_recorder_holds_the_lock(run):
    write(run, "gpu", [gpu(1)])
    journal_file = run / f"host={HOST}/journal/gpu.{WRITER}.1.jsonl"
    with journal_file.open("ab") as file:
        file.write(b"[17850015")  # in the middle of a write
    handle = rundir.hold_lock(rundir.lock_file(str(run), HOST))
    try:
        found = load(str(run))
        assert found.live
        assert found.problems == []
    finally:
        os.close(handle)
    assert not load(str(run)).live
    assert problem_counts(run) == {"torn_line": 1, "not_closed": 1}


# --- stages -------------------------------------------------------------------------------------------------------------------------


def test_spans_that_only_the_stage_file_knows_are_there_and_open_ones_have_no_end(run):
    write(run, "stage", [StageRow("a", "plan", *_span(0, 5), None, 7)])
    stage_file(run).write_text(
        mark(event="start", id="a", name="plan", pid=7, **at(0))
        + mark(event="end", id="a", **at(5))
        + mark(event="start", id="b", name="execute", parent="a", pid=8, attributes={"x": 1}, **at(6))
        + mark(event="end", id="b", **at(8))
        + mark(event="start", id="c", name="verify", **at(7)).rstrip()
    )
    found = load(str(run)).frames["stage"]
    assert list(found["name"]) == ["plan", "execute", "verify"]
    assert list(found["start_t_ns"]) == [0, 6 * S, 7 * S]
    assert list(found["end_t_ns"].isna()) == [False, False, True]
    assert found["end_t_ns"][1] == 8 * S
    assert found["end_time_ns"].isna()[2]
    assert (found["parent_id"][1], found["pid"][1], found["attributes"][1]) == ("a", 8, '{"x": 1}')


def _span(start: float, end: float) -> tuple[int, int, int, int]:
    begin, finish = at(start), at(end)
    return begin["time_ns"], finish["time_ns"], begin["mono_ns"], finish["mono_ns"]


def test_a_mark_with_only_the_time_of_day_is_placed_by_it(run):
    stage_file(run).write_text(mark(event="start", id="a", name="n", time_ns=TIME_NS + 2 * S))
    assert list(frames(run)["stage"]["start_t_ns"]) == [2 * S]


def test_a_mark_without_a_time_is_of_when_the_recorder_saw_it_or_of_the_runs_end(run):
    write(run, "gpu", [gpu(9)])
    write(run, "event", [EventRow(TIME_NS + 4 * S, MONO_NS + 4 * S, STAGE_STARTED, "stages", "a")])
    stage_file(run).write_text(mark(event="start", id="a", name="seen") + mark(event="start", id="b", name="unseen"))
    found = frames(run)["stage"]
    assert list(zip(found["name"], found["start_t_ns"] / S, strict=True)) == [("seen", 4), ("unseen", 9)]
    assert problem_counts(run)["untimed_stage"] == 1


def test_marks_that_are_none_are_counted_with_the_run(run):
    stage_file(run).write_bytes(b"rubbish\n" + mark(event="stop", id="a").encode() + b"\xff\n")
    assert problem_counts(run) == {"bad_mark": 2, "unknown_event": 1, "not_closed": 1}


def test_each_host_has_stages_of_its_own(tmp_path):
    run = make_run(tmp_path, hosts=["a", "b"])
    write(run, "stage", [StageRow("1", "plan", *_span(0, 5))], host="a")
    stage_file(run, "b").write_text(mark(event="start", id="1", name="plan", **at(1)))
    assert list(frames(run)["stage"]["host"]) == ["a", "b"]


# --- what is not as it should be ------------------------------------------------------------------------------------------------------


def test_an_older_recording_that_lacks_columns_has_them_unknown(sealed):
    path = sealed / PART
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["energy_j", "processes"]), path)
    found = frames(sealed)["gpu"]
    assert found["energy_j"].isna().all()
    assert found["processes"].isna().all()
    assert list(found["power_w"]) == [100, 101, 102]


def test_columns_of_a_newer_version_are_passed_over(sealed):
    path = sealed / PART
    table = pq.read_table(path)
    pq.write_table(table.append_column("moon", [[1, 2, 3]]).replace_schema_metadata(table.schema.metadata), path)
    assert "moon" not in frames(sealed)["gpu"]
    assert problem_counts(sealed)["newer_columns"] == 1


def test_a_newer_schema_asks_for_an_upgrade(sealed):
    path = sealed / PART
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"gpucost.schema_version": b"99"}), path)
    with pytest.raises(NewerSchemaError) as caught:
        load(str(sealed))
    assert caught.value.hint == "upgrade gpucost"


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"gpucost.schema_version", b"9" * 5000), (b"gpucost.problems", b"[" * 100_000)],
)
def test_metadata_that_no_gpucost_wrote_makes_a_part_a_damaged_one(sealed, key, value):
    path = sealed / PART
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, key: value}), path)
    with pytest.raises(DamagedRunError):
        load(str(sealed))


def _rewrite(run: Path, name: str, column: pa.Array) -> None:
    path = run / PART
    table = pq.read_table(path)
    pq.write_table(
        table.set_column(table.schema.get_field_index(name), name, column).replace_schema_metadata(
            table.schema.metadata
        ),
        path,
    )


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("power_w", pa.array(["a", "b", "c"])),
        ("power_w", pa.array([True, False, True])),
        ("power_w", pa.array([[1.0], [2.0], []])),
        ("power_w", pa.array([b"a", b"b", b"c"])),
        ("gpu_uuid", pa.array([1, 2, 3])),
        ("gpu_uuid", pa.array(["a", None, "c"])),
        ("time_ns", pa.array([1, None, 3], pa.int64())),
        ("mono_ns", pa.array([1, -5, 3], pa.int64())),
        ("mono_ns", pa.array([1, 2**63 - 1, 3], pa.int64())),
        ("mono_ns", pa.array([1.5, 2.0, 3.0])),
        ("temperature_c", pa.array([1, 2**40, 3], pa.int64())),
    ],
)
def test_a_part_with_the_wrong_types_or_values_is_damaged(sealed, name, column):
    _rewrite(sealed, name, column)
    with pytest.raises(DamagedRunError, match=f"part-{WRITER}-1-1.parquet is damaged"):
        load(str(sealed))


def test_wider_types_that_hold_the_same_values_are_taken(sealed):
    _rewrite(sealed, "temperature_c", pa.array([1, None, 3], pa.int64()))
    _rewrite(sealed, "power_w", pa.array([1.5, None, 3.0], pa.float64()))
    _rewrite(sealed, "gpu_uuid", pa.array(["a", "b", "a"], pa.large_string()))
    found = frames(sealed)["gpu"]
    assert list(found["gpu_uuid"]) == ["a", "b", "a"]
    assert found["temperature_c"][2] == 3


@pytest.mark.parametrize("content", [b"", b"PAR1", b"hello", bytes(5000), b"PAR1" + bytes(100) + b"PAR1"])
def test_a_file_that_is_no_part_is_named_with_what_to_do(sealed, content):
    (sealed / PART).write_bytes(content)
    with pytest.raises(DamagedRunError, match=f"part-{WRITER}-1-1.parquet is damaged") as caught:
        load(str(sealed))
    assert "gpucost recover" in caught.value.hint
    assert "\n" not in str(caught.value)


def test_parquet_of_somebody_else_under_our_name_is_damage(sealed):
    pd.DataFrame({"time_ns": [1], "mono_ns": [2], "gpu_uuid": ["x"]}).to_parquet(sealed / PART)
    with pytest.raises(DamagedRunError, match="not a part of this table"):
        load(str(sealed))


def test_a_part_cut_at_any_byte_is_damage_and_never_fewer_rows(sealed):
    data = (sealed / PART).read_bytes()
    for cut in range(0, len(data), 37):
        (sealed / PART).write_bytes(data[:cut])
        with pytest.raises(DamagedRunError):
            load(str(sealed))


def test_whatever_happens_to_a_part_reading_it_ends_in_the_same_rows_or_in_a_clear_error(run):
    write_rounds(run, 1, rows=50)
    seal_run(str(run), HOST, final=True)
    before, data = frames(run), (run / PART).read_bytes()
    chance = random.Random(5)
    damaged = 0
    for _ in range(250):
        (run / PART).write_bytes(mutate(data, chance))
        try:
            found = load(str(run), tables=["gpu"])
        except (DamagedRunError, NewerSchemaError):
            damaged += 1
            continue
        pd.testing.assert_frame_equal(found.frames["gpu"], before["gpu"])
    assert damaged > 100


def test_a_damaged_segment_is_a_problem_and_the_rest_is_read(run):
    write_rounds(run, 2)
    (run / f"host={HOST}/journal/gpu.{WRITER}.1.jsonl").write_text("this is not a journal\n")
    assert len(frames(run)["gpu"]) == 6
    assert problem_counts(run) == {"damaged_segment": 1, "not_closed": 1}


def test_a_segment_under_another_ones_name_is_a_problem(run):
    write_rounds(run, 1)
    folder = run / f"host={HOST}/journal"
    (folder / f"gpu.{WRITER}.1.jsonl").rename(folder / f"gpu.{WRITER}.2.jsonl")
    (folder / f"process.{WRITER}.1.jsonl").rename(folder / f"gpu.{WRITER}.3.jsonl")
    assert problem_counts(run)["damaged_segment"] == 2


def test_foreign_files_are_passed_over_and_counted(sealed):
    before = frames(sealed)
    for name in (
        f"host={HOST}/gpu/notes.txt",
        f"host={HOST}/gpu/part-{WRITER}-01-1.parquet",
        f"host={HOST}/journal/moon.w.1.jsonl",
    ):
        (sealed / name).write_text("x")
    (sealed / "host=..").mkdir()
    (sealed / "README").write_text("x")
    assert_same_frames(frames(sealed), before)
    assert problem_counts(sealed)["foreign_file"] == 3


def test_what_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(DamagedRunError, match=r"no run\.json"):
        load(str(tmp_path))
