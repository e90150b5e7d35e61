"""What recording costs, side by side: `gpucost record`, the peers, and a C loop that makes the same calls (the floor).

    python benchmarks/bench_record.py [--repeats N] [--seconds S] [--long S] [--peers DIR]

All read one stand-in driver of 8 GPUs whose calls take 1 to 50 us of CPU, and record a command that holds all GPUs. Steady CPU (user and system
time of the whole tree of processes but the command) and memory (PSS) are taken between warm-up and end, so start and stop are not in
them. The contenders take turns, so that a slow moment of the machine meets all of them; read the ratios, not the milliseconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from driving import MIB, compiled, cpu_s, driver_environ, machine, pss_bytes, scenario, spread, threads, tree

GPUS = 8
WARM_UP_S = 4.0
ENDS_S = 60.0
STARTS = 9
COMMAND = "gpu-workload"  # the name of the recorded command's process, by which it is left out of its recorder's tree

RUNS = "runs"

NVITOP = """
import json, sys, time
from nvitop import Device, ResourceMetricCollector, collect_in_background
out = open("kept.jsonl", "a", buffering=1)
def keep(metrics):
    out.write(json.dumps(metrics) + "\\n")
    return True
thread = collect_in_background(keep, ResourceMetricCollector(Device.all(), interval={period}), interval={period})
time.sleep(3600)
"""
CODECARBON = """
import time
from codecarbon import OfflineEmissionsTracker
tracker = OfflineEmissionsTracker(country_iso_code="USA", measure_power_secs={period}, save_to_file=False, log_level="critical")
tracker.start()
time.sleep(3600)
"""


@dataclass(slots=True)
class Bench:
    """What every measurement needs: a folder, the driver's environment, the interpreters."""

    folder: Path
    environ: dict[str, str]
    command: list[str]
    floor: str
    peers: Path

    def script(self, name: str) -> str:
        """A program of the peers' environment."""
        return str(self.peers / "bin" / name)


@dataclass(slots=True)
class Contender:
    """One recorder.

    Attributes:
        argv: its command line at a rate, recording the command where it starts one itself.
        kept: the ending of the file to which it writes a line a tick, `RUNS` for run directories, empty for what keeps no series.
        module: of the peers' environment, without which it is not measured.
        highest_hz: it cannot be told to go faster.
    """

    name: str
    argv: Callable[[Bench, float], list[str]]
    kept: str = ""
    module: str = ""
    highest_hz: float = 100.0


@dataclass(slots=True)
class Result:
    """What was measured of one contender at one rate, one value a repeat."""

    cpu_ms: list[float] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)
    pss_mib: list[float] = field(default_factory=list)
    kept_hz: list[float] = field(default_factory=list)
    bytes_s: list[float] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)


def gpucost_argv(bench: Bench, hz: float, *options: str) -> list[str]:
    """`gpucost record`, everything on, as a user types it."""
    program = str(Path(sys.executable).with_name("gpucost"))
    return [program, "record", "--quiet", "--runs", "runs", "--hz", f"{hz:g}", *options, "--", *bench.command]


def every_call_argv(bench: Bench, hz: float) -> list[str]:
    """The same without a budget for the driver's calls: it then makes every call at every tick, as the floor does."""
    return gpucost_argv(bench, hz, "--call-budget", "100")


def gpucost_kept(folder: Path, hz: float) -> float:
    """Ticks a second of the GPU that has the fewest; deadlines are whole periods after the command's start."""
    frame = read_run(folder)
    if frame is None or frame.empty:
        return 0.0
    ticks = frame["t_ns"] // round(1e9 / hz)
    fewest = ticks.groupby(frame["gpu_uuid"], observed=False).nunique().min()
    return float(fewest) / float(ticks.max() - ticks.min() + 1) * hz


def read_run(folder: Path):  # noqa: ANN201 (a frame, whose library is loaded here)
    """The GPU table of the run in a folder."""
    from gpucost.store.reader import load

    runs = [path for path in (folder / "runs").glob("*-*") if path.is_dir()]
    return load(str(runs[0]), tables=["gpu"]).frames["gpu"] if runs else None


