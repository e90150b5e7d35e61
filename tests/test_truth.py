"""What a report says against what is known to have happened: the real binding, a driver that plays a scenario, a real command."""

import os
import subprocess
import sys
import time
from fractions import Fraction

import pytest

from driver.scenario import GIB, Gpu, Process, Scenario
from gpucost.analyzers import analyze
from gpucost.store.reader import load

NS = 1_000_000_000
GPUCOST = [sys.executable, "-m", "gpucost"]


@pytest.fixture
def recorded(tmp_path, driver_env):
    """Records a command on a scenario; gives the recording and its start on the scenario's clock."""

    def record(scenario: Scenario, *argv: str, options=()):
        runs = tmp_path / "runs"
        environ = {**os.environ, **driver_env(scenario)}
        command = [*GPUCOST, "record", "--runs", str(runs), "-q", *options, "--", *argv]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == 0, done.stderr
        recording = load(str(next(runs.iterdir())))
        return recording, recording.manifest.start_mono_ns - scenario.epoch_mono_ns

    return record


def on_the_gpu(pid_file, seconds: float) -> list[str]:
    return ["sh", "-c", f"echo $$ > {pid_file}; exec sleep {seconds}"]


def test_steady_work_is_busy_for_its_share_and_gap_for_the_rest(recorded, tmp_path):
    pid_file = tmp_path / "pid"
    gpu = Gpu(util_pct=80, power_w=500, processes=[Process(pid_file=pid_file, memory_bytes=4 * GIB, sm_util_pct=80)])
    recording, offset = recorded(
        Scenario(gpus=[gpu], epoch_mono_ns=time.monotonic_ns() - 10 * NS), *on_the_gpu(pid_file, 3)
    )
    row = analyze(recording).gpus.iloc[0]
    known = row["held_ns"] - row["unknown_ns"]
    assert known > 2 * NS
    assert row["busy_ns"] / known == pytest.approx(0.8, abs=0.05)
    assert row["busy_ns"] + row["gap_ns"] + row["empty_ns"] == known
    assert offset > 0


def test_energy_by_the_counter_is_the_energy_that_was_drawn(recorded, tmp_path):
    pid_file = tmp_path / "pid"
    gpu = Gpu(
        util_pct=50, power_w=[(0, 100), (1, 400), (2.5, 200)], processes=[Process(pid_file=pid_file, memory_bytes=GIB)]
    )
    recording, offset = recorded(Scenario(gpus=[gpu], epoch_mono_ns=time.monotonic_ns()), *on_the_gpu(pid_file, 4))
    analysis = analyze(recording)
    row = analysis.energy_gpus.iloc[0]
    ticks = recording.frames["gpu"]["t_ns"]
    truth = gpu.energy_j(int(ticks.iloc[0]) + offset, int(ticks.iloc[-1]) + offset)
    assert row["basis"] == "counter"
    assert row["counter_j"] == pytest.approx(truth, abs=2 * 400 * 0.1)  # the counter moves every 100 ms
    assert row["integral_j"] == pytest.approx(truth, rel=0.1)


def test_idle_after_work_is_idle_from_the_moment_work_ends(recorded, tmp_path):
    pid_file = tmp_path / "pid"
    gpu = Gpu(util_pct=[(0, 100), (12, 0)], processes=[Process(pid_file=pid_file, memory_bytes=GIB)])
    scenario = Scenario(gpus=[gpu], epoch_mono_ns=time.monotonic_ns() - 10 * NS)
    recording, offset = recorded(scenario, *on_the_gpu(pid_file, 5))
    row = analyze(recording).gpus.iloc[0]
    work_ended = 12 * NS - offset
    assert row["idle_ns"] == pytest.approx(recording.end_ns - work_ended, abs=0.5 * NS)


def test_a_gpu_that_nobody_used_is_empty_and_one_that_others_use_is_foreign(recorded, tmp_path):
    pid_file = tmp_path / "pid"
    own = Gpu(util_pct=30, processes=[Process(pid_file=pid_file, memory_bytes=GIB, sm_util_pct=30)])
    unused = Gpu()
    others = Gpu(util_pct=90, processes=[Process(pid=1, memory_bytes=GIB, sm_util_pct=90)])
    scenario = Scenario(gpus=[own, unused, others], epoch_mono_ns=time.monotonic_ns() - 10 * NS)
    recording, _ = recorded(scenario, *on_the_gpu(pid_file, 3))
    analysis = analyze(recording)
    by_uuid = analysis.gpus
    known = by_uuid["held_ns"] - by_uuid["unknown_ns"]
    assert by_uuid.loc[scenario.uuid(1), "empty_ns"] == known[scenario.uuid(1)]
    assert by_uuid.loc[scenario.uuid(2), "foreign_ns"] / known[scenario.uuid(2)] == pytest.approx(0.9, abs=0.05)
    assert by_uuid.loc[scenario.uuid(2), "busy_ns"] == 0


def test_memory_of_the_process_is_what_the_driver_said(recorded, tmp_path):
    pid_file = tmp_path / "pid"
    gpu = Gpu(util_pct=10, processes=[Process(pid_file=pid_file, memory_bytes=3 * GIB, sm_util_pct=10)])
    recording, _ = recorded(
        Scenario(gpus=[gpu], epoch_mono_ns=time.monotonic_ns() - 10 * NS), *on_the_gpu(pid_file, 2.5)
    )
    rows = recording.frames["gpu_process"]
    assert set(rows["memory_used_bytes"]) == {3 * GIB}
    assert rows["in_run"].all()
    assert set(rows["pid"]) == {int(pid_file.read_text())}


def test_the_command_is_billed_for_what_it_can_see_or_for_the_node(recorded, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    scenario = Scenario(gpus=[Gpu(), Gpu(), Gpu()], epoch_mono_ns=time.monotonic_ns())
    recording, _ = recorded(scenario, "sleep", "0.4")
    assert [gpu.uuid for gpu in recording.manifest.gpus if gpu.held] == [scenario.uuid(1)]


def test_the_whole_node_is_billed_on_request(recorded, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    scenario = Scenario(gpus=[Gpu(), Gpu(), Gpu()], epoch_mono_ns=time.monotonic_ns())
    recording, _ = recorded(scenario, "sleep", "0.4", options=["--bill", "node"])
    assert [gpu.uuid for gpu in recording.manifest.gpus if gpu.held] == [scenario.uuid(index) for index in range(3)]


def test_the_ledger_of_a_real_recording_closes_exactly(recorded, tmp_path):
    pid_file = tmp_path / "pid"
    gpu = Gpu(util_pct=[(0, 37), (11, 0), (13, 91)], processes=[Process(pid_file=pid_file, memory_bytes=GIB)])
    scenario = Scenario(gpus=[gpu, Gpu()], epoch_mono_ns=time.monotonic_ns() - 10 * NS)
    recording, _ = recorded(scenario, *on_the_gpu(pid_file, 3))
    analysis = analyze(recording)
    for uuid, held in analysis.gpus["held_ns"].items():
        assert analysis.ledger.loc[analysis.ledger["gpu_uuid"] == uuid, "duration_ns"].sum() == held == recording.end_ns
    rate = Fraction("3.29")
    total = sum((Fraction(int(ns)) * rate / (3600 * NS) for ns in analysis.ledger["duration_ns"]), Fraction(0))
    assert total == 2 * rate * recording.end_ns / (3600 * NS)
