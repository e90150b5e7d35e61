"""Scale, on an injected clock: days of recording, many GPUs, many processes, many stages."""

import json
import os
import resource
import shutil
import time
from pathlib import Path

from gpucost import rundir
from gpucost.collectors import _proc
from gpucost.marks import LineBuffer, MarkReader
from gpucost.schema import EventRow, GpuRow
from gpucost.store.journal import JournalWriter
from gpucost.store.reader import load
from gpucost.store.seal import seal_run
from store.making import HOST, MONO_NS, TIME_NS, Clock, files_of, make_run
from torture.rows import Row
from torture.trial import judge, tried

S = 1_000_000_000
FLUSH_NS = S // 2


def days(folder: Path, hours: float, *, gpus: int = 2, hz: float = 1.0) -> Row:
    """Hours of simulated time through journal, rotation, sealing and compaction, with the recorder's own settings."""
    row = Row("scale", f"{hours:g} hours of simulated time, {gpus} GPUs at {hz:g} Hz")
    run, clock = make_run(folder), Clock()
    writer = JournalWriter(rundir.journal_dir(str(run), HOST), "days", clock)
    ticks, period_ns, most_files, memory = round(hours * 3600 * hz), round(S / hz), 0, []
    for tick in range(ticks):
        clock.now_ns = MONO_NS + tick * period_ns
        at = TIME_NS + tick * period_ns
        writer.append(
            "gpu", [GpuRow(at, clock.now_ns, f"GPU-{i}", float(tick % 101), power_w=300.0 + i) for i in range(gpus)]
        )
        if tick % round(10 * hz) == 0:
            writer.append("event", [EventRow(at, clock.now_ns, "tick", "test", str(tick), "x")])
            writer.flush()
        if writer.due():
            writer.rotate()
            most_files = max(most_files, len(files_of(run)))
            seal_run(str(run), HOST)
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    writer.close()
    seal_run(str(run), HOST, final=True)
    found = load(str(run), tables=["gpu"])
    rows = len(found.frames["gpu"])
    row.times = ticks
    row.check(
        rows == ticks * gpus and not {p.code for p in found.problems} - {"not_closed"},
        f"{rows} rows of {ticks * gpus}; {found.problems}",
    )
    row.check(most_files < 100, f"{most_files} files at most")
    half = memory[len(memory) // 2] if memory else 0
    row.check(not memory or memory[-1] - half < 64, f"memory grew from {half} to {memory[-1]} MiB in the second half")
    size = sum(path.stat().st_size for path in run.rglob("*.parquet"))
    grown = memory[-1] - half if memory else 0
    row.lost = f"nothing: {rows} rows; at most {most_files} files; memory +{grown} MiB in the second half; {size / max(1, rows):.1f} bytes a row"
    return row


def many_gpus(folder: Path, seconds: float) -> Row:
    """64 simulated GPUs."""
    row = Row("scale", f"64 simulated GPUs for {seconds:g} s at 10 Hz")
    trial = tried(folder, seconds, options=["--gpus", "sim:h100:64"], age_s=300)
    judge(row, trial, "64 GPUs")
    if trial.recording is not None:
        gpu = trial.recording.frames["gpu"]
        row.check(gpu["gpu_uuid"].nunique() == 64, "a GPU is missing")
        rows = trial.recording.frames["recorder"]
        mine = rows[rows["collector"] == "sim"]
        missed = int(mine["ticks_missed"].max()) if len(mine) else 0
        ticks = int(mine["ticks"].max()) if len(mine) else 0
        row.lost = f"{missed} ticks missed, {ticks} kept"
        row.check(missed <= max(3, ticks // 20), row.lost)
    return row


def many_processes(folder: Path, count: int) -> Row:
    """A host with so many processes, of which the tree has 100: a pass reads the tree, not the host."""
    row = Row("scale", f"{count} processes on the host, 100 in the tree", count)
    folder.mkdir(parents=True)
    for pid in range(1, count + 1):
        inside = pid > count - 100
        ppid = 2 if inside else 1
        (folder / str(pid)).mkdir()
        (folder / str(pid) / "stat").write_text(
            f"{pid} (p {pid}) S {ppid} 0 0 0 -1 0 0 0 0 0 7 3 0 0 20 0 1 0 {pid} 0 50 0\n"
        )
    reads: list[str] = []

    class Counting(_proc.Proc):
        def read(self, name: str, limit: int = 4096) -> bytes | None:
            reads.append(name)
            return super().read(name, limit)

    tree = _proc.Tree(2, proc=Counting(str(folder)))
    first = tree.refresh()
    reads.clear()
    began = time.process_time()
    passes = 20
    for _ in range(passes):
        again = tree.refresh()
    cost_ms = (time.process_time() - began) / passes * 1000
    each = len(reads) / passes
    row.check(len(first) == len(again) == 100, f"{len(first)}, then {len(again)} processes of 100")
    row.check(each < 100 + count / 4, f"a pass reads {each:.0f} processes")
    row.lost = f"nothing: a pass reads {each:.0f} processes in {cost_ms:.1f} ms of CPU"
    shutil.rmtree(folder)
    return row


def many_stages(folder: Path, count: int) -> Row:
    """So many stages, nested and side by side, through the mark reader, and as a stage file read after a crash."""
    row = Row("scale", f"{count} stages", count)
    run = make_run(folder)
    lines = []
    for number in range(count):
        at = TIME_NS + number * 1000
        start = {
            "event": "start",
            "id": f"s{number}",
            "name": f"n{number % 50}",
            "parent": f"s{number - 1}" if number % 5 else None,
            "pid": os.getpid(),
        }
        lines += [
            {**start, "time_ns": at, "mono_ns": at - TIME_NS + MONO_NS},
            {"event": "end", "id": f"s{number}", "time_ns": at + 500, "mono_ns": at + 500 - TIME_NS + MONO_NS},
        ]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    buffer, reader = LineBuffer(), MarkReader()
    spans = [reader.feed(line, TIME_NS, MONO_NS) for line in buffer.push(data)]
    row.check(sum(span is not None for span in spans) == count and not reader.problems, f"{reader.problems}")
    Path(rundir.stage_file(str(run), HOST)).write_bytes(data)
    found = load(str(run), tables=["stage"]).frames["stage"]
    row.check(len(found) == count and found["stage_id"].is_unique, f"{len(found)} stages")
    row.lost = "nothing"
    return row