def lines(folder: Path, ending: str) -> int:
    """Lines so far of the files with this ending in a folder."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob(f"*{ending}") if ending and path.is_file())


CONTENDERS = [
    Contender("C loop (the floor)", lambda bench, hz: [bench.floor, f"{hz:g}", "3600"]),
    Contender("gpucost record", gpucost_argv, RUNS),
    Contender("gpucost, every call", every_call_argv, RUNS),
    Contender(
        "nvitop collector",
        lambda bench, hz: [bench.script("python"), "-c", NVITOP.format(period=1 / hz)],
        ".jsonl",
        "nvitop",
    ),
    Contender("gpustat -i (shows)", lambda bench, hz: [bench.script("gpustat"), "-i", f"{1 / hz:g}"], "", "gpustat"),
    Contender(
        "gpu-tracker -e",
        lambda bench, hz: [
            bench.script("gpu-tracker"),
            f"--execute={' '.join(bench.command)}",
            f"--st={1 / hz:g}",
            "--tf=kept.csv",
            "--disable-logs",
        ],
        ".csv",
        "gpu_tracker",
    ),
    Contender(
        "codecarbon monitor",
        lambda bench, _: [
            bench.script("codecarbon"),
            *("monitor", "--measure-power-secs", "1", "--no-api", "--offline", "--country-iso-code", "USA", "--"),
            *bench.command,
        ],
        "",
        "codecarbon",
        1.0,
    ),
    Contender(
        "codecarbon API",
        lambda bench, hz: [bench.script("python"), "-c", CODECARBON.format(period=1 / hz)],
        "",
        "codecarbon",
    ),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement")
    parser.add_argument(
        "--long", type=float, default=660.0, help="length of the one recording over several rotations; 0: none"
    )
    parser.add_argument("--hz", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"), help="a virtual environment with the peers")
    options = parser.parse_args()
    print(f"{machine()}; {GPUS} simulated GPUs; {options.repeats} repeats of {options.seconds:g} s, in turns")
    with tempfile.TemporaryDirectory() as name:
        bench = prepare(Path(name), options.peers.absolute())
        contenders = [one for one in CONTENDERS if is_there(bench, one)]
        print(f"peers: {versions(bench)}")
        for hz in options.hz:
            table(hz, compare(bench, contenders, hz, options.repeats, options.seconds))
            by_thread(bench, hz, options.seconds)
        starts(bench, contenders)
        if options.long:
            over_rotations(bench, options.long)


def prepare(folder: Path, peers: Path) -> Bench:
    """Build the driver and the floor, and the command that holds all GPUs."""
    pid_file = folder / "pid"
    sleeper = folder / COMMAND
    sleeper.write_bytes(Path("/bin/sleep").read_bytes())
    sleeper.chmod(0o700)
    holder = folder / "hold"
    holder.write_text(f"#!/bin/sh\necho $$ > {pid_file}\nexec {sleeper} 3600\n")
    holder.chmod(0o700)
    environ = driver_environ(folder, scenario(pid_file, GPUS))
    programs = folder / "bin"
    programs.mkdir()
    compiled(folder, "nvidia_smi").rename(programs / "nvidia-smi")  # some peers ask the driver through it
    environ["PATH"] = f"{programs}{os.pathsep}{environ['PATH']}"
    return Bench(folder, environ, [str(holder)], str(compiled(folder, "floor")), peers)


def is_there(bench: Bench, contender: Contender) -> bool:
    """Whether a peer is installed; says so if it is not."""
    if not contender.module:
        return True
    try:
        subprocess.run(
            [bench.script("python"), "-c", f"import {contender.module}"],
            check=True,
            capture_output=True,
            env=bench.environ,
        )
    except (OSError, subprocess.CalledProcessError):
        print(
            f"not measured: {contender.name} (no {contender.module} in {bench.peers.name}; `make bench-record` installs it)"
        )
        return False
    return True


def versions(bench: Bench) -> str:
    """The peers' versions."""
    code = (
        "from importlib.metadata import distributions as d\n"
        "wanted = {'nvitop', 'gpustat', 'codecarbon', 'gpu-tracker', 'nvidia-ml-py'}\n"
        "print(', '.join(sorted(f'{x.name} {x.version}' for x in d() if x.name in wanted)))"
    )
    try:
        done = subprocess.run([bench.script("python"), "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return done.stdout.strip()


# --- steady cost -------------------------------------------------------------------------------------------------------------------


def compare(
    bench: Bench, contenders: Sequence[Contender], hz: float, repeats: int, seconds: float
) -> dict[str, Result]:
    """Everybody in turns, so often."""
    results = {one.name: Result() for one in contenders if hz <= one.highest_hz}
    for _ in range(repeats):
        floor_ms = 0.0
        for one in contenders:
            if one.name in results:
                measure(bench, one, hz, seconds, results[one.name])
                floor_ms = floor_ms or results[one.name].cpu_ms[-1]  # the floor comes first
                results[one.name].ratio.append(results[one.name].cpu_ms[-1] / floor_ms)
    return results


def measure(bench: Bench, contender: Contender, hz: float, seconds: float, result: Result) -> None:
    """One contender once, between warm-up and end."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as name:
        folder = Path(name)
        holder = None
        argv = contender.argv(bench, hz)
        if bench.command[0] not in " ".join(argv):  # it starts no command itself: the GPUs are held all the same
            holder = subprocess.Popen(bench.command, env=bench.environ)
        process = start(argv, bench.environ, folder)
        began = time.monotonic()
        time.sleep(WARM_UP_S)
        lines_before = lines(folder, contender.kept)
        before_s, before = cpu_s(list(tree(process.pid, leave_out=COMMAND))), time.monotonic()
        pss = []
        for _ in range(4):
            time.sleep(seconds / 4)
            pss.append(pss_bytes(list(tree(process.pid, leave_out=COMMAND))))
        pids = list(tree(process.pid, leave_out=COMMAND))
        after_s, after = cpu_s(pids), time.monotonic()
        lines_after = lines(folder, contender.kept)
        stop(process, holder)
        result.cpu_ms.append((after_s - before_s) / (after - before) * 1000)
        result.pss_mib.append(max(pss) / MIB)
        result.processes.append(len(pids))
        if contender.kept:
            window_hz = (lines_after - lines_before) / (after - before)
            result.kept_hz.append(gpucost_kept(folder, hz) if contender.kept == RUNS else window_hz)
            result.bytes_s.append(size_of(folder) / (after - began))


def start(argv: list[str], environ: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """A contender in a folder and a session of its own, silent."""
    return subprocess.Popen(
        argv, cwd=folder, env=environ, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def stop(process: subprocess.Popen[bytes], holder: subprocess.Popen[bytes] | None) -> None:
    """End the recorded command, and what does not end with it."""
    for pid in set(tree(process.pid)) - set(tree(process.pid, leave_out=COMMAND)):
        os.kill(pid, 15)
    if holder is not None:
        holder.terminate()
        holder.wait()
        process.terminate()
    try:
        process.wait(ENDS_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def table(hz: float, results: dict[str, Result]) -> None:
    """Print what was measured at one rate: medians, and the least and most."""
    floor_ms = statistics.median(next(iter(results.values())).cpu_ms)
    print(
        f"\n{hz:g} Hz{'CPU ms a second':>36}{'x floor':>20}{'PSS MiB':>20}{'ticks kept a second':>22}{'bytes a second':>18}{'processes':>11}"
    )
    for name, one in results.items():
        kept = spread(one.kept_hz, 2) if one.kept_hz else "-"
        size = f"{statistics.median(one.bytes_s):,.0f}" if one.bytes_s else "-"
        print(
            f"{name:<20}{spread(one.cpu_ms):>20}{spread(one.ratio, 2):>20}{spread(one.pss_mib):>20}{kept:>22}{size:>18}"
            f"{statistics.median(one.processes):>11g}"
        )
    print(
        f"{'target for gpucost':<20}{f'{1.5 * floor_ms + 5:.1f} (1.5 x floor + 5)':>28}{'':>12}{'40.0':>20}{f'{hz:.2f}':>22}"
    )


def by_thread(bench: Bench, hz: float, seconds: float) -> None:
    """Where the recorder's time goes: one recording beside one floor, by the scheduler's account of every thread."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as name:
        recorder = start(gpucost_argv(bench, hz), bench.environ, Path(name))
        floor = start([bench.floor, f"{hz:g}", "3600"], bench.environ, Path(name))
        time.sleep(WARM_UP_S)
        before, began = threads(recorder.pid) | threads(floor.pid), time.monotonic()
        time.sleep(seconds)
        after, took = threads(recorder.pid) | threads(floor.pid), time.monotonic() - began
        stop(recorder, None)
        floor.kill()
        floor.wait()
    print(f"\nwhere gpucost's time goes at {hz:g} Hz, by its threads")
    for thread, (cpu_ms, wakeups) in after.items():
        cpu_before, wakeups_before = before.get(thread, (0.0, 0))
        print(
            f"  {thread:<18}{(cpu_ms - cpu_before) / took:>8.2f} ms a second{(wakeups - wakeups_before) / took:>8.1f} wake-ups a second"
        )


# --- start-up ----------------------------------------------------------------------------------------------------------------------


def starts(bench: Bench, contenders: Sequence[Contender]) -> None:
    """From typing to the recorded command's first instruction, for those that start one; and to the first reading for a plain loop."""
    stamp = bench.folder / "started"
    command = [str(compiled(bench.folder, "stamp")), str(stamp)]
    cases = {"the command alone": command}
    for one in contenders:
        argv = one.argv(bench, 1.0)
        if argv[-len(bench.command) :] == bench.command:
            cases[one.name] = [*argv[: -len(bench.command)], *command]
        elif f"--execute={' '.join(bench.command)}" in argv:
            cases[one.name] = [argv[0], f"--execute={' '.join(command)}", "--disable-logs"]
    found: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(STARTS + 1):
        for name, argv in cases.items():
            with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
                stamp.unlink(missing_ok=True)
                began = time.monotonic_ns()
                start(argv, bench.environ, Path(folder)).wait()
                if turn and stamp.exists():  # the first turn fills caches
                    found[name].append((int(stamp.read_text()) - began) / 1e6)
    print(f"\nfrom typing to the command's first instruction, ms ({STARTS} starts; target 100)")
    for name, values in found.items():
        print(f"{name:<20}{spread(values):>24}")


# --- over rotations ----------------------------------------------------------------------------------------------------------------


def over_rotations(bench: Bench, seconds: float) -> None:
    """One recording at 10 Hz that is long enough to be rotated and sealed while it runs."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as name:
        folder = Path(name)
        process = start(gpucost_argv(bench, 10.0), bench.environ, folder)
        time.sleep(WARM_UP_S)
        before_s, before = cpu_s(list(tree(process.pid, leave_out=COMMAND))), time.monotonic()
        sampler, whole, processes = [], [], []
        while time.monotonic() - before < seconds:
            time.sleep(1.0)
            pids = list(tree(process.pid, leave_out=COMMAND))
            sampler.append(pss_bytes([process.pid]))
            whole.append(pss_bytes(pids))
            processes.append(len(pids))
        after_s, after = cpu_s(list(tree(process.pid, leave_out=COMMAND))), time.monotonic()
        stop(process, None)
        frame = read_run(folder)
        (run,) = [path for path in (folder / "runs").glob("*-*") if path.is_dir()]
        parts = sum(path.stat().st_size for path in run.glob("host=*/gpu/*.parquet"))
        recorder = json.loads((run / "run.json").read_text())
        print(f"\none recording of {seconds:g} s at 10 Hz, sealed while it ran ({recorder['status']})")
        print(f"  CPU, sealing included         {(after_s - before_s) / (after - before) * 1000:.1f} ms a second")
        print(f"  PSS of the sampling process   {max(sampler) / MIB:.1f} MiB at most, {sampler[0] / MIB:.1f} at first")
        sealing = sum(count > min(processes) for count in processes)
        print(f"  PSS of all while sealing      {max(whole) / MIB:.1f} MiB at most, for {sealing} s of {seconds:g}")
        print(
            f"  sealed                        {parts / len(frame):.1f} bytes a GPU-tick (target 25), {size_of(run) / (after - before):,.0f} bytes a second in all"
        )
        print(f"  ticks kept                    {gpucost_kept(folder, 10.0):.3f} a second")


if __name__ == "__main__":
    main()
