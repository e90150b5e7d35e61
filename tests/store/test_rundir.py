"""Run directories: how they are named and made, and how a user's word finds one."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpucost import rundir
from gpucost.errors import RunNotFoundError, UsageError
from gpucost.manifest import Manifest
from gpucost.store.manifest_io import write_manifest
from store.making import S, names_in

TOKENS = st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True)
NUMBERS = st.integers(min_value=1, max_value=10**9)


def make(runs: Path, run_id: str, start_s: int = 0) -> Path:
    path = runs / run_id
    path.mkdir(parents=True)
    write_manifest(str(path), Manifest(run_id, ["true"], start_s * S, 0))
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs; the two newest began in the same second, in an order that their ids do not tell."""
    folder = tmp_path / "runs"
    make(folder, "20260101-120000-aaaaaa", 1)
    make(folder, "20260102-120000-zzzzzz", 100)
    make(folder, "20260102-120000-bbbbbb", 101)
    return folder


def test_an_id_begins_with_the_second_of_the_start_and_ends_at_random():
    ids = {rundir.new_run_id(1_785_001_501_999_999_999) for _ in range(50)}
    assert len(ids) == 50
    assert all(re.fullmatch(r"20260725-174501-[a-z0-9]{6}", run_id) for run_id in ids)


def test_a_run_directory_is_for_its_owner_only(tmp_path):
    old = os.umask(0)
    try:
        path = rundir.create(str(tmp_path / "runs"), "20260101-120000-aaaaaa", "node1")
    finally:
        os.umask(old)
    for folder in (path, f"{path}/host=node1", f"{path}/host=node1/journal"):
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700


def test_an_id_that_is_taken_gives_way_to_another_of_the_same_second(tmp_path):
    first = rundir.create(str(tmp_path), "20260101-120000-aaaaaa", "a")
    second = rundir.create(str(tmp_path), "20260101-120000-aaaaaa", "a")
    assert first != second
    assert Path(second).name.startswith("20260101-120000-")


@pytest.mark.parametrize("host", ["../../etc", "a/b", "", ".", "..", "-rf", "näme\n", "x" * 500, "a\0b"])
def test_no_host_name_leaves_the_run_directory(tmp_path, host):
    path = rundir.create(str(tmp_path), "20260101-120000-aaaaaa", host)
    (folder,) = names_in(path)
    assert re.fullmatch(r"host=[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", folder)
    assert rundir.hosts(path) == [folder.removeprefix("host=")]


def test_recordings_in_the_default_place_are_not_committed_by_accident(tmp_path):
    runs = tmp_path / ".gpucost" / "runs"
    rundir.create(str(runs), "20260101-120000-aaaaaa", "a")
    assert (tmp_path / ".gpucost" / ".gitignore").read_text() == "*\n"


def test_a_folder_that_the_user_made_gets_no_gitignore(tmp_path):
    runs = tmp_path / ".gpucost" / "runs"
    runs.mkdir(parents=True)
    rundir.create(str(runs), "20260101-120000-aaaaaa", "a")
    assert not (tmp_path / ".gpucost" / ".gitignore").exists()


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/no-such-place"])
def test_a_place_that_cannot_hold_runs_is_refused_in_one_line(tmp_path, place):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError) as caught:
        rundir.create(str(tmp_path / place), "20260101-120000-aaaaaa", "a")
    assert "\n" not in str(caught.value)
    assert "--runs" in caught.value.hint


def test_a_full_disk_leaves_no_half_made_run_behind(small_disk):
    inodes = small_disk / "fill"
    inodes.mkdir()
    try:
        for number in range(64):
            (inodes / str(number)).touch()
    except OSError:
        pass
    for number in range(2):  # room for the run's directory and its host's, and for no more
        (inodes / str(number)).unlink()
    with pytest.raises(UsageError, match="cannot make a run directory"):
        rundir.create(str(small_disk), "20260101-120000-aaaaaa", "a")
    assert names_in(small_disk) == ["fill"]


def test_an_empty_run_can_be_taken_back_and_one_with_rows_cannot(tmp_path):
    path = rundir.create(str(tmp_path), "20260101-120000-aaaaaa", "a")
    Path(path, "run.json").write_text("{}")
    segment = Path(rundir.journal_dir(path, "a"), "gpu.w.1.jsonl")
    segment.write_text("rows")
    rundir.remove_empty(path, "a")
    assert segment.exists()
    assert Path(path, "run.json").exists()
    segment.unlink()
    rundir.remove_empty(path, "a")
    assert not Path(path).exists()


@given(table=st.sampled_from(["gpu", "gpu_process"]), writer=TOKENS, seq=NUMBERS, more=NUMBERS)
@settings(deadline=None)
def test_file_names_say_what_they_were_made_of(table, writer, seq, more):
    assert rundir.parse_segment(rundir.segment_name(table, writer, seq)) == (table, writer, seq)
    assert rundir.parse_part(rundir.part_name(writer, seq, seq + more)) == (writer, seq, seq + more)


@given(
    st.text()
    | st.lists(st.sampled_from(["part", "gpu", "w", "-", ".", "1", "0", "jsonl", ".parquet", "/", "é", "²"])).map(
        "".join
    )
)
@settings(deadline=None)
def test_any_name_is_either_none_of_ours_or_says_the_same_as_the_name_we_would_give(name):
    segment, part = rundir.parse_segment(name), rundir.parse_part(name)
    assert segment is None or rundir.parse_segment(rundir.segment_name(*segment)) == segment
    assert part is None or rundir.parse_part(rundir.part_name(*part)) == part


