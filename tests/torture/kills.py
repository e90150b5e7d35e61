"""`kill -9` of the recorder, of the child that seals, and of the whole process group, in every phase of a recording."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from driver.build import NoCompilerError
from gpucost import rundir
from gpucost.errors import GpucostError
from gpucost.report import load_report
from gpucost.store.compact import MERGE_COUNT
from gpucost.store.layout import list_host
from gpucost.store.parquet import TEMPORARY_PREFIX
from gpucost.store.reader import load
from gpucost.store.recover import recover
from recording_tools import children, command_line, of_session, run_folders, with_environment
from torture import shim
from torture.rows import Row, counted, distribution, side_by_side

PHASES = ("start", "sampling", "any moment", "rotation", "sealing", "merging", "compaction", "exit")
SEALED = ("sealing", "merging", "compaction", "exit")
"""Where a child of the recorder's seals, and can be struck too."""

COMMAND_S = {"start": 1.0, "sampling": 4.5, "any moment": 12.0, "rotation": 4.0, "sealing": 5.0, "merging": 19.0}
WITHIN_S = {
    "start": 1.2,
    "sampling": 2.5,
    "any moment": 11.5,
    "rotation": 0.6,
    "sealing": 0.5,
    "merging": 0.1,
    "compaction": 1.0,
    "exit": 2.0,
}
LONG = ("any moment", "merging")
"""Those that take a dozen seconds and more each."""

SEALER_S = 0.4
_SHOWS = {"sampling": "*/host=*/journal/gpu.*.jsonl", "rotation": "*/host=*/journal/gpu.*.2.jsonl"}
VICTIMS = ("recorder", "sealer", "group")
MAY_LOSE_S = 2.0
EDGES_S = (0.1, 0.25, 0.5, 1.0, 2.0)
MARK = "GPUCOST_TORTURE"
_RECORDER = str(Path(__file__).with_name("recorder.py"))
_COMMAND = """
import sys, time
note = open(sys.argv[1], "w", buffering=1)
note.write(f"{time.monotonic_ns()}\\n")
time.sleep(float(sys.argv[2]))
note.write(f"{time.monotonic_ns()}\\n")
"""


class Plan(NamedTuple):
    """One kill: where its files go, when it strikes, whom, and by which dice."""

    folder: Path
    phase: str
    victim: str
    seed: int


class Outcome(NamedTuple):
    """What came of it.

    `lost_s` is None when the command had not begun, so that there was nothing to lose. `midway`: a part and those that it replaces were there.
    """

    plan: Plan
    lost_s: float | None
    failures: list[str]
    midway: bool = False


def pairs() -> list[tuple[str, str]]:
    """Whom to strike in which phase."""
    return [(phase, victim) for phase in PHASES for victim in VICTIMS if victim != "sealer" or phase in SEALED]


def plans(folder: Path, times: int, seed: int, phases: tuple[str, ...] = PHASES) -> list[Plan]:
    """As many kills as asked for, over all phases and victims in turn; the sealing child lives only where something is sealed."""
    wanted = [pair for pair in pairs() if pair[0] in phases]
    chosen = (wanted[number % len(wanted)] for number in range(times))
    return [Plan(folder / f"{n:04}", phase, victim, seed + n) for n, (phase, victim) in enumerate(chosen)]


def kill_once(plan: Plan) -> Outcome:
    """Record, kill, look. A recording that ends before it could be struck is done again."""
    chance = random.Random(plan.seed)
    for attempt in range(8):
        folder = plan.folder / str(attempt)
        folder.mkdir(parents=True)
        found = _try(plan, folder, chance)
        if found is not None:
            return found
    return Outcome(plan, None, [f"{plan.phase}/{plan.victim}: never struck"])


def _try(plan: Plan, folder: Path, chance: random.Random) -> Outcome | None:
    runs, note, mark = folder / "runs", folder / "note", f"{MARK}={folder}"
    seconds = COMMAND_S.get(plan.phase, 1.7)
    command = [sys.executable, "-S", "-E", "-c", _COMMAND, str(note), str(seconds)]
    options = ["-q", "--gpus", "sim:h100:2"]
    if plan.phase in ("start", "any moment"):
        line = command_line(runs, *command, options=options)
    else:
        age = f"0.3:{MERGE_COUNT + 1}" if plan.phase == "merging" else "0.7"
        line = [sys.executable, _RECORDER, age, "--runs", str(runs), *options, "--", *command]
    environ = {**os.environ, **_wide_windows(plan, runs), MARK: str(folder)}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(line, env=environ, start_new_session=True, **quiet) as recorder:
        struck_ns = _strike(plan, recorder, runs, chance)
        if struck_ns is None:
            recorder.wait(60)
            return None
        midway = _midway(runs)
        recorder.wait(60)
    failures = _wait_for_the_rest(mark, recorder.pid)
    lost_s = _look(runs, note, struck_ns, plan, failures)
    told = [f"{plan.phase}/{plan.victim} (seed {plan.seed}): {failure}" for failure in failures]
    return Outcome(plan, lost_s, told, midway)


