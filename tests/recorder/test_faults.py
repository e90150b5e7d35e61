"""Whatever breaks in gpucost, the command runs on, and what was sampled stays readable."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import recording_tools
from driver.scenario import Scenario, init_fails, init_hangs, slow
from gpucost.store.reader import load
from recording_tools import fill, journal_lines, wait_until


def started(runs, *argv, options=("--gpus", "sim:h100"), **more):
    return recording_tools.started(runs, *argv, options=options, **more)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=False)


def test_a_disk_that_fills_up_stops_neither_the_command_nor_the_reading_of_what_fit(small_disk):
    runs = small_disk / "runs"
    with started(runs, "sh", "-c", "sleep 5; echo finished") as process:
        wait_until(lambda: journal_lines(runs) > 10)
        fill(small_disk / "filler")
        out, err = process.communicate(timeout=90)
    assert process.returncode == 0
    assert out == "finished\n"
    assert "Traceback" not in err
    (run,) = [path for path in runs.iterdir() if path.is_dir()]
    assert len(load(str(run)).frames["gpu"]) > 10


def test_a_disk_that_has_room_again_gets_the_rows_that_waited(small_disk):
    runs = small_disk / "runs"
    filler = small_disk / "filler"
    with started(runs, "sh", "-c", f"sleep 2.5; rm {filler}; sleep 1.5; echo finished") as process:
        wait_until(lambda: journal_lines(runs) > 5)
        fill(filler)
        out, _ = process.communicate(timeout=90)
    assert (process.returncode, out) == (0, "finished\n")
    (run,) = [path for path in runs.iterdir() if path.is_dir()]
    ticks = load(str(run)).frames["gpu"]["mono_ns"]
    assert ticks.diff().max() < 1_000_000_000
    assert json.loads((run / "run.json").read_text())["status"] == "complete"


def test_a_run_directory_that_disappears_does_not_disturb_the_command(tmp_path):
    runs = tmp_path / "runs"
    with started(runs, "sh", "-c", "sleep 2.5; echo finished") as process:
        wait_until(lambda: journal_lines(runs) > 5)
        shutil.rmtree(runs)
        out, err = process.communicate(timeout=90)
    assert (process.returncode, out) == (0, "finished\n")
    assert "Traceback" not in err
    assert "gpucost: " in err


def test_a_recorder_that_is_suspended_leaves_a_gap_and_does_not_stretch_what_it_knows(tmp_path):
    runs = tmp_path / "runs"
    with started(runs, "sleep", "5") as process:
        wait_until(lambda: journal_lines(runs) > 8)
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=90)
    (run,) = runs.iterdir()
    recording = load(str(run))
    assert recording.frames["gpu"]["mono_ns"].diff().max() > 2_300_000_000
    rows = recording.frames["recorder"]
    assert rows[rows["collector"] == "sim"]["ticks_missed"].max() >= 20


def test_a_recorder_killed_while_it_seals_leaves_a_readable_run(tmp_path):
    runs = tmp_path / "runs"
    for delay in (0.0, 0.2, 0.4, 0.6, 0.8):
        shutil.rmtree(runs, ignore_errors=True)
        with started(runs, "sleep", "0.7") as process:
            wait_until(lambda: '"complete"' in "".join(path.read_text() for path in runs.glob("*/run.json")))
            time.sleep(delay)
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
            process.kill()
            process.communicate(timeout=60)
        (run,) = runs.iterdir()
        recording = load(str(run))
        assert not recording.frames["gpu"]["mono_ns"].duplicated().any()
        assert recording.end_basis == "exit"
        assert len(recording.frames["gpu"]) > 2


def test_a_driver_that_hangs_in_init_holds_up_neither_the_command_nor_its_end(tmp_path, driver_env):
    runs = tmp_path / "runs"
    environ = {**os.environ, **driver_env(Scenario(faults=[init_hangs(300)]))}
    with started(runs, "sh", "-c", "sleep 6.5; echo finished", options=(), env=environ) as process:
        out, err = process.communicate(timeout=90)
    assert (process.returncode, out) == (0, "finished\n"), err
    (run,) = runs.iterdir()
    recording = load(str(run))
    assert len(recording.frames["machine"]) > 3
    assert "collector_stuck" in set(recording.frames["event"]["kind"])


def test_a_call_that_hangs_for_a_while_leaves_a_gap_and_everything_else_goes_on(tmp_path, driver_env):
    runs = tmp_path / "runs"
    fault = slow("nvmlDeviceGetUtilizationRates", sleep_us=2_500_000, times=1)
    environ = {**os.environ, **driver_env(Scenario(faults=[fault]))}
    with started(runs, "sh", "-c", "sleep 4.5; echo finished", options=("--gpus", "all"), env=environ) as process:
        out, err = process.communicate(timeout=90)
    assert (process.returncode, out) == (0, "finished\n"), err
    (run,) = runs.iterdir()
    recording = load(str(run))
    machine = recording.frames["machine"]["t_ns"]
    assert machine.diff().max() < 2_000_000_000, "a collector that hangs holds up no other"
    assert len(recording.frames["gpu"]) > 3


@pytest.mark.parametrize("code", [9, 18, 4, 17, 999])
def test_a_driver_that_does_not_start_is_a_line_and_not_an_end(tmp_path, driver_env, code):
    runs = tmp_path / "runs"
    environ = {**os.environ, **driver_env(Scenario(faults=[init_fails(code)]))}
    with started(runs, "sh", "-c", "sleep 0.4; echo finished", options=(), env=environ) as process:
        out, err = process.communicate(timeout=90)
    assert (process.returncode, out) == (0, "finished\n"), err
    assert "Traceback" not in err
    (run,) = runs.iterdir()
    events = load(str(run)).frames["event"]
    said = events[events["source"] == "nvml"]
    assert set(said["kind"]) <= {"source_unavailable", "collector_failed"}
    assert len(said) == 1
