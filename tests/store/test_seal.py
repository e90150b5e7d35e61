"""Sealing: what was in the journal is in Parquet, once, whenever a sealer is cut off."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from gpucost import rundir
from gpucost.errors import DamagedRunError, UsageError
from gpucost.schema import SCHEMA_VERSION, TABLES, GpuRow, StageRow
from gpucost.store import compact as compact_module
from gpucost.store import seal as seal_module
from gpucost.store.journal import JournalWriter
from gpucost.store.layout import list_host
from gpucost.store.seal import main, seal_run
from store.making import (
    HOST,
    MONO_NS,
    TIME_NS,
    WRITER,
    Clock,
    assert_same_frames,
    files_of,
    frames,
    gpu,
    journal,
    make_run,
    names_in,
    problem_counts,
    write_rounds,
)

SEALER = """
import sys
from gpucost.store import parquet, seal
print("ready", flush=True)
sys.stdin.readline()
seal.seal_run(sys.argv[1], sys.argv[2], final=True)
"""


def seal(run: Path, *, final: bool = False):
    return seal_run(str(run), HOST, final=final)


def snapshot(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


# --- what a sealer does ------------------------------------------------------------------------------------------------------------


def test_sealed_rows_read_the_same_as_journalled_ones(run):
    write_rounds(run, 3)
    before = frames(run)
    result = seal(run, final=True)
    assert result.segments == 6
    assert result.rows == 27
    assert_same_frames(frames(run), before)
    assert files_of(run) == [
        f"host={HOST}/gpu/part-{WRITER}-1-3.parquet",
        f"host={HOST}/process/part-{WRITER}-1-3.parquet",
        "run.json",
    ]


def test_the_newest_segment_of_a_live_writer_is_left_alone(run):
    log = journal(run)
    log.append("gpu", [gpu(0)])
    log.rotate()
    log.append("gpu", [gpu(1)])
    log.flush()
    assert seal(run).segments == 1
    log.append("gpu", [gpu(2)])
    log.close()
    assert list(frames(run)["gpu"]["t_ns"]) == [0, 10**9, 2 * 10**9]


def test_only_the_writers_that_are_named_are_sealed(run):
    write_rounds(run, 2)
    write_rounds(run, 2, writer="other")
    seal_run(str(run), HOST, {"other"}, final=True)
    assert sorted(one.writer for one in list_host(rundir.host_dir(str(run), HOST)).segments) == [WRITER] * 4


def test_a_part_says_what_it_holds(run):
    write_rounds(run, 2)
    seal(run, final=True)
    metadata = pq.read_metadata(run / f"host={HOST}/gpu/part-{WRITER}-1-2.parquet").metadata
    assert metadata[b"gpucost.schema_version"] == str(SCHEMA_VERSION).encode()
    assert (metadata[b"gpucost.table"], metadata[b"gpucost.writer"], metadata[b"gpucost.seq"]) == (
        b"gpu",
        WRITER.encode(),
        b"1-2",
    )


def test_parts_use_only_what_common_readers_know(run):
    write_rounds(run, 1)
    seal(run, final=True)
    group = pq.read_metadata(run / f"host={HOST}/gpu/part-{WRITER}-1-1.parquet").row_group(0)
    encodings = {encoding for index in range(group.num_columns) for encoding in group.column(index).encodings}
    assert encodings <= {"PLAIN", "RLE", "RLE_DICTIONARY", "DELTA_BINARY_PACKED"}
    assert {group.column(index).compression for index in range(group.num_columns)} == {"ZSTD"}


def test_a_folder_of_parts_reads_as_it_lies(run):
    write_rounds(run, 30)
    seal(run, final=True)
    table = pd.read_parquet(run / f"host={HOST}" / "gpu")
    assert len(table) == 180
    assert list(table.columns[:3]) == ["time_ns", "mono_ns", "gpu_uuid"]


def test_torn_lines_stay_counted_after_sealing_and_merging(run):
    write_rounds(run, 3)
    for seq in (1, 3):
        with (run / f"host={HOST}/journal/gpu.{WRITER}.{seq}.jsonl").open("ab") as file:
            file.write(b"[1,2\n[3")
    before = problem_counts(run)
    assert before == {"torn_line": 4, "not_closed": 1}
    seal(run, final=True)
    assert problem_counts(run) == before


def test_an_empty_segment_leaves_nothing(run):
    (run / f"host={HOST}/journal/gpu.{WRITER}.1.jsonl").touch()
    seal(run, final=True)
    assert files_of(run) == ["run.json"]


def test_a_segment_that_cannot_be_read_stays_and_no_part_ever_hides_it(run):
    write_rounds(run, 30)
    bad = run / f"host={HOST}/journal/gpu.{WRITER}.15.jsonl"
    whole = bad.read_bytes()
    bad.write_bytes(b"not a journal\n")
    assert seal(run, final=True).unreadable == [str(bad)]
    assert bad.exists()
    assert len(frames(run)["gpu"]) == 29 * 6
    bad.write_bytes(whole)  # the disk gave it back
    assert len(frames(run)["gpu"]) == 30 * 6
    seal(run, final=True)
    assert len(frames(run)["gpu"]) == 30 * 6


def test_the_number_of_files_grows_with_the_logarithm_of_the_run(run):
    log = journal(run)
    most = 0
    for number in range(160):
        log.append("gpu", [gpu(number)])
        log.rotate()
        if number % 8 == 0:
            seal(run)
            most = max(most, len(files_of(run, "*/gpu/*")))
    assert most <= 3 * 12
    seal(run)
    assert list(frames(run)["gpu"]["t_ns"]) == [number * 10**9 for number in range(160)]


def test_parts_that_are_large_are_not_written_again(run, monkeypatch):
    write_rounds(run, 14)
    seal(run)
    monkeypatch.setattr(compact_module, "MAX_FINAL_BYTES", 1000)
    before = files_of(run, "*/gpu/*")
    seal(run, final=True)
    assert set(before) <= set(files_of(run, "*/gpu/*"))


def test_a_merge_never_drops_a_column_it_does_not_know(run):
    write_rounds(run, 2)
    seal(run, final=False)
    part = run / f"host={HOST}/gpu/part-{WRITER}-1-1.parquet"
    table = pq.read_table(part)
    pq.write_table(table.append_column("moon", [[1] * len(table)]).replace_schema_metadata(table.schema.metadata), part)
    seal(run, final=True)
    assert "moon" in pq.read_schema(part).names
    assert problem_counts(run) == {"newer_columns": 1, "not_closed": 1}


def test_a_gpu_row_costs_at_most_25_bytes(run):
    """Ten minutes of eight GPUs at 10 Hz, noisy sensors that are read about as often as they change."""
    noise = np.random.default_rng(3)
    ticks, log = 6000, journal(run)
    busy = np.repeat(noise.random(ticks // 100) < 0.6, 100)
    for index in range(8):
        level = np.where(busy, noise.normal(85, 8, ticks), 0).round().clip(0, 100)
        power = np.repeat((75 + 5.5 * level + noise.normal(0, 8, ticks)).round(3)[::2], 2)
        average = np.convolve(power, np.ones(10) / 10, "same").round(3)
        energy = (1e6 + np.cumsum(power * 0.1)).round(3)
        moved = np.cumsum((level * noise.random(ticks) * 1e6).astype(int))
        late = noise.gamma(2, 60_000, ticks).astype(int)
        for tick in range(ticks):
            at = tick * 100_000_000 + int(late[tick])
            log.append("gpu", [GpuRow(
                TIME_NS + at + int(noise.integers(0, 400)), MONO_NS + at, f"GPU-{index:08d}-1111-2222-3333-444444444444",
                float(level[tick]), float(level[tick] // 2), (40 << 30) + (tick // 500 << 21), float(power[tick]), float(average[tick]),
                float(energy[tick]), 1980 - 15 * int(noise.integers(0, 6)), 2619, 45 + int(level[tick]) // 5, 0, 4 if level[tick] else 1,
                int(moved[tick]), int(moved[tick]) // 3, 2 if tick % 10 == 0 else None, 1 if tick % 10 == 0 else None,
            )])  # fmt: skip
    log.close()
    seal(run, final=True)
    (part,) = (run / f"host={HOST}/gpu").iterdir()
    assert part.stat().st_size / (8 * ticks) <= 25


# --- a sealer that is cut off -----------------------------------------------------------------------------------------------------


def test_a_crash_before_a_part_is_in_place_loses_and_doubles_nothing(run):
    write_rounds(run, 2)
    before = frames(run)
    stale = run / f"host={HOST}/gpu/.part-99-abcd.tmp"
    stale.parent.mkdir()
    stale.write_bytes(b"PAR1 half of a part")
    assert_same_frames(frames(run), before)
    seal(run, final=True)
    assert not stale.exists()
    assert_same_frames(frames(run), before)


def test_a_crash_between_a_parts_rename_and_its_segments_removal_doubles_nothing(run):
    write_rounds(run, 3)
    before = frames(run)
    saved = shutil.copytree(run / f"host={HOST}/journal", run.parent / "saved")
    seal(run)
    shutil.copytree(saved, run / f"host={HOST}/journal", dirs_exist_ok=True)
    assert_same_frames(frames(run), before)
    seal(run, final=True)
    assert files_of(run, "*/journal/*") == []
    assert_same_frames(frames(run), before)


@pytest.mark.parametrize("removed", range(13))
def test_a_crash_while_merged_parts_are_removed_doubles_and_loses_nothing(run, removed):
    write_rounds(run, 13)
    before = frames(run)
    parts = run / f"host={HOST}/gpu"
    write = compact_module.compact
    compact_module.compact = lambda *_, **__: 0
    try:
        seal(run)
    finally:
        compact_module.compact = write
    saved = shutil.copytree(parts, run.parent / "saved")
    seal(run)
    merged = f"part-{WRITER}-1-12.parquet"
    assert names_in(parts) == [merged]
    for name in names_in(saved)[removed:]:
        shutil.copy(saved / name, parts)
    assert_same_frames(frames(run), before)
    seal(run)
    assert names_in(parts) == [merged]
    assert_same_frames(frames(run), before)


def test_what_a_damaged_part_covers_is_never_removed(run):
    write_rounds(run, 2)
    segment = run / f"host={HOST}/journal/gpu.{WRITER}.1.jsonl"
    saved = segment.read_bytes()
    seal(run)
    part = run / f"host={HOST}/gpu/part-{WRITER}-1-1.parquet"
    part.write_bytes(part.read_bytes()[:-10])
    segment.write_bytes(saved)
    seal(run, final=True)
    assert segment.read_bytes() == saved


def test_a_sealer_killed_at_any_moment_leaves_a_run_that_reads_the_same(tmp_path):
    chance = random.Random(11)
    run = make_run(tmp_path)
    write_rounds(run, 40, rows=20)
    before = frames(run)
    for _ in range(8):
        arguments = [sys.executable, "-c", SEALER, str(run), HOST]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sealer:
            sealer.stdout.readline()
            sealer.stdin.write(b"\n")
            sealer.stdin.flush()
            try:
                sealer.wait(chance.uniform(0, 0.25))
            except subprocess.TimeoutExpired:
                sealer.kill()
        assert_same_frames(frames(run), before)
    seal(run, final=True)
    assert_same_frames(frames(run), before)
    assert len(files_of(run)) == 3
    assert [path.name for path in run.rglob(".part*")] == []


def test_a_full_disk_while_sealing_loses_nothing(small_disk):
    run = make_run(small_disk / "runs")
    write_rounds(run, 3, rows=400)
    before, files = frames(run), snapshot(run)
    with (small_disk / "fill").open("wb") as file:
        try:
            file.write(bytes(1 << 20))
        except OSError:
            pass
    with pytest.raises(OSError, match="No space left"):
        seal(run, final=True)
    assert {name: data for name, data in snapshot(run).items() if data} == files
    (small_disk / "fill").unlink()
    seal(run, final=True)
    assert_same_frames(frames(run), before)


# --- two at once ------------------------------------------------------------------------------------------------------------------


def test_a_second_sealer_leaves_the_work_to_the_first(run, monkeypatch):
    write_rounds(run, 2)
    with seal_module.sealing(rundir.host_dir(str(run), HOST), wait_s=0):
        before = snapshot(run)
        assert seal(run).busy
        monkeypatch.setattr(seal_module, "_FINAL_WAIT_S", 0.0)
        with pytest.raises(UsageError, match="another process is sealing"):
            seal(run, final=True)
        assert snapshot(run) == before
    assert not seal(run).busy


def test_sealers_side_by_side_with_a_writer_and_readers_harm_nothing(run):
    log = JournalWriter(rundir.journal_dir(str(run), HOST), WRITER, Clock())
    sealers = []
    for number in range(32):
        log.append("gpu", [gpu(number, uuid) for uuid in ("GPU-0", "GPU-1")])
        log.rotate()
        if number % 16 == 5:
            command = [sys.executable, "-m", "gpucost.store.seal", str(run), "--host", HOST]
            sealers += [subprocess.Popen(command), subprocess.Popen(command)]
        assert list(frames(run)["gpu"]["t_ns"]) == [at * 10**9 for at in range(number + 1) for _ in range(2)]
    assert [sealer.wait() for sealer in sealers] == [0] * len(sealers)
    log.close()
    seal(run, final=True)
    assert len(frames(run)["gpu"]) == 64


# --- the stage file ---------------------------------------------------------------------------------------------------------------


def span(stage_id: str, start: int = 0, end: int = 5) -> StageRow:
    return StageRow(stage_id, "plan", TIME_NS + start, TIME_NS + end, MONO_NS + start, MONO_NS + end)


def write_marks(run: Path, *lines: str) -> Path:
    path = Path(rundir.stage_file(str(run), HOST))
    path.write_text("".join(line + "\n" for line in lines))
    return path


START = '{"event": "start", "id": "%s", "name": "plan", "mono_ns": 500000000000, "time_ns": 1785001501000000000}'
END = '{"event": "end", "id": "%s", "mono_ns": 500000000005, "time_ns": 1785001501000000005}'


@pytest.mark.parametrize(
    ("lines", "journalled", "goes"),
    [
        ([], [], True),
        ([START % "a", END % "a"], ["a"], True),
        ([START % "a"], ["a"], True),
        ([START % "a", END % "a"], [], False),
        ([START % "a"], [], False),
        ([START % "a", END % "a", START % "b"], ["a"], False),
        ([START % "a", END % "a", "rubbish"], ["a"], False),
        ([START % "a", END % "a", END % "c"], ["a"], False),
    ],
)
def test_the_stage_file_goes_only_when_the_table_has_all_of_it(run, lines, journalled, goes):
    path = write_marks(run, *lines)
    log = journal(run)
    log.append("stage", [span(stage_id) for stage_id in journalled])
    log.close()
    before = frames(run)
    seal(run)
    assert path.exists()
    assert seal(run, final=True).stage_file_removed is goes
    assert path.exists() is not goes
    assert_same_frames(frames(run), before)


# --- the command ------------------------------------------------------------------------------------------------------------------


def test_the_command_seals_and_answers_by_its_exit_code(run, capsys):
    write_rounds(run, 2)
    assert main([str(run), "--host", HOST, "--final"]) == 0
    assert files_of(run, "*/journal/*") == []
    (run / f"host={HOST}/journal/gpu.{WRITER}.9.jsonl").write_text("not a journal\n")
    assert main([str(run), "--host", HOST, "--final"]) == 1
    assert main([str(run), "--host", "nobody"]) == 1
    assert "stays in the journal" in capsys.readouterr().err


def test_a_host_that_is_not_there_is_said_to_be_missing(run):
    with pytest.raises(DamagedRunError, match="no folder for the host"):
        seal_run(str(run), "nobody")


def test_every_table_can_be_sealed_empty_but_for_problems(run):
    for name in TABLES:
        log = journal(run, writer="w")
        log.append(name, [])
        log.close()
    assert seal(run, final=True).segments == 0
