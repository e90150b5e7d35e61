"""The driver, played by the stand-in: it hangs, goes away, comes back, does not support things, and talks nonsense."""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from driver.build import build
from driver.scenario import (
    GIB,
    Fault,
    Gpu,
    Process,
    Scenario,
    call_fails,
    fewer_gpus,
    field_fails,
    garbage,
    gpu_lost,
    init_hangs,
    slow,
)
from gpucost.collectors import _nvml_trial
from torture.rows import Row, side_by_side
from torture.trial import Trial, judge, tried

GARBAGE = (
    "util", "memory_util", "memory", "power", "power_average", "energy", "sm_clock", "memory_clock", "temperature", "pstate",
    "reasons", "pcie_tx", "pcie_rx", "process_pid", "process_memory", "process_sm", "process_mem",
)  # fmt: skip
NONSENSE = (0, 1, 101, 2**31 - 1, 2**32 - 1, 2**63 - 1)
NOT_SUPPORTED = 3
UNINITIALIZED = 1
FIELDS = (
    _nvml_trial._POWER_AVERAGE,
    _nvml_trial._POWER_INSTANT,
    _nvml_trial._ENERGY,
    _nvml_trial._ENERGY_BY_SCOPE,
    _nvml_trial._PCIE_SENT,
    _nvml_trial._PCIE_RECEIVED,
    *_nvml_trial._NVLINK.values(),
    *_nvml_trial._HELD_DOWN.values(),
)
"""All that a recording asks for."""

NEVER_STRUCK = {"nvmlErrorString", "nvmlInit_v2", "nvmlInitWithFlags"}


def library() -> Path:
    """The stand-in's folder.

    Raises:
        NoCompilerError: there is no C compiler.
    """
    cache = Path(tempfile.gettempdir()) / f"gpucost-torture-{os.getuid()}" / "driver"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    return build(cache)


def play(place: Path, faults: Sequence[Fault], seconds: float, **variables: str) -> Trial:
    """Record a command on two GPUs with these faults; time zero is now."""
    place.mkdir(parents=True)
    gpu = Gpu(util_pct=50, processes=[Process(pid=os.getpid(), memory_bytes=GIB, sm_util_pct=50)])
    scenario = Scenario(gpus=[gpu, Gpu()], faults=faults, epoch_mono_ns=time.monotonic_ns())
    path = scenario.write(place / "scenario")
    environ = {**os.environ, "LD_LIBRARY_PATH": str(library()), "GPUCOST_DRIVER_SCENARIO": str(path), **variables}
    return tried(place, seconds, environ=environ, options=["--gpus", "all"])


def calls_made(folder: Path) -> list[str]:
    """Every call into the driver that a recording makes."""
    log = folder / "calls"
    play(folder / "plain", [], 2.0, GPUCOST_DRIVER_CALLS=str(log))
    return sorted({line.split()[1] for line in log.read_text().splitlines()})


def hangs(folder: Path, hang_s: float, *, every: int = 1, workers: int = 4) -> Row:
    """Each call of the driver hangs once: the command neither waits for it nor for its end."""
    row = Row("driver", f"each call hangs once for {hang_s:g} s, and nvmlInit for ever")
    symbols = [symbol for symbol in calls_made(folder / "calls") if symbol not in NEVER_STRUCK][::every]
    command_s = 2.0
    cases = [(symbol, [slow(symbol, sleep_us=hang_s * 1e6, times=1)]) for symbol in symbols]
    cases.append(("nvmlInit", [init_hangs(3600)]))
    held = []
    for symbol, trial in side_by_side(lambda c: (c[0], play(folder / c[0], c[1], command_s)), cases, workers):
        judge(row, trial, symbol)
        if trial.recording is not None and trial.command_s is not None:
            held.append(trial.command_s - command_s)
            row.check(len(trial.recording.frames["machine"]) >= 2, f"{symbol}: other collectors waited")
            row.check(trial.wall_s < command_s + 12, f"{symbol}: gpucost was there for {trial.wall_s:.1f} s")
    row.check(max(held) < 1.5, f"the command was held up by {max(held):.2f} s")
    row.lost = f"the GPU's samples while it hung; the command was held up by at most {max(held):.2f} s"
    return row


def lost_and_back(folder: Path, *, workers: int = 3) -> Row:
    """A GPU falls off the bus and returns, the driver is reloaded, a GPU is no longer listed."""
    row = Row("driver", "a GPU lost and back; driver unloaded and loaded again; one GPU fewer")
    cases: dict[str, tuple[list[Fault], float]] = {
        "lost and back": ([gpu_lost(0, 1.5, 3.0)], 6.5),
        "reloaded": ([call_fails("*", UNINITIALIZED, from_s=1.5, to_s=3.0)], 6.5),
        "driver gone": ([call_fails("*", 9, from_s=1.5)], 5.0),
        "one fewer": ([fewer_gpus(1, from_s=1.5)], 5.0),
    }
    lost = []
    for what, trial in side_by_side(
        lambda c: (c[0], play(folder / c[0].replace(" ", "-"), *c[1])), cases.items(), workers
    ):
        judge(row, trial, what)
        recording = trial.recording
        if recording is None:
            continue
        util = recording.frames["gpu"].dropna(subset=["gpu_util_pct"])
        first = util[util["gpu_uuid"] == min(util["gpu_uuid"].unique())]["t_ns"] if len(util) else util["t_ns"]
        if what in ("lost and back", "reloaded"):
            row.check(len(first) and first.max() > 3.5e9, f"{what}: no reading after it was back")
            lost.append(first.diff().max() / 1e9)
        if what != "one fewer":
            row.check(trial.events() - {"tier_slowed"}, f"{what}: the run does not say it")
    row.lost = f"the time away, up to {max(lost, default=0):.1f} s for 1.5 s"
    return row


def unsupported(folder: Path, *, every: int = 1, workers: int = 4) -> Row:
    """Every call, and every field, is not supported, in turn."""
    row = Row("driver", "every call and every field not supported, in turn")
    symbols = [symbol for symbol in calls_made(folder / "calls") if symbol not in NEVER_STRUCK]
    cases = [(symbol, [call_fails(symbol, NOT_SUPPORTED)]) for symbol in symbols]
    cases += [(f"field-{number}", [field_fails(number, NOT_SUPPORTED)]) for number in FIELDS]
    dark = 0
    for what, trial in side_by_side(lambda c: (c[0], play(folder / c[0], c[1], 1.0)), cases[::every], workers):
        judge(row, trial, what)
        dark += trial.recording is not None and not len(trial.recording.frames["gpu"])
    row.lost = f"that metric; without any GPU sample: {dark} (the calls without which there is no GPU)"
    return row


def nonsense(folder: Path, *, every: int = 1, workers: int = 4) -> Row:
    """Every figure is replaced by nonsense: what cannot be is unknown, and nothing breaks."""
    row = Row("driver", "every figure replaced by 0, 1, 101, 2^31-1, 2^32-1, 2^63-1")
    cases = [(f"{what}={value}", [garbage(what, value)]) for what in GARBAGE for value in NONSENSE][::every]
    for what, trial in side_by_side(lambda c: (c[0], play(folder / c[0], c[1], 1.0)), cases, workers):
        judge(row, trial, what)
        if trial.recording is None:
            continue
        util = trial.recording.frames["gpu"]["gpu_util_pct"].dropna()
        row.check(((util >= 0) & (util <= 100)).all(), f"{what}: a utilization of {util.max():g} %")
    row.lost = "that figure"
    return row
