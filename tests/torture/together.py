"""Many recorders: side by side in one folder, inside one another, and on two machines in one run."""

import shutil
import subprocess
from pathlib import Path

from gpucost.report import load_report
from gpucost.store.reader import load
from recording_tools import GPUCOST, command_line, journal_lines, manifest, only_run, run_folders, started, wait_until
from torture.rows import Row


def side_by_side_in_one_folder(folder: Path, count: int) -> Row:
    """So many recordings started at once into one folder."""
    row = Row("together", f"{count} recordings at once in one folder", count)
    line = command_line(folder / "runs", "sh", "-c", "sleep 1; exit 3", options=["-q", "--gpus", "sim:t4"])
    folder.mkdir(parents=True)
    processes = [subprocess.Popen(line, stderr=subprocess.PIPE) for _ in range(count)]
    codes = [process.wait(300) for process in processes]
    errors = [process.stderr.read() for process in processes if process.stderr]
    for process in processes:
        if process.stderr:
            process.stderr.close()
    row.check(codes == [3] * count, f"exit codes {sorted(set(codes))}")
    row.check(not any(errors), f"{next((error for error in errors if error), b'')!r}")
    runs = run_folders(folder / "runs")
    row.check(len(runs) == count, f"{len(runs)} runs")
    dark = 0
    for run in runs:
        recording = load(str(run))
        row.check(
            recording.manifest.status == "complete" and not recording.problems, f"{run.name}: {recording.problems}"
        )
        dark += not len(recording.frames["gpu"])
    # With many more recorders than cores, a command of a second can be over before the GPUs are open; its time is unknown then.
    row.lost = f"runs without a GPU sample: {dark}"
    row.check(dark <= count // 10, row.lost)
    return row


def nested(folder: Path, depth: int) -> Row:
    """A recording in a recording in a recording."""
    row = Row("together", f"recordings nested {depth} deep", depth)
    line = ["sh", "-c", "sleep 0.3; exit 5"]
    for _ in range(depth):
        line = command_line(folder / "runs", *line, options=["-q", "--gpus", "sim:t4"])
    done = subprocess.run(line, capture_output=True, check=False, timeout=200)
    row.check(done.returncode == 5, f"exit code {done.returncode}")
    found = {run.name: manifest(run) for run in run_folders(folder / "runs")}
    parents = [one["parent_run_id"] for one in found.values()]
    row.check(len(found) == depth and len(set(parents)) == depth, f"{len(found)} runs")
    row.check(all(parent is None or parent in found for parent in parents), "a parent is not there")
    row.check(all(one["exit_code"] == 5 for one in found.values()), "an exit code is not the command's")
    row.lost = "nothing"
    return row


def two_machines(folder: Path, times: int) -> Row:
    """A second machine joins a run over a shared folder, and goes; its rows and its GPU are in the run."""
    row = Row("together", "two machines record into one run (the second under another host name)", times)
    able = shutil.which("unshare") and shutil.which("hostname")
    if not able or subprocess.run(["unshare", "--uts", "true"], check=False, capture_output=True).returncode:
        row.lost = "skipped: giving a process another host name needs root"
        return row
    for index in range(times):
        runs, end = folder / str(index), folder / f"{index}-end"
        folder.mkdir(parents=True, exist_ok=True)
        with started(
            runs, "sh", "-c", f"while [ ! -e {end} ]; do sleep 0.05; done", options=["--gpus", "sim:h100"]
        ) as first:
            wait_until(lambda runs=runs: journal_lines(runs) > 2)
            run = only_run(runs)
            line = [*GPUCOST, "record", "-q", "--join", run, "--gpus", "sim:h100", "--", "sh", "-c", "sleep 1; exit 2"]
            inner = 'hostname node2 && exec "$@"'
            others = [subprocess.Popen(["unshare", "--uts", "sh", "-c", inner, "sh", *line])]
            codes = [other.wait(100) for other in others]
            end.touch()
            first.wait(100)
        row.check(codes == [2], f"exit codes {codes}")
        recording = load(run)
        gpu = recording.frames["gpu"]
        row.check(recording.manifest.status == "complete" and not recording.problems, f"{recording.problems}")
        row.check(
            set(gpu["host"]) == set(recording.manifest.hosts) and len(recording.manifest.hosts) == 2,
            "a machine is missing",
        )
        row.check(len(load_report(run).gpus) == 2, "a GPU is missing in the report")
    row.lost = "nothing"
    return row
