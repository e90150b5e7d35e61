"""`gpucost recover`: what was mended, and what is missing."""

import json
import shutil

import pytest

from gpucost import rundir
from run_maker import make_run


@pytest.fixture(autouse=True)
def _runs_folder(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("GPUCOST_RUNS", str(tmp_path / "runs"))


def report(cli):
    return json.loads(cli("report", "-f", "json")[1])


def test_a_killed_run_is_closed_and_its_figures_stay_the_same(cli, tmp_path):
    make_run(tmp_path / "runs", 20, closed=False)
    before = report(cli)
    code, out, err = cli("recover", "latest")
    assert (code, err) == (0, "")
    first, *rest = out.splitlines()
    assert "recovered; 2" in first
    assert "sealed" in first
    assert any("at its last sample" in line for line in rest)
    after = report(cli)
    assert (before["run"]["state"], after["run"]["state"]) == ("crashed", "recovered")
    assert after["ledger"] == before["ledger"]
    assert after["total"] == before["total"]


def test_what_is_missing_is_said_in_seconds_and_money(cli, tmp_path):
    run = make_run(tmp_path / "runs", 20, closed=False)
    journal = next((run / "host=node1" / "journal").glob("gpu.*.jsonl"))
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:51] + lines[101:]))  # five seconds of readings are gone
    code, out, _ = cli("recover", "latest")
    assert code == 0
    (missing,) = [line for line in out.splitlines() if line.startswith("missing: ")]
    assert "of 20.00 s GPU time, $0.00" in missing
    assert "no sample" in missing
    seconds = float(missing.removeprefix("missing: ").split(" s")[0])
    assert 4.5 < seconds < 5.5


def test_a_run_without_a_price_misses_unknown_money(cli, tmp_path):
    run = make_run(tmp_path / "runs", 20, closed=False, gpu_name="NVIDIA Imaginary 9000")
    journal = next((run / "host=node1" / "journal").glob("gpu.*.jsonl"))
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:51] + lines[101:]))
    assert "GPU time, money unknown" in cli("recover", "latest")[1]


def test_a_run_that_is_whole_stays_as_it_is(cli, tmp_path):
    run = make_run(tmp_path / "runs", 10)
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, out, _ = cli("recover", "latest")
    assert code == 0
    assert "nothing to recover, the run is complete" in out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_recovering_twice_is_recovering_once(cli, tmp_path):
    make_run(tmp_path / "runs", 10, closed=False)
    cli("recover", "latest")
    assert "nothing to recover, the run is recovered" in cli("recover", "latest")[1]


def test_a_run_that_is_still_recorded_is_left_alone(cli, tmp_path):
    run = make_run(tmp_path / "runs", 10, closed=False)
    handle = rundir.hold_lock(rundir.lock_file(str(run), "node1"))
    try:
        code, out, err = cli("recover", "latest")
    finally:
        import os

        os.close(handle)
    assert (code, out) == (2, "")
    assert "still being recorded" in err


def test_a_run_must_be_named_and_must_be_there(cli, tmp_path):
    code, _, err = cli("recover")
    assert code == 2
    assert "gpucost recover --help" in err
    make_run(tmp_path / "runs", 5)
    assert cli("recover", "nosuch")[0] == 2
    shutil.rmtree(tmp_path / "runs")
    assert "no runs" in cli("recover", "latest")[2]
