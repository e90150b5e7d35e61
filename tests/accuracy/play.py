"""Plays one scenario to a collector, and to a plain polling loop, on a clock that this script moves; prints figures against the truth.

Run by `suite.py` with the stand-in driver in `LD_LIBRARY_PATH`. Nothing sleeps and nothing depends on the machine: the same scenario gives
the same figures.
"""

import dataclasses
import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from accuracy.scenarios import BEGIN_S, PIDS, PLAYS, Play
from driver.scenario import NS, Gpu, Process, Scenario, ns
from gpucost.analyzers import analyze
from gpucost.collectors.base import Context
from gpucost.collectors.nvml import FAST, PROCESSES, SAMPLES, NvmlCollector
from gpucost.manifest import Gpu as ManifestGpu
from gpucost.manifest import Manifest
from gpucost.recording import ProblemLog, Recording
from gpucost.schema import TABLES
from gpucost.store.frames import FrameBuilder
from gpucost.store.parquet import rows_to_arrow

BEGIN_NS = ns(BEGIN_S)
JITTER_NS = 3_000_000
UTC_NS = 1_700_000_000 * NS


class Clock:
    """The driver's clock and the recorder's, moved by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(struct.pack("q", BEGIN_NS))
        self.now_ns = BEGIN_NS

    def move(self, t_ns: int) -> None:
        """Set the time; the driver has the file mapped, so it is written in place."""
        self.now_ns = t_ns
        with self.path.open("r+b") as file:
            file.write(struct.pack("q", t_ns))

    def mono_ns(self) -> int:
        return self.now_ns

    def time_ns(self) -> int:
        return UTC_NS + self.now_ns


def instants(play: Play, hz: float) -> list[tuple[int, str]]:
    """When which tier is sampled: on the grid, a little late as in life, never while the recorder is away, and once more at the end."""
    lot, end = random.Random(f"{play.name} {hz}"), BEGIN_NS + ns(play.seconds)
    found = []
    for order, (tier, rate) in enumerate(((PROCESSES, min(hz, 1)), (FAST, hz), (SAMPLES, min(hz, 1)))):
        count = round(play.seconds * rate)
        times = [BEGIN_NS + round(k * NS / rate) + lot.randrange(JITTER_NS) for k in range(count)]
        found += [(t, order, tier) for t in times if not _is_away(play, t)] + [(end, order, tier)]
    return [(t, tier) for t, _, tier in sorted(found)]


def _is_away(play: Play, t_ns: int) -> bool:
    return play.away is not None and play.away[0] <= (t_ns - BEGIN_NS) / NS < play.away[1]


def with_pids(play: Play, pids: dict[int, int]) -> list[Gpu]:
    """The GPUs with real processes on them."""

    def real(processes: Any) -> list[Process]:
        return [dataclasses.replace(one, pid=pids[one.pid]) for one in processes]

    return [
        dataclasses.replace(
            gpu,
            processes=real(gpu.processes),
            migs=[dataclasses.replace(mig, processes=real(mig.processes)) for mig in gpu.migs],
        )
        for gpu in play.gpus
    ]


def record(play: Play, hz: float, clock: Clock) -> tuple[Recording, list[str]]:
    """Let the collector see the scenario, and make a recording of what it emitted."""
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
    facts: dict[str, Any] = {}
    events: list[str] = []
    collector = NvmlCollector()
    context = Context(
        clock=clock,
        emit=lambda table, row: rows[table].append(row),
        report=lambda kind, message, subject=None: events.append(kind),
        describe=facts.__setitem__,
        root_pid=os.getpid(),
        command_pid=0,
        hz=hz,
        gpus="all",
        bill="visible",
        environ={},
        stage_file="",
    )
    collector.start(context)
    tiers = {PROCESSES, FAST, SAMPLES}
    for t_ns, tier in instants(play, hz):
        clock.move(t_ns)
        if tier in tiers:
            collector.sample(tier)
    collector.stop()
    manifest = Manifest(run_id="accuracy", command=["x"], start_time_ns=UTC_NS + BEGIN_NS, start_mono_ns=BEGIN_NS)
    manifest.gpus = [ManifestGpu(**one) for one in facts["gpus"]]
    manifest.recorder = {"hz": hz, "sensor_periods_ns": facts.get("sensor_periods_ns", {})}
    frames = {}
    for name, table in TABLES.items():
        builder = FrameBuilder(table)
        builder.add(rows_to_arrow(table, rows[name]), "host", -BEGIN_NS)
        frames[name] = builder.frame(ProblemLog())
    return Recording(manifest, frames, ns(play.seconds)), events


def naive(play: Play, hz: float, clock: Clock) -> list[dict[str, float]]:
    """What a loop over the binding's plain calls makes of the same GPUs: each reading stands for the time since the one before."""
    import pynvml

    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    sums = [{"busy_s": 0.0, "energy_j": 0.0} for _ in handles]
    before = BEGIN_NS
    for t_ns, tier in instants(play, hz):
        if tier != FAST:
            continue
        clock.move(t_ns)
        for handle, found in zip(handles, sums, strict=True):
            try:
                found["energy_j"] += pynvml.nvmlDeviceGetPowerUsage(handle) / 1000 * (t_ns - before) / NS
                found["busy_s"] += pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100 * (t_ns - before) / NS
            except pynvml.NVMLError:
                continue
        before = t_ns
    return sums


