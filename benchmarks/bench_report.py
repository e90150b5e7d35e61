"""What a report costs: a day of 8 GPUs at 10 Hz (6.9 million rows, and half as many of the driver's own samples), and two days of the same.

    python benchmarks/bench_report.py [--hours H] [--repeats N] [--cpus N]

The recordings are made up and written as a recorder's sealer would have left them. `gpucost report` runs in a process of its own, bound to
so many CPUs; its time is the wall's, its memory the peak that the kernel saw. The two lengths take turns.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from driving import MIB, machine, spread

from gpucost import rundir
from gpucost.manifest import COMPLETE, Gpu, Host, Manifest
from gpucost.schema import TABLES
from gpucost.store.manifest_io import write_manifest
from gpucost.store.parquet import write_part
from gpucost.store.seal import seal_run

GPUS = 8
HZ = 10
SAMPLE_HZ = 5
STAGES = 200
START_NS = 1_764_000_000_000_000_000
BOOT_NS = 5_000_000_000_000
WRITER = "benchmark"
NS = 1_000_000_000
HOUR_S = 3600
SEGMENTS_AN_HOUR = 12
PIDS = (4001, 4002, 4003)


def main() -> None:
    """Make the recordings, report on them, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args()
    cpus = set(sorted(os.sched_getaffinity(0))[: options.cpus])
    print(f"{machine()}; bound to {len(cpus)} of them; pyarrow {pa.__version__}, numpy {np.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        runs = {hours: make_run(Path(folder), hours) for hours in (options.hours, 2 * options.hours)}
        found: dict[int, list[tuple[float, float, float]]] = {hours: [] for hours in runs}
        for turn in range(options.repeats + 1):
            for hours, run in runs.items():
                figures = report(run, cpus)
                if turn:  # the first turn fills caches
                    found[hours].append(figures)
    for hours, figures in found.items():
        rows = hours * HOUR_S * HZ * GPUS
        seconds, cpu, memory = zip(*figures, strict=True)
        print(
            f"{hours:>3} h, {rows / 1e6:.1f} million rows: {spread(seconds, 2)} s, {spread(cpu, 2)} s of CPU, {spread(memory, 0)} MiB at most"
        )
    short, long = found.values()
    for what, which in (("as long", 0), ("as much CPU", 1)):
        ratios = [two[which] / one[which] for one, two in zip(short, long, strict=True)]
        print(f"twice as long a run takes {spread(ratios, 2)} times {what}")
    seconds_short = statistics.median(seconds for seconds, _, _ in short)
    print(f"targets at 24 h: 5 s, {1.5e9 / MIB:.0f} MiB, 2.2 times; reached: {seconds_short:.2f} s")


def report(run: Path, cpus: set[int]) -> tuple[float, float, float]:
    """Seconds of one `gpucost report` by the clock and of CPU, and its peak memory in MiB."""
    program = str(Path(sys.executable).with_name("gpucost"))
    began = time.monotonic()
    process = subprocess.Popen(
        [program, "report", str(run), "--price", "2.50"],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),  # noqa: PLW1509 (there is one thread)
    )
    _, status, usage = os.wait4(process.pid, 0)
    took = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("gpucost report failed")
    return took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / MIB


# --- a made-up recording -----------------------------------------------------------------------------------------------------------


def make_run(folder: Path, hours: int) -> Path:
    """A run of so many hours, every table of it, sealed and compacted."""
    began = time.monotonic()
    host = "node1"
    run = Path(rundir.create(str(folder), rundir.new_run_id(START_NS), host))
    write_manifest(str(run), manifest(run.name, host, hours))
    host_folder = Path(rundir.host_dir(str(run), host))
    random = np.random.default_rng(7)
    state = [GpuState(random) for _ in range(GPUS)]
    for hour in range(hours):
        seqs = (hour * SEGMENTS_AN_HOUR + 1, (hour + 1) * SEGMENTS_AN_HOUR)
        for name, columns in hour_of_rows(hour, state, random):
            write_part(str(host_folder / name), TABLES[name], WRITER, seqs, [as_table(name, columns)], [])
    for final in (False, True):  # as while it ran, and as at its end
        seal_run(str(run), host, final=final)
    parts = list((host_folder / "gpu").glob("*.parquet"))
    size, rows = sum(part.stat().st_size for part in parts), hours * HOUR_S * HZ * GPUS
    print(
        f"made {hours} h in {time.monotonic() - began:.0f} s: {size / rows:.1f} bytes a GPU-tick in {len(parts)} parts"
    )
    return run


