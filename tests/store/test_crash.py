"""A recorder that is killed: what it had flushed is there, in order, and nothing else is."""

import random
import subprocess
import sys
import time

from gpucost.store.reader import load
from gpucost.store.recover import recover
from store.making import HOST, TIME_NS, make_run

KILLS = 24

RECORDER = """
import sys
from gpucost import rundir
from gpucost.clock import SystemClock
from gpucost.schema import EventRow, GpuRow
from gpucost.store.journal import JournalWriter

run, host = sys.argv[1:3]
lock = rundir.hold_lock(rundir.lock_file(run, host))
writer = JournalWriter(rundir.journal_dir(run, host), "w", SystemClock(), max_bytes=20_000)
start_time_ns, start_mono_ns = int(sys.argv[3]), int(sys.argv[4])
for tick in range(100_000):
    at = tick * 1000
    rows = [GpuRow(start_time_ns + at, start_mono_ns + at, f"GPU-{index}", float(tick % 100)) for index in range(8)]
    writer.append("gpu", rows)
    if tick % 3 == 0:
        writer.append("event", [EventRow(start_time_ns + at, start_mono_ns + at, "tick", "test", str(tick), "x" * 200)])
    writer.flush()
    if writer.due():
        writer.rotate()
    print(tick, flush=True)
"""


def test_a_recorder_killed_at_any_moment_loses_nothing_that_it_had_flushed(tmp_path):
    chance = random.Random(17)
    for number in range(KILLS):
        run = make_run(tmp_path / str(number))
        manifest = load(str(run)).manifest
        arguments = [str(run), HOST, str(TIME_NS), str(manifest.start_mono_ns)]
        with subprocess.Popen([sys.executable, "-c", RECORDER, *arguments], stdout=subprocess.PIPE) as recorder:
            for _ in range(chance.choice([1, 1, 2, 5, 20, 100, 300])):
                recorder.stdout.readline()
            assert load(str(run)).live
            time.sleep(chance.uniform(0, 0.002))
            recorder.kill()
            told = [int(line) for line in recorder.stdout.read().split()]
        flushed = told[-1] if told else 0
        for attempt in ("as it lies", "recovered"):
            found = load(str(run))
            assert not found.live, attempt
            times = found.frames["gpu"].groupby("t_ns").size()
            # The last tick may have been cut off between two of its rows, or between its tables.
            assert list(times.index) == [tick * 1000 for tick in range(len(times))]
            assert (times.iloc[:-1] == 8).all()
            assert len(times) - 1 >= flushed
            assert list(found.frames["event"]["subject"]) == [
                str(3 * tick) for tick in range(len(found.frames["event"]))
            ]
            assert len(found.frames["event"]) >= flushed // 3 + 1
            assert sum(problem.count for problem in found.problems if problem.code == "torn_line") <= 2
            if number % 4:
                break
            recover(str(run))
