"""The disk: full at every write in turn, read-only, removed, slow, and one that cannot sync."""

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recording_tools import journal_lines, wait_until
from torture import shim
from torture.rows import Row, side_by_side
from torture.trial import Trial, begin, end, judge, tried

CALLS = ("write", "open", "fsync", "rename", "unlink")


def full_at_every_write(
    folder: Path, *, every: int = 1, workers: int = 4, seconds: float = 1.6, calls: tuple[str, ...] = CALLS
) -> Row:
    """A disk that is full at the first, the second, ... operation of its kind, once and from then on."""
    row = Row("disk", "full at every open, write, sync, rename and removal in turn, once and for good")
    gaps = []
    cases = []
    for call in calls:
        count = _count(folder / f"count-{call}", call, seconds)
        numbers = range(1, count + 2, every)
        row.notes.append(f"{call}: {count} in a process at most")
        cases += [(call, number, once) for number in numbers for once in (True, False)]

    def work(case: tuple[str, int, bool]) -> tuple[tuple[str, int, bool], Trial]:
        call, number, once = case
        place = folder / f"{call}-{number}-{once}"
        place.mkdir(parents=True)
        settings = {"under": place / "runs", "call": call, "first": number, "errno": errno.ENOSPC, "short": 1}
        if once:
            settings["last"] = number
        return case, tried(place, seconds, environ=shim.environment(**settings))

    for (call, number, once), trial in side_by_side(work, cases, workers):
        what = f"{call} {number}{'' if once else ' and all after it'}"
        if trial.code == 2 and trial.command_s is None:
            row.times += 1  # refused before anything was started, in a line
            row.check(trial.err.startswith("gpucost: ") and "Traceback" not in trial.err, f"{what}: {trial.err!r}")
            continue
        judge(row, trial, what, run=trial.recording is not None or call == "rename")
        if once and trial.recording is not None and number > 1:
            gaps.append(trial.gap_s())
    row.check(not gaps or max(gaps) < 2.0, f"one failure cost {max(gaps, default=0):.2f} s of samples")
    row.lost = f"failing once: no sample (longest gap {max(gaps, default=0):.2f} s); for good: what came after"
    return row


def _count(folder: Path, call: str, seconds: float) -> int:
    folder.mkdir(parents=True)
    counter = folder / "counter"
    settings = {"under": folder / "runs", "call": call, "errno": 0, "count": counter}
    tried(folder, seconds, environ=shim.environment(**settings))
    return counter.stat().st_size if counter.exists() else 0


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A file system of so many KiB.

    Raises:
        PermissionError: mounting one is not allowed here.
    """
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", folder], check=False, capture_output=True
    )
    if done.returncode:
        raise PermissionError("mounting a file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


def small_disks(folder: Path, sizes_kib: range, *, workers: int = 4) -> Row:
    """Recordings onto real file systems that are too small for them, or just large enough."""
    row = Row("disk", f"file systems of {sizes_kib.start} to {sizes_kib[-1]} KiB")

    def work(kib: int) -> tuple[int, Trial]:
        place = folder / f"small-{kib}"
        with small_disk(place / "disk", kib) as disk:
            return kib, tried(place, 2.0, runs=disk / "runs")

    try:
        done = side_by_side(work, sizes_kib, workers)
    except PermissionError as error:
        row.lost = f"skipped: {error}"
        return row
    for kib, trial in done:
        if trial.code == 2 and trial.command_s is None:
            row.times += 1
            row.check("Traceback" not in trial.err, f"{kib} KiB: {trial.err!r}")
        else:
            judge(row, trial, f"{kib} KiB", run=False)
    row.lost = "what did not fit"
    return row


def breaks_in_mid_run(folder: Path, times: int, *, workers: int = 4) -> list[Row]:
    """A disk that becomes read-only, fails, or loses the run's directory, while the command runs."""
    return [
        _broken(folder / "erofs", "read-only in mid-run, for good", errno.EROFS, times, workers, back=False),
        _broken(
            folder / "eio",
            "read-only in mid-run, and writable again a second later",
            errno.EROFS,
            times,
            workers,
            back=True,
        ),
        _removed(folder / "removed", times, workers),
    ]


