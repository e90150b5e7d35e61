"""One recording under some fault, and what every fault of the suite must leave alone: the command, its exit code, a run that can be read."""

import itertools
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpucost.errors import GpucostError
from gpucost.recording import Recording
from gpucost.report import load_report
from gpucost.store.reader import load
from recording_tools import run_folders
from torture.rows import Row

EXIT_CODE = 7
_RECORDER = str(Path(__file__).with_name("recorder.py"))


@dataclass(slots=True)
class Trial:
    """A recording that has ended.

    Attributes:
        wall_s: how long all of it took.
        command_s: how long the command took, by its own clock; None if it did not end.
        recording: the run; None if there is none.
        unreadable: why it cannot be read.
    """

    code: int
    out: str
    err: str
    wall_s: float
    command_s: float | None
    run: Path | None
    recording: Recording | None = None
    unreadable: str = ""

    def gap_s(self, table: str = "gpu") -> float:
        """The longest time between two samples."""
        times = [] if self.recording is None else sorted(set(self.recording.frames[table]["mono_ns"]))
        return max((b - a for a, b in itertools.pairwise(times)), default=0) / 1e9

    def events(self) -> set[str]:
        """The kinds of events in the run."""
        return set() if self.recording is None else set(self.recording.frames["event"]["kind"])


def begin(
    folder: Path,
    seconds: float,
    *,
    environ: Mapping[str, str] | None = None,
    options: Sequence[str] = ("--gpus", "sim:h100"),
    runs: Path | None = None,
    age_s: float = 0.7,
    command: str = "",
) -> subprocess.Popen:
    """Start to record a command that takes so many seconds, says `finished` and exits with `EXIT_CODE`."""
    folder.mkdir(parents=True, exist_ok=True)
    timed = f"cat /proc/uptime > {folder}/began; {command or f'sleep {seconds}'}; cat /proc/uptime > {folder}/ended; echo finished; exit {EXIT_CODE}"
    line = [
        sys.executable,
        _RECORDER,
        str(age_s),
        "--runs",
        str(runs or folder / "runs"),
        *options,
        "--",
        "sh",
        "-c",
        timed,
    ]
    return subprocess.Popen(
        line,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environ,
        start_new_session=True,
    )


def end(process: subprocess.Popen, folder: Path, *, runs: Path | None = None, timeout_s: float = 150) -> Trial:
    """Wait for a recording to end, and read the run."""
    began = time.monotonic()
    out, err = process.communicate(timeout=timeout_s)
    trial = Trial(process.returncode, out, err, time.monotonic() - began, _command_s(folder), None)
    found = [run for run in run_folders(runs or folder / "runs") if (run / "run.json").exists()]
    if found:
        trial.run = found[0]
        try:
            trial.recording = load(str(found[0]))
            load_report(found[0])
        except GpucostError as error:
            trial.unreadable = str(error)
        except Exception as error:
            trial.unreadable = f"{type(error).__name__}: {error}"
    return trial


def tried(folder: Path, seconds: float, **more: object) -> Trial:
    """Record a command to its end; see `begin`."""
    runs = more.get("runs")
    return end(begin(folder, seconds, **more), folder, runs=runs)  # type: ignore[arg-type]


def judge(row: Row, trial: Trial, what: str, *, run: bool = True) -> None:
    """What must hold whatever broke: the command ran as it would have, nobody saw a traceback, and the run can be read."""
    row.times += 1
    row.check(trial.code == EXIT_CODE, f"{what}: exit code {trial.code}: {trial.err[-200:]!r}")
    row.check(trial.out == "finished\n", f"{what}: the command said {trial.out!r}")
    row.check("Traceback" not in trial.err, f"{what}: {trial.err[-300:]!r}")
    row.check(not trial.unreadable, f"{what}: unreadable: {trial.unreadable}")
    row.check(not run or trial.recording is not None, f"{what}: there is no run")
    if trial.recording is not None:
        codes = {problem.code for problem in trial.recording.problems}
        row.check("duplicate_rows" not in codes, f"{what}: a row counts twice")


def _command_s(folder: Path) -> float | None:
    try:
        began, ended = ((folder / name).read_text().split()[0] for name in ("began", "ended"))
    except (OSError, IndexError):
        return None
    return float(ended) - float(began)
