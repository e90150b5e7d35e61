"""The stand-in driver says what its scenario says, and behaves as NVIDIA's does."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.build import SOURCE
from driver.scenario import (
    GIB,
    NS,
    Fault,
    Gpu,
    Mig,
    Process,
    Scenario,
    call_fails,
    energy_reset,
    fewer_gpus,
    field_fails,
    gpu_lost,
    init_fails,
    init_hangs,
)

DriverEnv = Callable[[Scenario], dict[str, str]]


def test_identity_is_what_the_scenario_says(ask: Callable[..., Any]) -> None:
    """Names, UUIDs, bus ids and versions come through the real binding unchanged."""
    gpus = [
        Gpu(name="NVIDIA A100 80GB PCIe", compute_capability=(8, 0), architecture=7),
        Gpu(uuid="GPU-b", pci="00000000:65:00.0"),
    ]
    found = ask(
        {"gpus": gpus},
        """
p.nvmlInit()
out += [p.nvmlSystemGetDriverVersion(), p.nvmlSystemGetCudaDriverVersion_v2(), p.nvmlDeviceGetCount()]
for i in range(2):
    h = p.nvmlDeviceGetHandleByIndex(i)
    out += [p.nvmlDeviceGetName(h), p.nvmlDeviceGetUUID(h), p.nvmlDeviceGetPciInfo(h).busId, list(p.nvmlDeviceGetCudaComputeCapability(h))]
out.append(p.nvmlDeviceGetIndex(p.nvmlDeviceGetHandleByUUID("GPU-b")))
out.append(code(p.nvmlDeviceGetHandleByIndex, 2))
""",
    )
    assert found[:3] == ["570.86.15", 12080, 2]
    assert found[3:7] == ["NVIDIA A100 80GB PCIe", Scenario().uuid(0), "00000000:01:00.0", [8, 0]]
    assert found[7:] == ["NVIDIA H100 80GB HBM3", "GPU-b", "00000000:65:00.0", [9, 0], 1, {"error": 2}]


def test_utilization_is_the_exact_mean_of_the_last_completed_period(ask: Callable[..., Any]) -> None:
    """Python's truth and the library's answer agree at every instant, also when a step falls inside a period."""
    gpu = Gpu(util_pct=[(0, 0), (0.25, 80), (0.61, 35.5), (2, 100)])
    instants = [0, 0.1, 0.2, 0.399, 0.4, 0.6, 0.7, 0.8, 1, 2.1, 2.2, 9]
    found = ask(
        {"gpus": [gpu]},
        f"""
p.nvmlInit()
h = p.nvmlDeviceGetHandleByIndex(0)
for t in {instants}:
    at(t)
    out.append(p.nvmlDeviceGetUtilizationRates(h).gpu)
""",
    )
    assert found == [gpu.utilization_reading(round(t * NS)) for t in instants]
    assert found[:5] == [0, 0, 0, 0, 60]  # the mean of 0.2 to 0.4 s is 0.15 x 80 / 0.2


def test_the_energy_counter_is_the_exact_integral_in_steps(ask: Callable[..., Any]) -> None:
    """Between its steps the counter stands still, and at each step it is the integral of power to the millijoule."""
    gpu = Gpu(power_w=[(0, 100), (0.15, 333.333), (1, 50)], energy_base_j=12)
    instants = [0, 0.099, 0.1, 0.2, 0.299, 1.05, 7.777]
    found = ask(
        {"gpus": [gpu]},
        f"""
p.nvmlInit()
h = p.nvmlDeviceGetHandleByIndex(0)
for t in {instants}:
    at(t)
    out.append([p.nvmlDeviceGetTotalEnergyConsumption(h), field(h, 83)[0][1]])
""",
    )
    assert found == [[gpu.energy_reading_mj(round(t * NS))] * 2 for t in instants]
    assert found[0][0] == 12_000
    assert found[2][0] == 22_000


def test_power_has_an_instant_and_a_one_second_mean(ask: Callable[..., Any]) -> None:
    """After a step, the instantaneous field is there at once and the average needs a second; without averages the plain call is instantaneous."""
    gpus = [Gpu(power_w=[(0, 100), (1, 500)]), Gpu(power_w=[(0, 100), (1, 500)], power_averages=False)]
    found = ask(
        {"gpus": gpus},
        """
