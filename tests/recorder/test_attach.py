"""`gpucost record --attach`: a server outside the command belongs to the run."""

import os
import subprocess
import sys
import time

import pytest

from collector_harness import FakeProc
from driver.scenario import GIB, NS, Gpu, Process, Scenario
from gpucost.analyzers import analyze
from gpucost.collectors._proc import Attached, Tree
from gpucost.store.reader import load

GPUCOST = [sys.executable, "-m", "gpucost"]


@pytest.fixture
def server():
    """A process that was there before the command."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("how", ["pid", "name", "not at all"])
def test_what_an_attached_server_does_is_the_runs(tmp_path, driver_env, server, how):
    """Its work is busy and not foreign, and its processes are recorded with the command's."""
    gpu = Gpu(util_pct=60, processes=[Process(pid=server.pid, memory_bytes=GIB, sm_util_pct=60)])
    scenario = Scenario(gpus=[gpu], epoch_mono_ns=time.monotonic_ns() - 10 * NS)
    options = {"pid": ["--attach", str(server.pid)], "name": ["--attach-name=sleep"], "not at all": []}[how]
    command = [
        *GPUCOST,
        "record",
        "--runs",
        str(tmp_path / "runs"),
        "-q",
        *options,
        "--",
        sys.executable,
        "-c",
        "import time; time.sleep(2.5)",
    ]
    done = subprocess.run(
        command, env={**os.environ, **driver_env(scenario)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    recording = load(str(next((tmp_path / "runs").iterdir())))
    row = analyze(recording).gpus.iloc[0]
    mine, others = ("foreign_ns", "busy_ns") if how == "not at all" else ("busy_ns", "foreign_ns")
    assert row[others] == 0
    assert row[mine] > 0
    assert (server.pid in set(recording.frames["process"]["pid"])) == (how != "not at all")


def test_a_pid_that_nobody_has_is_refused_before_the_command_starts(tmp_path):
    for pid in ("0", "x", "-1", "4194303"):
        command = [
            *GPUCOST,
            "record",
            "--runs",
            str(tmp_path / "runs"),
            f"--attach={pid}",
            "--",
            "touch",
            str(tmp_path / "started"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "attach" in done.stderr
        assert not (tmp_path / "started").exists()


def test_a_reused_pid_is_not_the_attached_process(tmp_path):
    """The process that gets the pid later has another start."""
    proc = FakeProc(tmp_path / "proc")
    proc.process(500, 1, start=100)
    tree = Tree(10, proc=proc, attached=Attached([500], proc=proc))
    assert [stat.pid for stat in tree.refresh()] == [500]
    proc.process(500, 1, start=900)
    assert tree.refresh() == []


def test_what_an_attached_process_starts_belongs_to_the_run_too(tmp_path):
    proc = FakeProc(tmp_path / "proc")
    proc.process(500, 1, name="a-very-long-server-name"[:15])
    proc.process(501, 500)
    proc.process(502, 1)
    tree = Tree(10, proc=proc, attached=Attached(names=["a-very-long-server-name"], proc=proc))
    assert sorted(stat.pid for stat in tree.refresh()) == [500, 501]