def _wide_windows(plan: Plan, runs: Path) -> dict[str, str]:
    """What lies between two steps of a sealer is made so long that a kill falls there."""
    if not _wide(plan):
        return {}
    try:
        return shim.environment(under=runs, call="rename,unlink", sleep_ms=60)
    except NoCompilerError:
        return {}


def _wide(plan: Plan) -> bool:
    """Every second kill where something is sealed."""
    return plan.phase in SEALED and not (plan.seed // len(pairs())) % 2


def _strike(plan: Plan, recorder: subprocess.Popen, runs: Path, chance: random.Random) -> int | None:
    """Wait for the phase and then a random while, and kill; when that was, or None if there was nobody to kill."""
    while (ready := _ready(plan, recorder.pid, runs)) is None:
        if recorder.poll() is not None:
            return None
        time.sleep(0.005)
    width = WITHIN_S[plan.phase] * (4 if plan.phase == "merging" and _wide(plan) else 1)
    time.sleep(chance.uniform(0, min(width, SEALER_S) if plan.victim == "sealer" else width))
    if recorder.poll() is not None:
        return None
    try:
        if plan.victim == "group":
            os.killpg(recorder.pid, signal.SIGKILL)
        elif plan.victim == "recorder":
            recorder.kill()
        else:
            os.kill(ready, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return time.monotonic_ns()


def _ready(plan: Plan, pid: int, runs: Path) -> int | None:
    """The pid to strike at if the recording is in the phase, else None."""
    if plan.phase in ("start", "any moment"):
        return pid
    if plan.phase in _SHOWS:
        return pid if any(runs.glob(_SHOWS[plan.phase])) else None
    if plan.phase == "sealing":
        begun = any(runs.glob("*/host=*/*/*part-*"))  # not while the child still loads what it needs
        return _own(pid, b"gpucost.store.seal") if begun else None
    if plan.phase == "merging":
        return _own(pid, b"gpucost.store.seal") if _merging(runs) else None
    sealer = _own(pid, b"gpucost.recorder.epilogue")
    if plan.phase == "compaction" and sealer is not None:  # once every segment is a part, the parts are merged
        left = any(runs.glob("*/host=*/journal/*.jsonl"))
        return None if left else sealer
    return sealer


def _own(pid: int, module: bytes) -> int | None:
    for child in children(pid):
        try:
            if module in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
        except OSError:
            continue
    return None


def _merging(runs: Path) -> bool:
    """Whether the dozen parts of some table become one: the new one is being written, or is there beside them."""
    for table in runs.glob("*/host=*/gpu*"):
        names = [path.name for path in table.iterdir()]
        parts = [found for name in names if (found := rundir.parse_part(name))]
        if any(last > first for _, first, last in parts):
            return True
        if len(parts) >= MERGE_COUNT and any(name.startswith(TEMPORARY_PREFIX) for name in names):
            return True
    return False


def _midway(runs: Path) -> bool:
    """Whether a merged part, or one that is being written, is there together with what it is made of."""
    for table in runs.glob("*/host=*/*/"):
        names = [path.name for path in table.iterdir()]
        parts = [found for name in names if (found := rundir.parse_part(name))]
        merged = [found for found in parts if found[2] > found[1]]
        if any(
            one[0] == writer and first <= one[1] and one[2] <= last
            for writer, first, last in merged
            for one in parts
            if one != (writer, first, last)
        ):
            return True
        if len(parts) > 1 and any(name.startswith(TEMPORARY_PREFIX) for name in names):
            return True
    return False


def _wait_for_the_rest(mark: str, session: int) -> list[str]:
    """Nothing of the recording may live on: what has its mark, or is in its session."""
    deadline = time.monotonic() + 30
    while left := {*with_environment(mark), *of_session(session)}:
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return [f"{len(left)} processes were left behind"]
        time.sleep(0.05)
    return []


def _look(runs: Path, note: Path, struck_ns: int, plan: Plan, failures: list[str]) -> float | None:
    """Read the run as it lies and after a recovery; the seconds that were lost."""
    times = [int(word) for word in note.read_text().split()] if note.exists() else []
    if plan.victim != "group" and times and len(times) < 2:
        failures.append("the command did not run on")
    found = [run for run in run_folders(runs) if (run / "run.json").exists()]
    if not found:
        if times:
            failures.append("the command ran, and there is no run")
        return None
    until_ns = min([*times[1:], struck_ns] if plan.victim != "sealer" else times[1:] or [struck_ns])
    lost_s = None
    for state in ("as it lies", "recovered"):
        try:
            lost_s = _lost(found[0], times, until_ns, failures, state)
            load_report(found[0])
            if state == "as it lies":
                recover(str(found[0]))
        except (GpucostError, OSError, ArithmeticError, LookupError, ValueError) as error:
            failures.append(f"{state}: unreadable: {type(error).__name__}: {error}")
            return None
    if lost_s is not None and lost_s > MAY_LOSE_S:
        failures.append(f"{lost_s:.2f} s were lost")
    return lost_s


def _lost(run: Path, times: list[int], until_ns: int, failures: list[str], state: str) -> float | None:
    recording = load(str(run))
    gpu = recording.frames["gpu"]
    wrong = {problem.code for problem in recording.problems} - {"torn_line", "not_closed"}
    if wrong or recording.live:
        failures.append(f"{state}: {', '.join(sorted(wrong)) or 'still live'}")
    if gpu.duplicated(["gpu_uuid", "mono_ns"]).any():
        failures.append(f"{state}: a row counts twice")
    failures += [f"{state}: {hole}" for hole in _holes(run)]
    if not times:
        return None
    last_ns = int(gpu["mono_ns"].max()) if len(gpu) else times[0]
    return max(0, until_ns - last_ns) / 1e9


def _holes(run: Path) -> Iterable[str]:
    """Segments that are neither there nor in a part."""
    for host in rundir.hosts(str(run)):
        files = list_host(rundir.host_dir(str(run), host))
        there: dict[tuple[str, str], set[int]] = {}
        for part in files.parts:
            there.setdefault((part.table, part.writer), set()).update(range(part.first, part.last + 1))
        for segment in files.segments:
            there.setdefault((segment.table, segment.writer), set()).add(segment.seq)
        for (table, _), numbers in there.items():
            if numbers != set(range(1, max(numbers) + 1)):
                yield f"segments of {table} are missing"


def kills(folder: Path, times: int, *, workers: int, seed: int = 1, phases: tuple[str, ...] = PHASES) -> Row:
    """Kill so many times; the row, with the distribution of what was lost in its notes."""
    row = Row("kills", "kill -9 of recorder, sealing child or group, in every phase", times)
    outcomes: list[Outcome] = side_by_side(kill_once, plans(folder, times, seed, phases), workers)
    row.failures = [failure for outcome in outcomes for failure in outcome.failures]
    struck = Counter((outcome.plan.phase, outcome.plan.victim) for outcome in outcomes)
    row.table = [
        ["phase", "kills", *(f"< {edge:g} s" for edge in EDGES_S), "more", "worst", "not begun", "in mid-merge"]
    ]
    for phase in phases:
        ours = [outcome for outcome in outcomes if outcome.plan.phase == phase]
        lost = [outcome.lost_s for outcome in ours if outcome.lost_s is not None]
        midway = sum(outcome.midway for outcome in ours)
        who = ", ".join(f"{victim} {struck[phase, victim]}" for victim in VICTIMS if struck[phase, victim])
        row.notes.append(
            f"{phase:<10} {who:<36} {distribution(lost, EDGES_S)}  not begun: {len(ours) - len(lost)}  in mid-merge: {midway}"
        )
        counts = [*counted(lost, EDGES_S), f"{max(lost, default=0):.2f} s", len(ours) - len(lost), midway]
        row.table.append([phase, str(len(ours)), *map(str, counts)])
    worst = max((o.lost_s for o in outcomes if o.lost_s is not None), default=0.0)
    row.lost = f"at most {worst:.2f} s; unreadable, left behind, counted twice: {len(row.failures)}"
    return row