p.nvmlInit()
at(1.25)
for i in range(2):
    h = p.nvmlDeviceGetHandleByIndex(i)
    out.append([p.nvmlDeviceGetPowerUsage(h), *field(h, 186, 185)])
""",
    )
    assert found == [[200_000, [0, 500_000], [0, 200_000]], [500_000, [0, 500_000], [3, None]]]


def test_memory_keeps_the_reserve_apart_in_its_second_version_only(ask: Callable[..., Any]) -> None:
    """The first version counts the reserve as used; in the second, reserved + used + free is all of it."""
    gpu = Gpu(
        memory_bytes=10 * GIB, reserved_bytes=GIB, processes=[Process(pid=7, memory_bytes=2 * GIB, start_s=1, end_s=2)]
    )
    found = ask(
        {"gpus": [gpu]},
        """
p.nvmlInit()
h = p.nvmlDeviceGetHandleByIndex(0)
for t in (0, 1, 2):
    at(t)
    one, two = p.nvmlDeviceGetMemoryInfo(h), p.nvmlDeviceGetMemoryInfo(h, p.nvmlMemory_v2)
    out.append([one.used >> 30, one.free >> 30, two.used >> 30, two.reserved >> 30, two.free >> 30])
out.append(code(p.nvmlDeviceGetMemoryInfo, h, 2))
""",
    )
    assert found == [[1, 9, 0, 1, 9], [3, 7, 2, 1, 7], [1, 9, 0, 1, 9], {"error": 25}]


def test_pcie_counters_wrap(ask: Callable[..., Any]) -> None:
    """A 32-bit counter wraps and a 64-bit one does not."""
    gpus = [
        Gpu(pcie_tx_bytes_per_s=3 * GIB, pcie_rx_bytes_per_s=10),
        Gpu(pcie_tx_bytes_per_s=3 * GIB, pcie_counter_bits=64),
    ]
    found = ask(
        {"gpus": gpus},
        "p.nvmlInit()\nat(2)\nout = [field(p.nvmlDeviceGetHandleByIndex(i), 197, 198) for i in range(2)]",
    )
    assert found == [[[0, 2 * GIB], [0, 20]], [[0, 6 * GIB], [0, 0]]]
    assert gpus[0].pcie_bytes(2 * NS, sends=True) == 6 * GIB


def test_process_lists_follow_the_scenario(ask: Callable[..., Any]) -> None:
    """Each list has its own kind of process, from its start to its end; unknown memory is the binding's None."""
    gpu = Gpu(
        processes=[
            Process(pid=7, memory_bytes=GIB, start_s=1, end_s=3),
            Process(pid=8, kinds="cg", memory_bytes=None),
            Process(pid=9, kinds="m"),
        ]
    )
    found = ask(
        {"gpus": [gpu]},
        """
p.nvmlInit()
h = p.nvmlDeviceGetHandleByIndex(0)
for t in (0, 1, 3):
    at(t)
    for call in (p.nvmlDeviceGetComputeRunningProcesses, p.nvmlDeviceGetGraphicsRunningProcesses, p.nvmlDeviceGetMPSComputeRunningProcesses):
        out.append([[i.pid, i.usedGpuMemory] for i in call(h)])
""",
    )
    assert found[0:3] == [[[8, None]], [[8, None]], [[9, 0]]]
    assert found[3] == [[7, GIB], [8, None]]
    assert found[6] == [[8, None]]


def test_a_pid_file_makes_a_living_process_a_gpu_process(ask: Callable[..., Any], tmp_path: Path) -> None:
    """The process is listed while the file names a living process, and not before it is written, nor after the process's end."""
    pid_file = tmp_path / "a pid"
    found = ask(
        {"gpus": [Gpu(processes=[Process(pid_file=pid_file)])]},
        f"""
import subprocess
p.nvmlInit()
h = p.nvmlDeviceGetHandleByIndex(0)
pids = lambda: [i.pid for i in p.nvmlDeviceGetComputeRunningProcesses(h)]
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
out.append(pids())
open({str(pid_file)!r}, "w").write(f"{{child.pid}}\\n")
out.append(pids() == [child.pid])
child.stdin.close()
import os; os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
out.append(pids())
child.wait()
out.append(pids())
""",
    )
    assert found == [[], True, [], []]


