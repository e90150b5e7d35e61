"""What the benchmarks share: a driver whose calls cost what real ones do, a look at processes from outside, figures with their spread."""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from driver.build import build, compiler  # noqa: E402 (found by the line above)
from driver.scenario import GIB, Gpu, Process, Scenario, slow  # noqa: E402

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20

# CPU microseconds of a call. What has been published of real drivers goes from 2.5 (utilization) and 12 (memory) to hundreds, by model
# and driver; calls that ask the GPU's own controller cost more than those that read a shared page.
CALL_COST_US = {
    "nvmlDeviceGetUtilizationRates": 3,
    "nvmlDeviceGetMemoryInfo": 12,
    "nvmlDeviceGetMemoryInfo_v2": 12,
    "nvmlDeviceGetFieldValues": 50,
    "nvmlDeviceGetClockInfo": 10,
    "nvmlDeviceGetClock": 10,
    "nvmlDeviceGetMaxClockInfo": 5,
    "nvmlDeviceGetPerformanceState": 10,
    "nvmlDeviceGetCurrentClocksEventReasons": 15,
    "nvmlDeviceGetCurrentClocksThrottleReasons": 15,
    "nvmlDeviceGetTemperatureV": 20,
    "nvmlDeviceGetTemperature": 20,
    "nvmlDeviceGetPowerUsage": 40,
    "nvmlDeviceGetEnforcedPowerLimit": 5,
    "nvmlDeviceGetPowerManagementLimit": 5,
    "nvmlDeviceGetTotalEnergyConsumption": 40,
    "nvmlDeviceGetFanSpeed": 40,
    "nvmlDeviceGetEncoderUtilization": 10,
    "nvmlDeviceGetDecoderUtilization": 10,
    "nvmlDeviceGetName": 1,
    "nvmlDeviceGetUUID": 1,
    "nvmlDeviceGetComputeRunningProcesses_v3": 50,
    "nvmlDeviceGetGraphicsRunningProcesses_v3": 50,
    "nvmlDeviceGetMPSComputeRunningProcesses_v3": 50,
    "nvmlDeviceGetProcessUtilization": 50,
    "nvmlDeviceGetSamples": 50,
    "nvmlDeviceGetCurrPcieLinkGeneration": 5,
    "nvmlDeviceGetCurrPcieLinkWidth": 5,
}
PCIE_THROUGHPUT_US = 20_000
"""The header says that this call measures over 20 ms, and sleeps so long."""


def scenario(pid_file: Path | None, gpus: int = 8) -> Scenario:
    """GPUs that are busy in bursts, each with the process whose pid stands in a file."""
    loads = [(float(second), (83.0, 97.0, 12.0, 0.0, 64.0)[second % 5]) for second in range(20)]
    powers = [(second, 90 + 6.1 * load) for second, load in loads]
    processes = (
        [Process(pid_file=pid_file, memory_bytes=60 * GIB, sm_util_pct=70, memory_util_pct=30)] if pid_file else []
    )
    one = Gpu(
        util_pct=loads,
        memory_util_pct=35,
        power_w=powers,
        temperature_c=[(second, 45 + load / 4) for second, load in loads],
        pcie_tx_bytes_per_s=120e6,
        pcie_rx_bytes_per_s=900e6,
        processes=processes,
    )
    faults = [slow(symbol, spin_us=cost) for symbol, cost in CALL_COST_US.items()]
    return Scenario(
        gpus=[one] * gpus, faults=[*faults, slow("nvmlDeviceGetPcieThroughput", sleep_us=PCIE_THROUGHPUT_US)]
    )


def driver_environ(folder: Path, played: Scenario) -> dict[str, str]:
    """The environment of a process that finds a driver playing this scenario."""
    cache = Path(tempfile.gettempdir(), f"gpucost-stand-in-driver-{os.getuid()}")
    cache.mkdir(mode=0o700, exist_ok=True)
    path = played.write(folder / "scenario.txt")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GPUCOST_", "CUDA_"))}
    return {**kept, "LD_LIBRARY_PATH": str(build(cache)), "GPUCOST_DRIVER_SCENARIO": str(path)}


def compiled(folder: Path, name: str) -> Path:
    """A C program of this folder, compiled."""
    target = folder / name
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run([compiler(), "-O2", "-Wall", "-Wextra", "-o", str(target), str(source), "-ldl"], check=True)
    return target


# --- processes from outside --------------------------------------------------------------------------------------------------------


def children() -> dict[int, list[int]]:
    """Every process's children."""
    found: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            found.setdefault(int(fields[1]), []).append(int(entry.name))
    return found


def tree(root: int, *, leave_out: str = "") -> Iterator[int]:
    """A process and all below it, but for those of this name and theirs (the recorded command is not the recorder)."""
    below, waiting = children(), [root]
    while waiting:
        pid = waiting.pop()
        if leave_out and pid != root and _name(pid) == leave_out:
            continue
        yield pid
        waiting += below.get(pid, [])


def cpu_s(pids: Sequence[int]) -> float:
    """User and system time of these processes, and of their children that have ended."""
    found = (_stat(pid) for pid in pids)
    return sum(sum(map(int, fields[11:15])) for fields in found if fields) / TICKS_PER_S


def threads(pid: int) -> dict[str, tuple[float, int]]:
    """By name of the threads (several may have one), their CPU milliseconds and how often they went to sleep."""
    found: dict[str, tuple[float, int]] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = (task / "status").read_text()
        slept = int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        name, cpu_ms = (task / "comm").read_text().strip(), int((task / "schedstat").read_text().split()[0]) / 1e6
        before_ms, before = found.get(name, (0.0, 0))
        found[name] = (before_ms + cpu_ms, before + slept)
    return found


def pss_bytes(pids: Sequence[int]) -> int:
    """Proportional set size of these processes."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


# --- figures -----------------------------------------------------------------------------------------------------------------------


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, and the least and most."""
    if not values:
        return "-"
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def machine() -> str:
    """This machine in words."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    kernel = ".".join(platform.release().split(".")[:2]).split("-")[0]
    return f"{os.cpu_count()} cores ({model}), Linux {kernel}, Python {platform.python_version()}"
