"""Recovery: everything that was there is sealed, what is damaged is set aside, and doing it again changes nothing."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest

from gpucost import rundir
from gpucost.errors import DamagedRunError, NewerSchemaError, UsageError
from gpucost.manifest import COMPLETE, RECOVERED
from gpucost.schema import StageRow
from gpucost.store import recover as recover_module
from gpucost.store import seal as seal_module
from gpucost.store.manifest_io import read_manifest
from gpucost.store.reader import load
from gpucost.store.recover import recover
from gpucost.store.seal import seal_run
from store.making import (
    HOST,
    MONO_NS,
    TIME_NS,
    WRITER,
    S,
    assert_same_frames,
    files_of,
    frames,
    gpu,
    journal,
    make_run,
    mutate,
    problem_counts,
    process,
    write_rounds,
)


def mark(event: str, stage_id: str, seconds: float, **fields: object) -> str:
    offset = round(seconds * S)
    return (
        json.dumps({"event": event, "id": stage_id, "time_ns": TIME_NS + offset, "mono_ns": MONO_NS + offset, **fields})
        + "\n"
    )


def snapshot(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def write_stages(run: Path, *lines: str) -> None:
    Path(rundir.stage_file(str(run), HOST)).write_text("".join(lines))


def test_a_run_that_was_not_closed_is_sealed_and_gets_an_end(run):
    write_rounds(run, 3)
    before = load(str(run))
    result = recover(str(run))
    assert (result.status, result.changed, result.segments_sealed, result.rows_sealed) == (RECOVERED, True, 6, 27)
    assert (result.end_basis, result.end_time_ns, result.last_sample_time_ns) == (
        "last_sample",
        TIME_NS + 8 * S,
        TIME_NS + 8 * S,
    )
    after = load(str(run))
    assert_same_frames(after.frames, before.frames)
    assert (after.end_ns, after.end_basis, after.problems) == (before.end_ns, "last_sample", [])
    assert files_of(run, "*/journal/*") == []
    manifest = read_manifest(str(run))
    assert (manifest.status, manifest.end_mono_ns, manifest.exit_code) == (RECOVERED, MONO_NS + 8 * S, None)


def test_doing_it_again_changes_nothing(run):
    write_rounds(run, 3)
    write_stages(run, mark("start", "a", 1, name="plan"), "rubbish\n")
    (run / f"host={HOST}/journal/gpu.{WRITER}.2.jsonl").write_text("not a journal\n")
    recover(str(run))
    files, before = snapshot(run), frames(run)
    again = recover(str(run))
    assert not again.changed
    assert (again.segments_sealed, again.spans_truncated, again.segments_set_aside) == (0, 0, [])
    assert snapshot(run) == files
    assert_same_frames(frames(run), before)


def test_a_live_run_is_refused_and_left_alone(run):
    write_rounds(run, 1)
    handle = rundir.hold_lock(rundir.lock_file(str(run), HOST))
    try:
        files = snapshot(run)
        with pytest.raises(UsageError, match="is still being recorded"):
            recover(str(run))
        assert snapshot(run) == files
    finally:
        os.close(handle)
    assert recover(str(run)).changed


def test_a_sealer_at_work_is_refused(run):
    write_rounds(run, 1)
    with seal_module.sealing(rundir.host_dir(str(run), HOST), wait_s=0), pytest.raises(UsageError, match="is sealing"):
        recover(str(run))


def test_a_complete_run_keeps_its_end_and_gets_what_was_left_unsealed(tmp_path):
    run = make_run(tmp_path, end_s=30, exit_code=3)
    write_rounds(run, 2)
    result = recover(str(run))
    assert (result.status, result.changed, result.end_basis, result.end_time_ns) == (
        COMPLETE,
        True,
        "exit",
        TIME_NS + 30 * S,
    )
    assert read_manifest(str(run)).exit_code == 3
    assert not recover(str(run)).changed


def test_open_stages_end_where_their_process_was_last_seen(run):
    log = journal(run)
    log.append("process", [process(number, 7) for number in range(1, 6)] + [process(2, 8)])
    log.append("gpu", [gpu(9)])
    log.append("stage", [StageRow("done", "plan", TIME_NS, TIME_NS + S, MONO_NS, MONO_NS + S)])
    log.close()
    write_stages(
        run,
        mark("start", "done", 0, name="plan"),
        mark("end", "done", 1),
        mark("start", "a", 1, name="execute", pid=7),
        mark("start", "b", 4, name="late", pid=8),
        mark("start", "c", 3, name="nobody"),
        mark("start", "d", 2, name="whole", pid=7),
        mark("end", "d", 2.5),
    )
    result = recover(str(run))
    assert (result.spans_added, result.spans_truncated) == (1, 3)
    found = frames(run)["stage"].set_index("stage_id")
    ends = {stage_id: (row.end_t_ns / S, bool(row.truncated)) for stage_id, row in found.iterrows()}
    assert ends == {"done": (1, False), "a": (5, True), "b": (9, True), "c": (9, True), "d": (2.5, False)}
    assert found.loc["a", "end_time_ns"] == TIME_NS + 5 * S
    assert not Path(rundir.stage_file(str(run), HOST)).exists()


def test_a_stage_that_began_after_the_last_sample_ends_where_it_began(run):
    log = journal(run)
    log.append("gpu", [gpu(3)])
    log.close()
    write_stages(run, mark("start", "a", 8, name="plan", pid=7))
    result = recover(str(run))
    assert (result.end_basis, result.end_time_ns) == ("last_mark", TIME_NS + 8 * S)
    stages = frames(run)["stage"]
    assert (stages["start_t_ns"][0], stages["end_t_ns"][0]) == (8 * S, 8 * S)
    assert (load(str(run)).end_ns, load(str(run)).end_basis) == (8 * S, "last_mark")


def test_damaged_parts_are_set_aside_and_nothing_is_deleted(run):
    write_rounds(run, 3)
    seal_run(str(run), HOST)
    part = run / f"host={HOST}/gpu/part-{WRITER}-1-1.parquet"
    damaged = part.read_bytes()[:-7]
    part.write_bytes(damaged)
    with pytest.raises(DamagedRunError):
        load(str(run))
    result = recover(str(run))
    assert result.parts_set_aside == [f"host={HOST}/gpu/part-{WRITER}-1-1.parquet"]
    (aside,) = (run / f"host={HOST}/damaged").iterdir()
    assert aside.read_bytes() == damaged
    assert len(frames(run)["gpu"]) == 12
    assert problem_counts(run) == {"set_aside": 1}


def test_a_damaged_part_gives_back_what_it_had_covered(run):
    write_rounds(run, 1)
    before = frames(run)
    saved = shutil.copytree(run / f"host={HOST}/journal", run.parent / "saved")
    seal_run(str(run), HOST, final=True)
    shutil.copytree(saved, run / f"host={HOST}/journal", dirs_exist_ok=True)
    part = run / f"host={HOST}/gpu/part-{WRITER}-1-1.parquet"
    part.write_bytes(bytes(len(part.read_bytes())))
    recover(str(run))
    assert_same_frames(frames(run), before)


def test_a_name_that_is_taken_among_the_damaged_gives_way(run):
    folder = run / f"host={HOST}/damaged"
    folder.mkdir()
    (folder / f"journal.gpu.{WRITER}.1.jsonl").write_text("earlier")
    write_rounds(run, 1)
    (run / f"host={HOST}/journal/gpu.{WRITER}.1.jsonl").write_text("not a journal\n")
    recover(str(run))
    assert sorted(path.read_text() for path in folder.iterdir()) == ["earlier", "not a journal\n"]


def test_torn_lines_are_reported(run):
    write_rounds(run, 1)
    with (run / f"host={HOST}/journal/gpu.{WRITER}.1.jsonl").open("ab") as file:
        file.write(b"[1,2")
    result = recover(str(run))
    assert [(problem.code, problem.count) for problem in result.problems] == [("torn_line", 1)]


def test_a_newer_run_is_refused_and_left_alone(run):
    write_rounds(run, 1)
    path = run / f"host={HOST}/journal/gpu.{WRITER}.1.jsonl"
    path.write_text(path.read_text().replace('"schema_version":1', '"schema_version":99'))
    with pytest.raises(NewerSchemaError):
        recover(str(run))
    assert path.exists()


def test_what_killed_writers_left_is_cleaned_up(run):
    write_rounds(run, 1)
    (run / ".run.json.99-abcd").write_text("{")
    (run / f"host={HOST}/gpu").mkdir()
    (run / f"host={HOST}/gpu/.part-99-abcd.tmp").write_text("x")
    recover(str(run))
    assert [path.name for path in run.rglob(".*")] == [".seal.lock"]


def test_a_full_disk_is_one_line_and_loses_nothing(small_disk):
    run = make_run(small_disk / "runs")
    write_rounds(run, 3, rows=400)
    before = frames(run)
    with (small_disk / "fill").open("wb") as file:
        try:
            file.write(bytes(1 << 20))
        except OSError:
            pass
    with pytest.raises(UsageError, match="No space left on device") as caught:
        recover(str(run))
    assert "nothing was lost" in caught.value.hint
    (small_disk / "fill").unlink()
    recover(str(run))
    assert_same_frames(frames(run), before)


@pytest.mark.parametrize("step", ["_set_parts_aside", "_seal", "_end_stages", "_close", "remove_stage_file"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_recovery_that_is_cut_off_is_simply_done_again(run, tmp_path, monkeypatch, step, when):
    write_rounds(run, 3)
    write_stages(
        run, mark("start", "a", 1, name="plan", pid=100), mark("start", "b", 2, name="x"), mark("end", "b", 20)
    )
    twin = shutil.copytree(run, tmp_path / "twin" / run.name)
    recover(str(twin))
    original = getattr(recover_module, step)

    def cut_off(*arguments):
        if when == "after":
            original(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(recover_module, step, cut_off)
        with pytest.raises(KeyboardInterrupt):
            recover(str(run))
    recover(str(run))
    assert_same_frames(frames(run), frames(twin))
    first, second = load(str(run)), load(str(twin))
    assert (first.end_ns, first.end_basis, first.problems) == (second.end_ns, second.end_basis, second.problems)
    assert (first.end_ns, first.end_basis) == (20 * S, "last_mark")


def test_several_hosts_are_recovered_together(tmp_path):
    run = make_run(tmp_path, hosts=["a", "b"])
    for host in ("a", "b"):
        write_rounds(run, 2, host=host, writer=f"w{host}")
    before = frames(run)
    assert recover(str(run)).segments_sealed == 8
    assert_same_frames(frames(run), before)


def test_any_damage_to_data_files_can_be_recovered_from(tmp_path):
    chance = random.Random(13)
    for attempt in range(12):
        run = make_run(tmp_path / str(attempt))
        write_rounds(run, 3)
        seal_run(str(run), HOST)
        write_stages(
            run, mark("start", "a", 1, name="plan", pid=100), mark("start", "b", 2, name="x"), mark("end", "b", 3)
        )
        files = [path for path in run.rglob("*") if path.suffix in {".parquet", ".jsonl"}]
        for path in chance.sample(files, 3):
            path.write_bytes(mutate(path.read_bytes(), chance))
        try:
            result = recover(str(run))
        except NewerSchemaError:
            continue  # a flipped digit made it so
        found = load(str(run))
        assert found.manifest.status == result.status == RECOVERED
        lost = len(result.parts_set_aside) + len(result.segments_set_aside)
        assert (found.problems == []) <= (lost == 0)
        assert len(files_of(run, "*/damaged/*")) == lost