def test_process_utilization_gives_samples_since_the_last_seen(ask: Callable[..., Any]) -> None:
    """Only samples above zero, newer than asked for, at most ten seconds old; none is NOT_FOUND, as the driver has it."""
    gpu = Gpu(
        process_period_s=0.25, processes=[Process(pid=7, sm_util_pct=[(0, 0), (1, 60), (2, 0)], memory_util_pct=20)]
    )
    found = ask(
        {"gpus": [gpu]},
        """
p.nvmlInit()
h = p.nvmlDeviceGetHandleByIndex(0)
at(0.9)
out.append(code(p.nvmlDeviceGetProcessUtilization, h, 0))
at(1.6)
first = p.nvmlDeviceGetProcessUtilization(h, 0)
out.append([[s.pid, s.smUtil, s.memUtil] for s in first])
at(2.5)
out.append(len(p.nvmlDeviceGetProcessUtilization(h, max(s.timeStamp for s in first))))
at(30)
out.append(code(p.nvmlDeviceGetProcessUtilization, h, 0))
""",
    )
    assert found == [{"error": 6}, [[7, 60, 20]] * 3, 1, {"error": 6}]


def test_an_average_sample_is_the_exact_mean_since_the_last_seen(ask: Callable[..., Any]) -> None:
    """With a sample period of 0, each process has one sample: the mean of the time since the last call."""
    gpu = Gpu(process_period_s=0, processes=[Process(pid=7, sm_util_pct=[(0, 0), (1, 60)])])
    found = ask(
        {"gpus": [gpu]},
        """
p.nvmlInit()
h = p.nvmlDeviceGetHandleByIndex(0)
start = p.nvmlDeviceGetSamples(h, 0, 0)[1][0].timeStamp
at(2)
out.append([[s.timeStamp - start, s.smUtil] for s in p.nvmlDeviceGetProcessUtilization(h, start)])
""",
    )
    assert found == [[[2_000_000, 30]]]


def test_buffered_samples_come_once(ask: Callable[..., Any]) -> None:
    """GetSamples gives what is newer than asked for, at most 120 power samples 20 ms apart."""
    gpu = Gpu(power_w=[(0, 100), (1, 200)])
    found = ask(
        {"gpus": [gpu]},
        """
p.nvmlInit()
h = p.nvmlDeviceGetHandleByIndex(0)
at(1.01)
samples = p.nvmlDeviceGetSamples(h, 0, 0)[1]
out += [len(samples), samples[-1].sampleValue.uiVal, samples[-2].sampleValue.uiVal]
out.append(code(p.nvmlDeviceGetSamples, h, 0, samples[-1].timeStamp))
at(60)
out.append(len(p.nvmlDeviceGetSamples(h, 0, samples[-1].timeStamp)[1]))
""",
    )
    assert found == [51, 200_000, 100_000, {"error": 6}, 120]


