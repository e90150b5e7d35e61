"""Recordings inside a real PID namespace, as a container has one: what is a process's is never somebody else's, by any driver's custom.

Drivers before 535.113 tell a container the host's pids, those up to 570 a mixture of both, and later ones the container's own.
"""

import functools
import json
import os
import subprocess

import pytest

from driver.scenario import GIB, Gpu, Process, Scenario
from gpucost.analyzers import analyze
from gpucost.store.reader import load
from recording_tools import GPUCOST, command_line, manifest, only_run

OLD, MIDDLE, NEW = "535.104.05", "560.35.03", "570.86.15"
SAY_PID = "read -r pid rest < /proc/self/stat; echo $pid > {said}; echo $$ > {here}; exec sleep 2"
STRANGER = 54_321
SOME = {"memory_bytes": 2 * GIB, "sm_util_pct": 60}

_WAYS = (["unshare", "--pid", "--fork"], ["unshare", "--user", "--map-root-user", "--pid", "--fork"])


@functools.cache
def way():
    """How a PID namespace is made here, or nothing."""
    for line in _WAYS:
        try:
            if subprocess.run([*line, "--mount-proc", "true"], capture_output=True, check=False).returncode == 0:
                return line
        except FileNotFoundError:
            return None
    return None


@pytest.fixture
def inside(driver_env, tmp_path):
    """Runs gpucost in a PID namespace of its own, with its own /proc or the host's, against a driver."""
    line = way()
    if line is None:
        pytest.skip("PID namespaces cannot be made here (unshare --pid)")

    def run(command, scenario, *, own_proc):
        made = [*line, *(["--mount-proc"] if own_proc else []), *command]
        environ = {**os.environ, **driver_env(scenario)}
        return subprocess.run(made, env=environ, capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.fixture
def recorded(inside, tmp_path):
    """Records a command in a namespace; gives the run, its recording, and the command's pid there."""

    def run(version, *processes, own_proc):
        runs, here = tmp_path / "runs", tmp_path / "here"
        script = SAY_PID.format(said=tmp_path / "said", here=here)
        scenario = Scenario(gpus=[Gpu(util_pct=60, processes=processes)], driver_version=version)
        done = inside(command_line(runs, "sh", "-c", script), scenario, own_proc=own_proc)
        assert done.returncode == 0, done.stderr
        path = only_run(runs)
        return path, load(path), int(here.read_text())

    return run


def kinds(recording):
    return set(recording.frames["event"]["kind"])


def whose(recording):
    """Pid to what the run says of it."""
    frame = recording.frames["gpu_process"]
    found = zip(frame["pid"].tolist(), frame["in_run"].astype(object).tolist(), strict=True)
    return {int(pid): in_run if isinstance(in_run, bool) else None for pid, in_run in found}


def test_a_new_driver_tells_a_containers_own_pids(recorded, tmp_path):
    """The command's process is the run's, with its share; a pid of the host that is left in the samples is nobody, and counted."""
    mine = Process(pid_file=tmp_path / "here", **SOME)
    path, recording, pid = recorded(NEW, mine, Process(pid=STRANGER, kinds="", sm_util_pct=20), own_proc=True)
    assert whose(recording) == {pid: True}
    assert recording.frames["gpu_process"]["sm_util_pct"].max() == 60
    (facts,) = manifest(path)["recorder"]["left_out"].values()
    assert facts["unlisted_samples"] > 0
    row = analyze(recording).gpus.iloc[0]
    assert row["busy_ns"] > 0
    assert row["foreign_ns"] == 0


def test_a_driver_between_them_tells_lists_that_can_be_believed_and_samples_that_cannot(recorded, tmp_path):
    """Its samples call the stranger what our command is called here: they are not believed, and nobody has a share."""
    here = tmp_path / "here"
    mine, stranger = (
        Process(pid_file=here, **SOME, sample_pid=STRANGER),
        Process(pid_file=here, kinds="", sm_util_pct=30),
    )
    _, recording, pid = recorded(MIDDLE, mine, stranger, own_proc=True)
    assert whose(recording) == {pid: True}
    assert recording.frames["gpu_process"]["sm_util_pct"].isna().all()


def test_pids_of_the_host_are_nobodys_in_a_container(recorded, tmp_path):
    """A stranger's pid on the host happens to be our command's in the container: it is not taken for it, and the run says what is unknown."""
    collides = Process(pid_file=tmp_path / "here", **SOME)
    _, recording, pid = recorded(OLD, collides, Process(pid=STRANGER, memory_bytes=GIB), own_proc=True)
    assert whose(recording) == {pid: None, STRANGER: None}
    assert "processes_unknown" in kinds(recording)
    row = analyze(recording).gpus.iloc[0]
    assert row["holding_basis"] == "memory"


def test_pids_of_the_host_are_found_where_the_hosts_proc_can_be_read(recorded, tmp_path):
    """There they can be followed to the recorder, and the run's are written as what they are called in the namespace."""
    mine = Process(pid_file=tmp_path / "said", elsewhere=True, **SOME)
    _, recording, pid = recorded(OLD, mine, Process(pid=os.getpid(), memory_bytes=GIB), own_proc=False)
    if "processes_unknown" in kinds(recording):
        pytest.skip("the /proc here is not the host's")
    assert pid != int((tmp_path / "said").read_text())
    assert whose(recording) == {pid: True, os.getpid(): False}
    assert recording.frames["gpu_process"]["sm_util_pct"].max() == 60


def test_pids_of_a_container_are_not_looked_for_in_the_proc_of_the_host(recorded, tmp_path):
    """The same number is another process there."""
    _, recording, pid = recorded(NEW, Process(pid_file=tmp_path / "here", elsewhere=True, **SOME), own_proc=False)
    assert whose(recording) == {pid: None}
    assert "processes_unknown" in kinds(recording)


@pytest.mark.parametrize(
    ("version", "own_proc", "state", "says"),
    [
        (OLD, True, "missing", "shows containers the host's pids"),
        (MIDDLE, True, "missing", "not each process's share"),
        (NEW, True, "note", "processes outside it are not seen"),
        (NEW, False, "missing", "belongs to another PID namespace"),
    ],
)
def test_doctor_says_what_a_namespace_hides(inside, version, own_proc, state, says):
    done = inside([*GPUCOST, "doctor", "--format", "json"], Scenario(driver_version=version), own_proc=own_proc)
    assert done.returncode == (0 if state == "note" else 1), done.stderr
    found = [one for one in json.loads(done.stdout)["findings"] if one["about"] == "processes"]
    assert [(one["state"], says in one["text"]) for one in found] == [(state, True)]
