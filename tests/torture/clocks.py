"""Time: a wall clock that is stepped, a recorder that is suspended, ticks that come late. What was not measured stays unknown."""

import random
import signal
import struct
import time
from pathlib import Path

import numpy as np

from gpucost.analyzers import analyze
from gpucost.analyzers.model import Settings
from gpucost.collectors.base import Tier
from gpucost.manifest import COMPLETE, Gpu, Host, Manifest
from gpucost.recorder.sampler import TierState
from gpucost.recording import Recording
from gpucost.schema import GpuRow
from gpucost.store.reader import load
from recording_tools import journal_lines, wait_until
from store.making import HOST, MONO_NS, TIME_NS, journal, make_run
from torture import shim
from torture.rows import Row, side_by_side
from torture.trial import Trial, begin, end, judge

S = 1_000_000_000
PERIOD_NS = 100_000_000
STEPS_S = (3600, -7200, 0.7, -0.7, 86400 * 400, -86400 * 400)


def clock_steps(folder: Path, steps_s: tuple[float, ...] = STEPS_S, *, workers: int = 4) -> Row:
    """The wall clock is stepped in mid-run and back again: durations, order and money are as if it had not been."""
    row = Row("time", f"wall clock stepped by {', '.join(f'{step:+g} s' for step in steps_s)}, and back")
    gaps = []

    def work(step_s: float) -> tuple[float, Trial]:
        place = folder / f"step{step_s}"
        place.mkdir(parents=True)
        clock = place / "clock"
        clock.write_bytes(struct.pack("q", 0))
        process = begin(place, 4.0, environ=shim.environment(clock=clock))
        wait_until(lambda: journal_lines(place / "runs") > 8)
        _overwrite(clock, round(step_s * S))
        time.sleep(1.5)
        _overwrite(clock, 0)
        return step_s, end(process, place)

    for step_s, trial in side_by_side(work, steps_s, workers):
        what = f"{step_s:+g} s"
        judge(row, trial, what)
        recording = trial.recording
        if recording is None or trial.command_s is None:
            continue
        row.check(
            abs(recording.end_ns / 1e9 - trial.command_s) < 0.5, f"{what}: a run of {recording.end_ns / 1e9:.2f} s"
        )
        row.check("clock_stepped" in trial.events(), f"{what}: the run does not say it")
        row.check(trial.gap_s() < 1.0, f"{what}: a gap of {trial.gap_s():.2f} s")
        gaps.append(trial.gap_s())
    row.lost = f"nothing (longest gap {max(gaps, default=0):.2f} s)"
    return row


def _overwrite(path: Path, value: int) -> None:
    """In place: the file is mapped."""
    with path.open("r+b") as file:
        file.write(struct.pack("q", value))


def suspended(folder: Path, seconds: float, times: int = 1) -> Row:
    """The recorder alone is stopped for a while: the command goes on, and the while is unknown, no more and no less."""
    row = Row("time", f"recorder suspended for {seconds:g} s (SIGSTOP, SIGCONT)")

    def work(index: int) -> Trial:
        place = folder / str(index)
        process = begin(place, seconds + 3)
        wait_until(lambda: journal_lines(place / "runs") > 8)
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        return end(process, place)

    wrong = 0.0
    for trial in side_by_side(work, range(times), 4):
        judge(row, trial, "suspended")
        if trial.recording is None or trial.command_s is None:
            continue
        row.check(trial.command_s < seconds + 4, f"the command took {trial.command_s:.1f} s")
        gap = trial.gap_s()
        row.check(gap > seconds - 0.3, f"a stop of {seconds:g} s left a gap of {gap:.2f} s")
        off = _unknown_error_s(trial.recording, row)
        row.check(off < 0.2, f"unknown differs by {off:.2f} s from the time without samples")
        wrong = max(wrong, off)
    row.lost = f"the time of the stop, as unknown (to {wrong:.2f} s)"
    return row


def _unknown_error_s(recording: Recording, row: Row) -> float:
    """By how much the ledger's unknown time differs from the holes between samples; the ledger's sum must be the run."""
    analysis = analyze(recording, Settings())
    cells = analysis.gpus
    times = np.sort(recording.frames["gpu"]["t_ns"].unique())
    holes = np.diff(times, prepend=0, append=recording.end_ns)
    expected = int((holes[holes > 1.5 * PERIOD_NS] - PERIOD_NS).sum())
    uses = [f"{use}_ns" for use in ("busy", "gap", "idle", "empty", "foreign", "unknown")]
    row.check((cells[uses].sum(axis=1) == cells["held_ns"]).all(), "the uses do not add up to the held time")
    return float(abs(cells["unknown_ns"] - expected).max()) / 1e9


def late_ticks(folder: Path, ticks: int, seed: int = 1) -> Row:
    """Ticks that come late by anything from nothing to ten periods, on an injected clock, through journal, reader and ledger."""
    row = Row("time", "ticks late by up to 10 periods (injected clock)", ticks)
    chance = random.Random(seed)
    state, now, times = TierState(Tier("t", PERIOD_NS), 0, 0), 0, []
    for _ in range(ticks):
        now = max(now, state.deadline_ns) + chance.choice([0, 0, chance.randrange(10 * PERIOD_NS)])
        state.begin(now)
        times.append(now)
    row.check(state.ticks + state.missed == state.deadline_ns // PERIOD_NS, "a deadline was neither kept nor missed")
    end_ns = now + PERIOD_NS // 2
    run = make_run(folder, end_s=end_ns / S)
    manifest = Manifest(run.name, ["x"], TIME_NS, MONO_NS, status=COMPLETE)
    writer = journal(run)
    writer.append("gpu", [GpuRow(TIME_NS + t, MONO_NS + t, "GPU-0", 50.0) for t in times])
    writer.close()
    recording = load(str(run))
    manifest.hosts, manifest.gpus = {HOST: Host(HOST, TIME_NS, MONO_NS)}, [Gpu("GPU-0", "NVIDIA H100 80GB HBM3", HOST)]
    manifest.end_time_ns, manifest.end_mono_ns = recording.manifest.end_time_ns, recording.manifest.end_mono_ns
    manifest.recorder = {"hz": 10.0}
    recording.manifest = manifest
    analysis = analyze(recording, Settings())
    known = int(analysis.gpus["held_ns"].iloc[0] - analysis.gpus["unknown_ns"].iloc[0])
    spacing = np.diff(np.array(times), prepend=-PERIOD_NS)
    most = int(np.minimum(spacing, 2 * PERIOD_NS).sum())
    row.check(
        known <= most, f"{known / 1e9:.2f} s are said to be known, and samples speak for {most / 1e9:.2f} s at most"
    )
    row.check(known >= min(len(times) * PERIOD_NS // 2, most), f"only {known / 1e9:.2f} s are known")
    unknown_s = int(analysis.gpus["unknown_ns"].iloc[0]) / 1e9
    row.lost = f"{state.missed} ticks missed and counted as such; {unknown_s:.1f} s of {end_ns / 1e9:.1f} s unknown"
    return row
