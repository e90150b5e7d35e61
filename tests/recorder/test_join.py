"""Two machines record into one run over a folder that both see; here the second has another name and nothing else of its own."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpucost.manifest import COMPLETE, RECORDING, Gpu, Host, Manifest, merge
from gpucost.report import load_report
from gpucost.store.manifest_io import read_manifest
from gpucost.store.reader import load
from gpucost.store.recover import recover
from recording_tools import GPUCOST, journal_lines, manifest, only_run, record, started, wait_until

S = 1_000_000_000


def until(path) -> list[str]:
    """A command that goes on until there is such a file."""
    return ["sh", "-c", f"while [ ! -e {path} ]; do sleep 0.05; done"]


def elsewhere(run, *argv, options=("--gpus", "sim:h100")) -> list[str]:
    """The command line that records `argv` into a run on a machine called node2."""
    line = 'hostname node2 && exec "$@"'
    return ["unshare", "--uts", "sh", "-c", line, "sh", *GPUCOST, "record", "--join", str(run), *options, "--", *argv]


@pytest.fixture(autouse=True)
def _another_machine(request):
    if "elsewhere" not in request.function.__code__.co_names:
        return
    able = shutil.which("unshare") and shutil.which("hostname")
    if not able or subprocess.run(["unshare", "--uts", "true"], check=False, capture_output=True).returncode:
        pytest.skip("giving a process another host name needs root")


def test_two_machines_are_one_run_with_one_bill(tmp_path):
    runs, end = tmp_path / "runs", tmp_path / "end"
    with started(runs, *until(end), options=["--gpus", "sim:h100", "--price", "3.60"]) as first:
        wait_until(lambda: journal_lines(runs) > 3)
        run = only_run(runs)
        second = subprocess.run(
            elsewhere(run, "sh", "-c", "sleep 1; exit 3"), capture_output=True, text=True, check=False
        )
        assert second.returncode == 3, second.stderr
        assert read_manifest(run).status == RECORDING
        end.touch()
        assert first.wait(60) == 0
    found = load(run)
    assert set(found.manifest.hosts) == {*manifest(run)["hosts"], "node2"}
    assert (found.manifest.status, found.manifest.exit_code, found.end_basis) == (COMPLETE, 3, "exit")
    assert found.problems == []
    gpu = found.frames["gpu"]
    assert set(gpu["host"]) == set(found.manifest.hosts)
    late = gpu[gpu["host"] == "node2"]["t_ns"]
    assert 0 < late.min() < late.max() < found.end_ns
    report = load_report(run, price="3.60")
    assert len(report.gpus) == 2
    assert float(report.total.money.usd) == pytest.approx(2 * 3.60 * found.end_ns / 3600e9)


def test_a_machine_that_stays_longer_makes_the_run_longer(tmp_path):
    runs, end, later = tmp_path / "runs", tmp_path / "end", tmp_path / "later"
    with started(runs, *until(end)) as first:
        wait_until(lambda: journal_lines(runs, "machine") > 1)
        run = only_run(runs)
        with subprocess.Popen(elsewhere(run, *until(later)), stderr=subprocess.DEVNULL) as second:
            wait_until(lambda: len(list(Path(run).glob("host=node2/journal/gpu.*"))))
            end.touch()
            assert first.wait(60) == 0
            assert load(run).live
            ended_ns = int(manifest(run)["end_time_ns"]) - int(manifest(run)["start_time_ns"])
            later.touch()
            assert second.wait(60) == 0
    found = load(run)
    assert found.manifest.status == COMPLETE
    assert found.end_ns > ended_ns


def test_a_run_whose_second_machine_died_is_recovered_into_one_manifest(tmp_path):
    runs, end = tmp_path / "runs", tmp_path / "end"
    with started(runs, *until(end)) as first:
        wait_until(lambda: journal_lines(runs, "machine") > 1)
        run = only_run(runs)
        with subprocess.Popen(
            elsewhere(run, "sleep", "60"), stderr=subprocess.DEVNULL, start_new_session=True
        ) as second:
            wait_until(lambda: journal_lines(runs) > 3)
            os.killpg(second.pid, signal.SIGKILL)
        end.touch()
        assert first.wait(60) == 0
    assert "not_closed" in {problem.code for problem in load(run).problems}
    assert recover(run).status == "recovered"
    assert "node2" in manifest(run)["hosts"]
    assert not Path(run, "host=node2", "run.json").exists()
    found = load(run)
    assert found.problems == []
    assert "node2" in set(found.frames["gpu"]["host"])


def test_what_cannot_be_joined_is_one_line_and_the_command_does_not_start(tmp_path):
    runs, mark = tmp_path / "runs", tmp_path / "started"
    assert record(runs, "true", options=["-q"]).returncode == 0
    done = only_run(runs)
    for place, word in ((done, "any more"), (tmp_path, "not a run")):
        line = [*GPUCOST, "record", "--join", str(place), "--", "touch", str(mark)]
        refused = subprocess.run(line, capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert word in refused.stderr
        assert "Traceback" not in refused.stderr
    assert not mark.exists()


def test_the_same_machine_cannot_be_in_a_run_twice(tmp_path):
    runs = tmp_path / "runs"
    inner = f'{sys.executable} -m gpucost record --join "$GPUCOST_RUN_DIR" -- true; echo code=$?'
    done = record(runs, "sh", "-c", inner, options=["-q"])
    assert done.stdout == "code=2\n"
    assert "already" in done.stderr
    assert load(only_run(runs)).problems == []


def test_a_command_that_cannot_start_leaves_nothing_in_the_run(tmp_path):
    runs, end = tmp_path / "runs", tmp_path / "end"
    with started(runs, *until(end)) as first:
        wait_until(lambda: journal_lines(runs, "machine") > 0)
        run = only_run(runs)
        assert subprocess.run(elsewhere(run, "no-such-command"), capture_output=True, check=False).returncode == 127
        assert not Path(run, "host=node2").exists()
        end.touch()
        first.wait(60)


def test_merging_twice_is_merging_once():
    run = Manifest("r", ["a"], 10 * S, 1 * S, status=COMPLETE, end_time_ns=20 * S, end_mono_ns=11 * S, exit_code=0)
    other = Manifest("r", ["a"], 12 * S, 500 * S, status=COMPLETE, end_time_ns=25 * S, end_mono_ns=513 * S, exit_code=4)
    other.hosts, other.gpus = {"b": Host("b", 12 * S, 500 * S)}, [Gpu("GPU-1", "x", "b")]
    once = merge(run, other)
    assert merge(once, other) == once
    assert (once.end_time_ns, once.end_mono_ns, once.exit_code, len(once.gpus)) == (25 * S, 16 * S, 4, 1)