def manifest(run_id: str, host: str, hours: int) -> Manifest:
    """What the recorder would have written of it."""
    end = hours * HOUR_S * NS
    return Manifest(
        run_id=run_id,
        status=COMPLETE,
        command=["python", "train.py"],
        start_time_ns=START_NS,
        start_mono_ns=BOOT_NS,
        end_time_ns=START_NS + end,
        end_mono_ns=BOOT_NS + end,
        exit_code=0,
        hosts={host: Host(host, START_NS, BOOT_NS)},
        gpus=[
            Gpu(
                uuid(index),
                "NVIDIA H100 80GB HBM3",
                host=host,
                index=index,
                memory_total_bytes=80 << 30,
                memory_reserved_bytes=512 << 20,
                power_limit_w=700.0,
            )
            for index in range(GPUS)
        ],
        recorder={"hz": HZ, "collectors": ["nvml", "process", "machine", "stages", "recorder"]},
    )


def uuid(index: int) -> str:
    """UUID of a GPU."""
    return f"GPU-{index:08x}-5eed-4000-8000-{index:012x}"


class GpuState:
    """What grows from hour to hour."""

    def __init__(self, random: np.random.Generator) -> None:
        self.energy_mj = int(random.integers(10**9, 10**11))
        self.tx_bytes = int(random.integers(10**9, 10**12))
        self.rx_bytes = int(random.integers(10**9, 10**12))


def times(hour: int, hz: float, lag_ns: np.ndarray) -> dict[str, np.ndarray]:
    """Both times of the ticks of an hour, a little after their deadlines."""
    count = round(HOUR_S * hz)
    mono = hour * HOUR_S * NS + (np.arange(count) * round(NS / hz)) + lag_ns
    return {"time_ns": START_NS + mono, "mono_ns": BOOT_NS + mono}


def hour_of_rows(
    hour: int, state: list[GpuState], random: np.random.Generator
) -> Iterator[tuple[str, dict[str, object]]]:
    """Every table's rows of an hour, as columns."""
    yield "gpu", joined([gpu_rows(hour, index, one, random) for index, one in enumerate(state)])
    yield "gpu_sample", joined([gpu_sample_rows(hour, index, random) for index in range(GPUS)])
    yield "gpu_process", joined([gpu_process_rows(hour, index, random) for index in range(GPUS)])
    yield "process", joined([process_rows(hour, pid, random) for pid in PIDS])
    yield "machine", machine_rows(hour, random)
    yield (
        "recorder",
        joined([recorder_rows(hour, name, random) for name in ("recorder", "nvml", "process", "machine", "stages")]),
    )
    if hour == 0:
        yield "stage", stage_rows(random)


def joined(pieces: list[dict[str, object]]) -> dict[str, object]:
    """One set of columns out of several."""
    return {name: np.concatenate([np.asarray(piece[name]) for piece in pieces]) for name in pieces[0]}