@pytest.mark.parametrize(
    "name",
    ["part-w-2-1.parquet", "part-w-1-1.parquet.tmp", "part-w-1.parquet", "part-w-x-1.parquet", "part--1-1.parquet"],
)
def test_names_that_are_nearly_a_parts_are_not(name):
    assert rundir.parse_part(name) is None


def test_a_lock_shows_as_held_exactly_as_long_as_its_process_lives(tmp_path):
    path = rundir.create(str(tmp_path), "20260101-120000-aaaaaa", "a")
    assert not rundir.is_live(path)
    code = f"from gpucost import rundir; rundir.hold_lock({rundir.lock_file(path, 'a')!r}); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        assert rundir.is_live(path)
        with pytest.raises(BlockingIOError):
            rundir.hold_lock(rundir.lock_file(path, "a"))
        holder.kill()
        holder.wait()
        assert not rundir.is_live(path)


def test_latest_goes_by_the_start_also_within_one_second(runs):
    assert rundir.find(str(runs), None).endswith("bbbbbb")
    assert rundir.find(str(runs), "latest").endswith("bbbbbb")
    assert rundir.find(str(runs), "latest~0").endswith("bbbbbb")
    assert rundir.find(str(runs), "latest~1").endswith("zzzzzz")
    assert rundir.find(str(runs), "latest~2").endswith("aaaaaa")


@pytest.mark.parametrize("name", ["latest~3", "latest~x", "latest~-1", "latest~", "latest~99999999999999999999"])
def test_a_latest_that_is_not_there_is_said_to_be_missing(runs, name):
    if name == "latest~":
        assert rundir.find(str(runs), name).endswith("bbbbbb")
        return
    with pytest.raises(RunNotFoundError):
        rundir.find(str(runs), name)


def test_an_id_or_a_unique_prefix_finds_a_run(runs):
    assert rundir.find(str(runs), "20260101-120000-aaaaaa") == str(runs / "20260101-120000-aaaaaa")
    assert rundir.find(str(runs), "20260101") == str(runs / "20260101-120000-aaaaaa")


def test_a_prefix_of_several_runs_names_them(runs):
    with pytest.raises(RunNotFoundError, match="fits 2 runs: 20260102-120000-bbbbbb, 20260102-120000-zzzzzz"):
        rundir.find(str(runs), "20260102")


def test_a_whole_id_wins_over_the_runs_that_it_is_a_prefix_of(runs):
    make(runs, "20260101-120000-aaaaaab", 1)
    assert rundir.find(str(runs), "20260101-120000-aaaaaa") == str(runs / "20260101-120000-aaaaaa")


def test_a_name_that_nobody_has_hears_of_near_ones(runs):
    with pytest.raises(RunNotFoundError, match="no run 20260101-120000-aaaaab") as caught:
        rundir.find(str(runs), "20260101-120000-aaaaab")
    assert "20260101-120000-aaaaaa" in caught.value.hint


@pytest.mark.parametrize("name", [None, "latest", "2026"])
def test_an_empty_folder_says_how_to_record(tmp_path, name):
    with pytest.raises(RunNotFoundError, match="no runs in") as caught:
        rundir.find(str(tmp_path / "nowhere"), name)
    assert caught.value.hint == "gpucost record -- COMMAND"


def test_a_path_finds_a_run_anywhere(runs, tmp_path, monkeypatch):
    other = make(tmp_path / "elsewhere", "kept")
    monkeypatch.chdir(other)
    assert rundir.find(str(runs), str(other)) == str(other)
    assert rundir.find(str(runs), f"{other}/") == str(other)
    assert rundir.find(str(runs), f"{other}/run.json") == str(other)
    assert rundir.find(str(runs), "run.json") == "."
    assert rundir.find(str(runs), ".") == "."
    assert rundir.find(str(runs), "../kept") == "../kept"


@pytest.mark.parametrize(
    "name", ["../secret", "..", ".", "/", "", "a\0b", "../runs", "20260101-120000-aaaaaa/../../secret", "\x1b[31m"]
)
def test_a_name_never_leads_to_what_is_not_a_run(runs, tmp_path, monkeypatch, name):
    (tmp_path / "secret").mkdir()
    monkeypatch.chdir(runs)
    with pytest.raises(RunNotFoundError) as caught:
        rundir.find(str(runs), name)
    assert str(caught.value).isprintable()


def test_the_list_is_newest_first_and_passes_over_what_is_not_a_run(runs):
    (runs / "notes.txt").write_text("x")
    (runs / "folder").mkdir()
    make(runs, "kept-by-hand", 1_767_355_200 + 3600)  # 2026-01-02, an hour after the newest
    (runs / "20260102-120000-zzzzzz" / "run.json").write_text("{")
    (runs / "20250101-000000-cccccc").mkdir()
    listed = [(Path(path).name, manifest) for path, manifest in rundir.list_runs(str(runs))]
    assert [name for name, _ in listed] == [
        "kept-by-hand",
        "20260102-120000-bbbbbb",
        "20260102-120000-zzzzzz",
        "20260101-120000-aaaaaa",
        "20250101-000000-cccccc",
    ]
    assert [isinstance(manifest, Manifest) for _, manifest in listed] == [True, True, False, True, False]
    assert "damaged" in listed[2][1]
    assert "no run.json" in listed[4][1]


def test_no_folder_lists_no_runs(tmp_path):
    assert list(rundir.list_runs(str(tmp_path / "nowhere"))) == []