def _broken(folder: Path, tried_what: str, number: int, times: int, workers: int, *, back: bool) -> Row:
    row = Row("disk", tried_what)
    gaps = []

    def work(index: int) -> Trial:
        place = folder / str(index)
        place.mkdir(parents=True)
        switch = place / "switch"
        settings = {
            "under": place / "runs",
            "call": "write,open,rename,unlink,mkdir",
            "errno": number,
            "switch": switch,
        }
        process = begin(place, 3.0, environ=shim.environment(**settings))
        wait_until(lambda: journal_lines(place / "runs") > 3 + index % 10)
        switch.touch()
        if back:
            time.sleep(1.0)
            switch.unlink()
        return end(process, place)

    for trial in side_by_side(work, range(times), workers):
        judge(row, trial, tried_what)
        gaps.append(trial.gap_s())
        if trial.recording is not None:
            row.check(len(trial.recording.frames["gpu"]) >= 3, "what had been written is gone")
            row.check(back or trial.recording.end_basis == "last_sample", "the run says that it was closed")
    row.lost = "what came after"
    if back:
        row.lost = f"nothing (longest gap {max(gaps):.2f} s)"
        row.check(max(gaps) < 1.5, f"{max(gaps):.2f} s of samples were lost")
    return row


def _removed(folder: Path, times: int, workers: int) -> Row:
    row = Row("disk", "the run's directory removed in mid-run")

    def work(index: int) -> Trial:
        place = folder / str(index)
        process = begin(place, 3.0)
        wait_until(lambda: journal_lines(place / "runs") > 3 + index % 10)
        shutil.rmtree(place / "runs", ignore_errors=True)
        return end(process, place)

    for trial in side_by_side(work, range(times), workers):
        judge(row, trial, "removed", run=False)
        row.check("gpucost: " in trial.err, f"nothing was said: {trial.err!r}")
    row.lost = "the run (its user removed it)"
    return row


def slow(
    folder: Path, stalls_s: list[float], *, workers: int = 4, calls: tuple[str, ...] = ("write", "fsync", "rename,open")
) -> Row:
    """Every write, sync and rename takes long: the command and the sampling go on, and the end waits for a bounded time."""
    row = Row("disk", f"every write, sync and rename takes {' or '.join(f'{s:g}' for s in stalls_s)} s")
    cases = [(call, stall_s) for call in calls for stall_s in stalls_s]
    gaps, slowed = [], []

    def work(case: tuple[str, float]) -> tuple[tuple[str, float], Trial]:
        call, stall_s = case
        place = folder / f"{call}-{stall_s}"
        place.mkdir(parents=True)
        switch = place / "switch"
        settings = {"under": place / "runs", "call": call, "sleep_ms": int(stall_s * 1000), "switch": switch}
        process = begin(place, 4.0, environ=shim.environment(**settings), age_s=300)
        wait_until(lambda: journal_lines(place / "runs") > 3)
        switch.touch()
        wait_until((place / "ended").exists)
        began = time.monotonic()
        trial = end(process, place)
        trial.wall_s = time.monotonic() - began
        return case, trial

    for (call, stall_s), trial in side_by_side(work, cases, workers):
        judge(row, trial, f"{call} takes {stall_s:g} s")
        missed = 0 if trial.recording is None else _missed(trial)
        gaps.append(missed)
        slowed.append((trial.command_s or 99) - 4.0)
        row.check(
            trial.wall_s < 140,
            f"{call} takes {stall_s:g} s: {trial.wall_s:.0f} s after the command gpucost was still there",
        )
    row.check(max(slowed) < 1.5, f"the command took {max(slowed):.2f} s longer")
    row.check(max(gaps) <= 10, f"{max(gaps)} ticks were missed while the disk stalled")
    row.lost = f"ticks missed by sampling: at most {max(gaps)}; the command was held up by {max(slowed):.2f} s at most"
    return row


def _missed(trial: Trial) -> int:
    recording = trial.recording
    assert recording is not None
    rows = recording.frames["recorder"]
    rows = rows[rows["collector"] == "sim"]
    return int(rows["ticks_missed"].max()) if len(rows) else 0


def cannot_sync(folder: Path, seconds: float) -> Row:
    """A disk on which fsync always fails: everything is written all the same, into a bounded number of files."""
    row = Row("disk", "fsync fails every time")
    place = folder / "fsync"
    place.mkdir(parents=True)
    settings = {"under": place / "runs", "call": "fsync", "errno": errno.EIO}
    trial = tried(place, seconds, environ=shim.environment(**settings), age_s=300)
    judge(row, trial, "fsync fails")
    row.check(trial.gap_s() < 1.5, f"a gap of {trial.gap_s():.2f} s")
    files = sum(len(names) for _, _, names in os.walk(place / "runs"))
    row.check(files < 40, f"{files} files after {seconds:g} s")
    row.lost = f"nothing (longest gap {trial.gap_s():.2f} s; {files} files)"
    return row