def gpu_rows(hour: int, index: int, state: GpuState, random: np.random.Generator) -> dict[str, object]:
    """One GPU: steps of training with a pause after each, at times a checkpoint, an idle stretch in every hour."""
    count = HOUR_S * HZ
    lag_ns = random.integers(60_000, 400_000, count) + index * 200_000
    second = np.arange(count) / HZ
    working = (second % 300 < 270) & (second % 7 < 6.2)
    util = np.where(
        working, random.integers(88, 101, count), np.where(second % 300 < 270, random.integers(0, 30, count), 0)
    )
    milliwatts = np.where(working, 640_000, 110_000) + random.integers(-25_000, 25_000, count)
    averaged = np.convolve(milliwatts, np.ones(HZ) / HZ, mode="same").astype(np.int64)
    energy = state.energy_mj + np.cumsum(milliwatts // HZ)
    sent, received = (
        np.cumsum(working * random.integers(1 << 20, 1 << 24, count)),
        np.cumsum(working * random.integers(1 << 20, 1 << 26, count)),
    )
    columns = {
        **times(hour, HZ, lag_ns),
        "gpu_uuid": np.full(count, uuid(index)),
        "gpu_util_pct": util.astype(float),
        "memory_util_pct": (util * 0.4).astype(int).astype(float),
        "memory_used_bytes": (60 << 30) + (second // 60).astype(np.int64) * (2 << 20),
        "power_w": milliwatts / 1000,
        "power_average_w": averaged / 1000,
        "energy_j": energy / 1000,
        "sm_clock_mhz": np.where(working, 1980 - 15 * random.integers(0, 6, count), 1980),
        "memory_clock_mhz": np.full(count, 2619),
        "temperature_c": 48 + (18 * (averaged / 700_000)).astype(int),
        "pstate": np.zeros(count, int),
        "clocks_event_reasons": np.where(working, 4 * random.integers(0, 2, count), 1),
        "pcie_tx_bytes": state.tx_bytes + sent,
        "pcie_rx_bytes": state.rx_bytes + received,
        **{name: np.where(np.arange(count) % HZ == 0, 1.0, np.nan) for name in ("processes", "run_processes")},
        **once_a_second(hour, count),
        **activity(working, random),
    }
    state.energy_mj, state.tx_bytes, state.rx_bytes = (
        int(energy[-1]),
        state.tx_bytes + int(sent[-1]),
        state.rx_bytes + int(received[-1]),
    )
    return columns


def once_a_second(hour: int, count: int) -> dict[str, object]:
    """What the recorder asks for once a second: time in which the clocks were held down, and the link."""
    asked = np.arange(count) % HZ == 0
    grown = (hour * count + np.arange(count)) * (NS // HZ)
    shares = {
        "sw_power_cap_ns": 0.4,
        "sw_thermal_ns": 0.01,
        "hw_thermal_ns": 0,
        "hw_power_brake_ns": 0,
        "sync_boost_ns": 0,
    }
    held = {name: np.where(asked, (grown * share).astype(np.int64), np.nan) for name, share in shares.items()}
    return {**held, "pcie_link_gen": np.where(asked, 5, np.nan), "pcie_link_width": np.where(asked, 16, np.nan)}


def activity(working: np.ndarray, random: np.random.Generator) -> dict[str, object]:
    """What the performance monitor says, in windows of two ticks."""
    ends = np.arange(len(working)) % 2 == 1
    names = (
        "sm_active_pct",
        "sm_occupancy_pct",
        "tensor_active_pct",
        "fp32_active_pct",
        "fp64_active_pct",
        "dram_active_pct",
    )
    rates = {name: np.where(ends, working * random.integers(20, 90, len(working)), np.nan) for name in names}
    return {"activity_window_ns": np.where(ends, 2 * NS // HZ, np.nan), **rates}


def gpu_sample_rows(hour: int, index: int, random: np.random.Generator) -> dict[str, object]:
    """What the driver kept of one GPU's utilization: a sample every fifth of a second, by the driver's own clock."""
    lag_ns = np.full(round(HOUR_S * SAMPLE_HZ), index * 7_000_000)
    sample = np.arange(len(lag_ns))
    second = sample / SAMPLE_HZ
    working = (second % 300 < 270) & (second % 7 < 6.2)
    util = np.where(working, random.integers(88, 101, len(sample)), 0).astype(float)
    return {
        **times(hour, SAMPLE_HZ, lag_ns),
        "gpu_uuid": np.full(len(sample), uuid(index)),
        "gpu_util_pct": util,
        "memory_util_pct": (util * 0.4).astype(int).astype(float),
    }


def gpu_process_rows(hour: int, index: int, random: np.random.Generator) -> dict[str, object]:
    """The process that holds a GPU."""
    count = HOUR_S
    return {
        **times(hour, 1, random.integers(60_000, 400_000, count) + index * 300_000),
        "gpu_uuid": np.full(count, uuid(index)),
        "pid": np.full(count, PIDS[index % len(PIDS)]),
        "start_time_ns": np.full(count, START_NS + NS),
        "in_run": np.ones(count, bool),
        "kind": np.full(count, "compute"),
        "memory_used_bytes": np.full(count, 60 << 30),
        "sm_util_pct": random.integers(0, 101, count).astype(float),
        "memory_util_pct": random.integers(0, 60, count).astype(float),
        "util_samples": random.integers(5, 9, count),
    }


def process_rows(hour: int, pid: int, random: np.random.Generator) -> dict[str, object]:
    """One process of the run."""
    count = HOUR_S
    grown = hour * HOUR_S + np.arange(count)
    return {
        **times(hour, 1, random.integers(60_000, 400_000, count)),
        "pid": np.full(count, pid),
        "start_time_ns": np.full(count, START_NS + NS),
        "ppid": np.full(count, 1 if pid == PIDS[0] else PIDS[0]),
        "name": np.full(count, "python"),
        "state": np.where(random.random(count) < 0.7, "R", "S"),
        "cpu_s": grown * 0.9,
        "rss_bytes": (8 << 30) + random.integers(0, 1 << 20, count) * 4096,
        "read_bytes": grown * (30 << 20),
        "write_bytes": grown * (1 << 20),
        "threads": np.full(count, 40),
        "voluntary_switches": grown * 900,
        "involuntary_switches": grown * 30,
    }


def machine_rows(hour: int, random: np.random.Generator) -> dict[str, object]:
    """The host."""
    count = HOUR_S
    grown = hour * HOUR_S + np.arange(count)
    return {
        **times(hour, 1, random.integers(60_000, 400_000, count)),
        "cpu_util_pct": random.random(count) * 40,
        "cpu_max_core_util_pct": 60 + random.random(count) * 40,
        "load_1m": random.random(count) * 20,
        "memory_available_bytes": (400 << 30) + random.integers(0, 1 << 18, count) * 4096,
        "memory_used_bytes": (100 << 30) + random.integers(0, 1 << 18, count) * 4096,
        "disk_read_bytes": grown * (90 << 20),
        "disk_write_bytes": grown * (3 << 20),
        "net_rx_bytes": grown * 1_000_000,
        "net_tx_bytes": grown * 500_000,
        "psi_cpu_some_s": grown * 0.01,
    }


def recorder_rows(hour: int, name: str, random: np.random.Generator) -> dict[str, object]:
    """What the recorder says of itself."""
    count = HOUR_S
    grown = hour * HOUR_S + np.arange(count)
    return {
        **times(hour, 1, random.integers(60_000, 400_000, count)),
        "collector": np.full(count, name),
        "cpu_s": grown * 0.02 if name == "recorder" else np.full(count, np.nan),
        "ticks": grown * (HZ if name == "nvml" else 1),
        "ticks_late": np.zeros(count, int),
        "ticks_missed": np.zeros(count, int),
        "errors": np.zeros(count, int),
        "sample_s": grown * 0.01,
        "driver_s": grown * 0.008,
        "driver_calls": grown * 640,
    }


def stage_rows(random: np.random.Generator) -> dict[str, object]:
    """Stages one after another over the first hours, a third of them inside the one before, in ten names."""
    start = np.sort(random.integers(0, 20 * HOUR_S, STAGES)) * NS
    length = random.integers(60, 1800, STAGES) * NS
    parents = [f"s{number - 1}" if number % 3 == 2 else None for number in range(STAGES)]
    nested = np.array([parent is not None for parent in parents])
    start[nested] = start[np.flatnonzero(nested) - 1] + NS
    return {
        "stage_id": np.array([f"s{number}" for number in range(STAGES)]),
        "name": np.array([f"step-{number % 10}" for number in range(STAGES)]),
        "start_time_ns": START_NS + start,
        "end_time_ns": START_NS + start + length,
        "start_mono_ns": BOOT_NS + start,
        "end_mono_ns": BOOT_NS + start + length,
        "parent_id": parents,
        "pid": np.full(STAGES, PIDS[0]),
    }


def as_table(name: str, columns: dict[str, object]) -> pa.Table:
    """Columns as the store's rows: what is missing, and NaN, is null."""
    from gpucost.store.parquet import arrow_schema

    schema = arrow_schema(TABLES[name])
    count = len(next(iter(columns.values())))  # type: ignore[arg-type]
    defaults = TABLES[name].row._field_defaults
    arrays = [
        pa.array(columns[item.name], from_pandas=True).cast(item.type, safe=False)
        if item.name in columns
        else pa.array([defaults.get(item.name)] * count, type=item.type)
        for item in schema
    ]
    return pa.Table.from_arrays(arrays, names=schema.names)


if __name__ == "__main__":
    main()