def figures(play: Play, gpus: list[Gpu], recording: Recording) -> dict[str, Any]:
    """Ours, and the truth over the time that we say we know."""
    analysis = analyze(recording)
    end = ns(play.seconds)
    ours: dict[str, Any] = {
        "busy_s": 0.0,
        "true_busy_s": 0.0,
        "energy_j": 0.0,
        "true_energy_j": 0.0,
        "unknown_s": 0.0,
        "edge_s": 0.0,
    }
    whole = [gpu.uuid for gpu in recording.manifest.gpus if gpu.mig_parent_uuid is None]
    for index, uuid in enumerate(uuid for uuid in whole if uuid in analysis.gpus.index):
        truth, row = gpus[index], analysis.gpus.loc[uuid]
        ours["busy_s"] += row["busy_ns"] / NS
        ours["true_busy_s"] += sum(
            truth.busy_seconds(BEGIN_NS + a, BEGIN_NS + b) for a, b in known(analysis, uuid, end)
        )
        ours["unknown_s"] += row["unknown_ns"] / NS
        energy = float(analysis.energy_gpus.loc[uuid, "energy_j"])
        ours["energy_j"] += energy
        ours["true_energy_j"] += truth.energy_j(BEGIN_NS, BEGIN_NS + end)
    ours["naive_true_busy_s"] = sum(gpu.busy_seconds(BEGIN_NS, BEGIN_NS + end) for gpu in gpus)
    idle = analysis.idle_intervals
    own = (idle["gpu_uuid"] == recording.manifest.gpus[0].uuid) & (idle["use"] == "idle")
    starts = [start / NS for start in idle.loc[own, "start_ns"].tolist()]
    errors = [min((abs(start - edge) for start in starts), default=play.seconds) for edge in play.edges]
    ours["edge_s"] = max(errors, default=None)
    return ours


def known(analysis: Any, uuid: str, end_ns: int) -> Iterator[tuple[int, int]]:
    """The stretches of a GPU's time that are not unknown."""
    unknown = analysis.unknown_intervals
    before = 0
    for start, end in unknown.loc[unknown["gpu_uuid"] == uuid, ["start_ns", "end_ns"]].itertuples(index=False):
        yield before, int(start)
        before = int(end)
    yield before, end_ns


def shares(recording: Recording, pids: dict[int, int]) -> tuple[float, int]:
    """The first process's share of the activity, and how many samples it rests on."""
    frame = recording.frames["gpu_process"]
    activity = {pid: float((rows["sm_util_pct"].fillna(0)).sum()) for pid, rows in frame.groupby("pid")}
    samples = int(frame["util_samples"].fillna(0).sum())
    total = sum(activity.values())
    return (activity.get(pids[PIDS[0]], 0.0) / total if total else float("nan")), samples


def mig_activity(recording: Recording) -> dict[str, float]:
    """Mean true activity of every MIG device, weighted by its windows."""
    frame = recording.frames["gpu"].dropna(subset=["sm_active_pct"])
    weight = frame["activity_window_ns"].astype(float)
    sums = (frame["sm_active_pct"] * weight).groupby(frame["gpu_uuid"].astype(str)).sum()
    return {
        str(uuid): float(value) for uuid, value in (sums / weight.groupby(frame["gpu_uuid"].astype(str)).sum()).items()
    }


def main(name: str, rate: str, folder: str) -> None:
    """Play a scenario and print what came out."""
    play = next(one for one in PLAYS if one.name == name)
    hz, place = float(rate), Path(folder)
    clock = Clock(place / "clock")
    children = [subprocess.Popen(["cat"], stdin=subprocess.PIPE) for _ in PIDS]
    pids = {stand_in: child.pid for stand_in, child in zip(PIDS, children, strict=True)}
    gpus = with_pids(play, pids)
    scenario = Scenario(gpus=gpus, faults=play.faults, clock_file=place / "clock")
    scenario.write(Path(os.environ["GPUCOST_DRIVER_SCENARIO"]))
    recording, events = record(play, hz, clock)
    found = figures(play, gpus, recording)
    share, samples = shares(recording, pids)
    found |= {"share": share, "share_samples": samples, "events": events, "mig": mig_activity(recording)}
    clock.move(BEGIN_NS)
    found["naive"] = {key: sum(one[key] for one in naive(play, hz, clock)) for key in ("busy_s", "energy_j")}
    found["instants"] = [t for t, tier in instants(play, hz) if tier == FAST]
    print(json.dumps(found))
    for child in children:
        child.communicate()


if __name__ == "__main__":
    main(*sys.argv[1:])