def test_time_spent_with_a_clock_event_reason_is_counted(ask: Callable[..., Any]) -> None:
    """The nanosecond counters are the exact time during which the bit was set."""
    gpu = Gpu(reasons=[(0, 1), (1, 0x4), (1.5, 0x24), (3, 0)])
    found = ask({"gpus": [gpu]}, "p.nvmlInit()\nat(2)\nout = field(p.nvmlDeviceGetHandleByIndex(0), 74, 269, 270)")
    assert found == [[0, NS], [0, NS // 2], [0, 0]]


def test_mig_devices_are_enumerated_with_gaps(ask: Callable[..., Any]) -> None:
    """A MIG device has its own UUID, memory and processes; its parent refuses sums to the unprivileged; power is the parent's."""
    migs = [
        Mig(uuid="MIG-a", index=0, gi=7),
        Mig(uuid="MIG-b", index=2, gi=9, ci=1, gi_slices=3, processes=[Process(pid=5, memory_bytes=GIB)]),
    ]
    found = ask(
        {"gpus": [Gpu(mig_enabled=True, migs=migs)]},
        """
p.nvmlInit()
h = p.nvmlDeviceGetHandleByIndex(0)
out += [p.nvmlDeviceGetMigMode(h)[0], p.nvmlDeviceGetMaxMigDeviceCount(h)]
out += [code(lambda i: p.nvmlDeviceGetUUID(p.nvmlDeviceGetMigDeviceHandleByIndex(h, i)), i) for i in (0, 1, 2, 7)]
m = p.nvmlDeviceGetMigDeviceHandleByIndex(h, 2)
out += [p.nvmlDeviceGetGpuInstanceId(m), p.nvmlDeviceGetComputeInstanceId(m), p.nvmlDeviceGetAttributes(m).gpuInstanceSliceCount]
out += [p.nvmlDeviceGetMemoryInfo(m, p.nvmlMemory_v2).used >> 30, [i.gpuInstanceId for i in p.nvmlDeviceGetComputeRunningProcesses(m)]]
out += [code(p.nvmlDeviceGetMemoryInfo, h), code(p.nvmlDeviceGetComputeRunningProcesses, h), code(p.nvmlDeviceGetUtilizationRates, h)]
out += [field(m, 186, 83), field(h, 186)]
""",
    )
    assert found[:6] == [1, 7, "MIG-a", {"error": 6}, "MIG-b", {"error": 2}]
    assert found[6:11] == [9, 1, 3, 1, [9]]
    assert found[11:14] == [{"error": 4}, {"error": 4}, {"error": 3}]
    assert found[14:] == [[[3, None], [3, None]], [[0, 70_000]]]


@pytest.mark.parametrize("code", [4, 9, 17, 18, 999])
def test_init_can_fail_with_any_code(ask: Callable[..., Any], code: int) -> None:
    """The binding raises the code that the scenario names."""
    assert ask({"faults": [init_fails(code)]}, "out.append(code(p.nvmlInit))") == [{"error": code}]


def test_init_can_fail_for_a_while_and_can_hang(ask: Callable[..., Any]) -> None:
    """A fault with a count strikes that often; a hang takes at least its time."""
    body = "out += [code(p.nvmlInit), code(p.nvmlInit)]\nimport time; began = time.monotonic(); p.nvmlInit(); out.append(time.monotonic() - began)"
    first, second, third = ask({"faults": [init_fails(999, times=1), init_hangs(0.05)]}, body)
    assert [first, second] == [{"error": 999}, None]
    assert third >= 0.05


def test_a_lost_gpu_answers_nothing_while_it_is_lost(ask: Callable[..., Any]) -> None:
    """All calls about the lost GPU fail, also by a new handle; the other GPU goes on; afterwards it is back."""
    found = ask(
        {"gpus": [Gpu(), Gpu()], "faults": [gpu_lost(1, 1, 2)]},
        """
p.nvmlInit()
handles = [p.nvmlDeviceGetHandleByIndex(i) for i in range(2)]
for t in (0, 1, 2):
    at(t)
    out.append([code(p.nvmlDeviceGetPowerUsage, h) for h in handles] + [code(lambda: p.nvmlDeviceGetIndex(p.nvmlDeviceGetHandleByIndex(1)))])
""",
    )
    assert found == [[70_000, 70_000, 1], [70_000, {"error": 15}, {"error": 15}], [70_000, 70_000, 1]]


FAULTS: list[tuple[Fault, str, Any]] = [
    (call_fails("nvmlDeviceGetTemperature", 3), "code(p.nvmlDeviceGetTemperature, h, 0)", {"error": 3}),
    (call_fails("nvmlDeviceGetTemperature", 3, gpu=1), "code(p.nvmlDeviceGetTemperature, h, 0)", 40),
    (call_fails("nvmlDeviceGetTemperature", 4, from_s=1), "code(p.nvmlDeviceGetTemperature, h, 0)", 40),
    (field_fails(186, 3), "field(h, 186, 83)", [[3, None], [0, 0]]),
    (field_fails(186, 3, scope=1), "field(h, 186)", [[0, 70_000]]),
]


@pytest.mark.parametrize(("fault", "question", "answer"), FAULTS)
def test_faults_strike_where_they_are_aimed(ask: Callable[..., Any], fault: Fault, question: str, answer: Any) -> None:
    """A fault for one call, field, GPU or time leaves the others alone."""
    body = f"p.nvmlInit()\nh = p.nvmlDeviceGetHandleByIndex(0)\nout.append({question})"
    assert ask({"gpus": [Gpu(), Gpu()], "faults": [fault]}, body) == [answer]


def test_the_number_of_gpus_can_change_and_the_energy_counter_can_start_again(ask: Callable[..., Any]) -> None:
    """Fewer GPUs from an instant on; the counter restarts from zero at its reset."""
    gpu = Gpu(power_w=100, energy_base_j=5000)
    body = """
p.nvmlInit()
h = p.nvmlDeviceGetHandleByIndex(0)
for t in (1, 3):
    at(t)
    out.append([p.nvmlDeviceGetCount(), p.nvmlDeviceGetTotalEnergyConsumption(h)])
"""
    found = ask({"gpus": [gpu, gpu], "faults": [fewer_gpus(1, from_s=2), energy_reset(2)]}, body)
    assert found == [[2, 5_100_000], [1, 100_000]]
    assert found[1][1] == gpu.energy_reading_mj(3 * NS, reset_at_ns=2 * NS)


def test_an_older_driver_lacks_symbols(ask: Callable[..., Any]) -> None:
    """What is absent raises FUNCTION_NOT_FOUND in the binding, and for the process list its own kind of error."""
    body = """
p.nvmlInit()
h = p.nvmlDeviceGetHandleByIndex(0)
out.append(code(p.nvmlDeviceGetTemperatureV, h, 0))
out.append(p.nvmlDeviceGetTemperature(h, 0))
try:
    p.nvmlDeviceGetComputeRunningProcesses(h)
except p.NVMLLibraryMismatchError as error:
    out.append([type(error).__name__, isinstance(error, p.NVMLError)])
"""
    found = ask({"absent": ["nvmlDeviceGetTemperatureV", "nvmlDeviceGetComputeRunningProcesses_v3"]}, body)
    assert found == [{"error": 13}, 40, ["NVMLLibraryMismatchError", False]]


def test_calls_are_counted_when_asked(driver_env: DriverEnv, tmp_path: Path) -> None:
    """Each process appends its counts at its end."""
    body = "import pynvml as p; p.nvmlInit(); [p.nvmlDeviceGetCount() for _ in range(3)]"
    environment = {**os.environ, **driver_env(Scenario()), "GPUCOST_DRIVER_CALLS": str(tmp_path / "calls")}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", body], env=environment, check=True)
    counts = [line.split()[1:] for line in (tmp_path / "calls").read_text().splitlines()]
    assert counts.count(["nvmlDeviceGetCount_v2", "3"]) == 2


def test_a_scenario_that_cannot_be_read_is_an_error(driver_env: DriverEnv, tmp_path: Path) -> None:
    """A line that the library does not understand fails init and names the line: a test must not pass on half a scenario."""
    environment = {**os.environ, **driver_env(Scenario())}
    Path(environment["GPUCOST_DRIVER_SCENARIO"]).write_text("driver version=1\ngpu uuid=a\nseries nonsense 0:1\n")
    done = subprocess.run(
        [sys.executable, "-c", "import pynvml as p; p.nvmlInit()"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "not understood: series nonsense 0:1" in done.stderr


def test_every_source_file_is_short() -> None:
    """The stand-in keeps to the limit of the house: no file over 500 lines."""
    assert max(len(path.read_text().splitlines()) for path in SOURCE.iterdir()) <= 500


steps = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 100)), min_size=1, max_size=8).map(
    lambda pairs: [(time / 10, value) for time, value in sorted(dict(pairs).items())]
)


@given(steps, st.tuples(*[st.integers(0, 6 * NS)] * 3))
def test_the_truth_is_additive(pairs: list[tuple[float, float]], cuts: tuple[int, int, int]) -> None:
    """Busy seconds and energy of adjoining stretches sum to those of the whole."""
    a, b, c = sorted(cuts)
    gpu = Gpu(util_pct=pairs, power_w=pairs)
    assert gpu.busy_seconds(a, b) + gpu.busy_seconds(b, c) == pytest.approx(gpu.busy_seconds(a, c), abs=1e-12)
    assert gpu.energy_j(a, b) + gpu.energy_j(b, c) == pytest.approx(gpu.energy_j(a, c), abs=1e-9)
    assert 0 <= gpu.busy_seconds(a, c) <= (c - a) / NS
