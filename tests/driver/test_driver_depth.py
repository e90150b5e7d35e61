"""The stand-in driver's deeper parts: true activity, buffered samples, sensors' windows, events; and that it is what the binding expects."""

import ast
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from driver.build import LIBRARY
from driver.scenario import NS, ROW_RETIRED, XID, Activity, Event, Gpu, Mig, Process, Scenario

Ask = Callable[..., Any]

GPM = """
import ctypes, math
p.nvmlInit()
h = p.nvmlDeviceGetHandleByIndex(0)
a, b = p.nvmlGpmSampleAlloc(), p.nvmlGpmSampleAlloc()
def between(first, second, *ids, take=lambda s: p.nvmlGpmSampleGet(h, s)):
    at(first); take(a)
    at(second); take(b)
    get = p.c_nvmlGpmMetricsGet_t(version=1, numMetrics=len(ids), sample1=a, sample2=b)
    for slot, number in zip(get.metrics, ids):
        slot.metricId = number
    p.nvmlGpmMetricsGet(get)
    return [[m.nvmlReturn, None if math.isnan(m.value) else m.value] for m in get.metrics[:len(ids)]]
"""


def test_true_activity_is_a_mean_over_cycles(ask: Ask) -> None:
    """Where the clock is twice as high, activity counts twice; what the GPU does not have is refused, entry by entry."""
    gpu = Gpu(
        sm_clock_mhz=[(0, 1000), (1, 2000)],
        activity=Activity(sm=[(0, 20), (1, 80)], tensor=40, fp64=None),
        pcie_tx_bytes_per_s=512 * 1024**2,
    )
    found = ask(
        {"gpus": [gpu]}, GPM + "out += [p.nvmlGpmQueryDeviceSupport(h).isSupportedDevice, between(0, 2, 2, 5, 11, 20)]"
    )
    assert found == [1, [[0, 60.0], [0, 40.0], [3, 0.0], [0, 512.0]]]


def test_true_activity_of_less_than_the_refresh_period_is_not_a_number(ask: Ask) -> None:
    """Two samples less than 100 ms apart say nothing, as the interface's header warns."""
    found = ask({"gpus": [Gpu(activity=Activity(sm=50))]}, GPM + "out += [between(1, 1.05, 2), between(1, 1.1, 2)]")
    assert found == [[[0, None]], [[0, 50.0]]]


def test_a_mig_device_has_activity_of_its_own(ask: Ask) -> None:
    """Through the GPU and the instance's number, or through the MIG device itself; the bus is the whole GPU's."""
    migs = [Mig(uuid="MIG-a", gi=1, activity=Activity(sm=30)), Mig(uuid="MIG-b", gi=2, activity=Activity(sm=70))]
    body = """
m = p.nvmlDeviceGetMigDeviceHandleByIndex(h, 0)
out.append(between(1, 2, 2, 20, take=lambda s: p.nvmlGpmMigSampleGet(h, 2, s)))
out.append(between(3, 4, 2, take=lambda s: p.nvmlGpmSampleGet(m, s)))
out.append(code(p.nvmlGpmMigSampleGet, h, 9, a))
"""
    found = ask({"gpus": [Gpu(mig_enabled=True, migs=migs)]}, GPM + body)
    assert found == [[[0, 70.0], [3, 0.0]], [[0, 30.0]], {"error": 2}]


def test_a_gpu_without_gpm_says_so(ask: Ask) -> None:
    body = "out += [p.nvmlGpmQueryDeviceSupport(h).isSupportedDevice, code(p.nvmlGpmSampleGet, h, a)]"
    assert ask({}, GPM + body) == [0, {"error": 3}]


SAMPLES = """
p.nvmlInit()
h = p.nvmlDeviceGetHandleByIndex(0)
def samples(kind, since):
    found = code(p.nvmlDeviceGetSamples, h, kind, since)
    return found if isinstance(found, dict) else [[s.timeStamp - 1700000000000000, s.sampleValue.uiVal] for s in found[1]]
"""


def test_buffered_samples_are_those_after_a_time_stamp_from_a_ring_of_120(ask: Ask) -> None:
    """Power every 20 ms and utilization every 200 ms, each with the time it was taken; none that was seen before."""
    gpu = Gpu(util_pct=[(0, 0), (1, 50)], power_w=[(0, 100), (0.99, 300)], module_power_w=900)
    body = """
at(1.3)
out.append(samples(0, 1700000000000000 + 960000))
out.append(samples(1, 1700000000000000 + 600000))
out.append(samples(7, 1700000000000000 + 1280000))
out.append(samples(1, 1700000000000000 + 1200000))
out.append(samples(3, 0))
at(60)
out.append(len(samples(0, 0)))
"""
    power, util, module, nothing, encoder, depth = ask({"gpus": [gpu]}, SAMPLES + body)
    assert power == [[us, 100_000 if us < 990_000 else 300_000] for us in range(980_000, 1_300_001, 20_000)]
    assert util == [[800_000, 0], [1_000_000, 0], [1_200_000, 50]]
    assert module == [[1_300_000, 900_000]]
    assert (nothing, encoder, depth) == ({"error": 6}, {"error": 3}, 120)


def test_a_driver_without_buffers_refuses_them(ask: Ask) -> None:
    assert ask({"gpus": [Gpu(buffered=False)]}, SAMPLES + "at(1); out.append(samples(0, 0))") == [{"error": 3}]


def test_a_power_sensor_that_looks_at_a_part_of_its_period_sees_only_that(ask: Ask) -> None:
    """25 ms in every 100: what happens in the other 75 does not exist for it."""
    gpu = Gpu(power_w=[(0, 100), (0.1, 500), (0.15, 100), (0.19, 300)], power_period_s=0.1, power_window_s=0.025)
    instants = [0.05, 0.15, 0.2, 0.25]
    body = f"p.nvmlInit(); h = p.nvmlDeviceGetHandleByIndex(0)\nfor t in {instants}: at(t); out.append(field(h, 186)[0][1])"
    found = ask({"gpus": [gpu]}, body)
    assert found == [100_000, 100_000, 180_000, 180_000]
    assert found == [gpu.power_reading_mw(round(t * NS)) for t in instants]


def test_nvlink_counts_whole_kib_over_all_links(ask: Ask) -> None:
    body = """
p.nvmlInit(); h = p.nvmlDeviceGetHandleByIndex(0); at(2)
both = p.nvmlDeviceGetFieldValues(h, [(138, 0xFFFFFFFF), (139, 0xFFFFFFFF), (138, 0)])
out += [[v.nvmlReturn, v.value.ullVal if v.nvmlReturn == 0 else None] for v in both]
"""
    assert ask({"gpus": [Gpu(nvlink_tx_bytes_per_s=10_000_000)]}, body) == [[0, 19531], [3, None], [3, None]]


def test_the_ring_of_process_samples_names_one_process_a_sample(ask: Ask) -> None:
    """Who was caught is drawn in proportion to what each used, so the count of samples estimates the share, within its binomial spread."""
    gpu = Gpu(
        process_ring=True, processes=[Process(pid=11, sm_util_pct=60), Process(pid=12, sm_util_pct=20, sample_pid=99)]
    )
    body = """
p.nvmlInit(); h = p.nvmlDeviceGetHandleByIndex(0); at(1000)
out += [[s.pid, s.smUtil, s.timeStamp] for s in p.nvmlDeviceGetProcessUtilization(h, 0)]
"""
    found = ask({"gpus": [gpu]}, body)
    assert len(found) == 80
    assert {sm for _, sm, _ in found} == {80}
    assert len({time for _, _, time in found}) == 80
    first = sum(pid == 11 for pid, _, _ in found)
    assert {pid for pid, _, _ in found} == {11, 99}
    assert abs(first / 80 - 0.75) < 3 * (0.75 * 0.25 / 80) ** 0.5


def test_events_come_once_to_who_registered_for_them(ask: Ask) -> None:
    """An event from before the registration, or of a type not asked for, is not told; then the wait times out."""
    events = [
        Event(at_s=1, data=31),
        Event(at_s=3, data=79),
        Event(at_s=3, kind=ROW_RETIRED),
        Event(at_s=4, data=63, gi=2),
    ]
    body = """
p.nvmlInit(); h = p.nvmlDeviceGetHandleByIndex(0); at(2)
s = p.nvmlEventSetCreate()
p.nvmlDeviceRegisterEvents(h, 0x8, s)
at(5)
for _ in range(3):
    e = code(p.nvmlEventSetWait_v2, s, 5)
    out.append(e if isinstance(e, dict) else [e.eventType, e.eventData, e.gpuInstanceId, p.nvmlDeviceGetUUID(e.device) == p.nvmlDeviceGetUUID(h)])
out.append(code(p.nvmlEventSetFree, s))
"""
    found = ask({"events": events}, body)
    assert found == [[XID, 79, 0xFFFFFFFF, True], [XID, 63, 2, True], {"error": 10}, None]


# What the binding expects.


def looked_up() -> set[str]:
    """Every C symbol that the binding asks the library for."""
    tree = ast.parse(Path(pynvml.__file__).read_text(encoding="utf-8"))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_nvmlGetFunctionPointer"
    ]
    return {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}


def exported(directory: Path) -> set[str]:
    """Every symbol of NVML that the stand-in has."""
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(directory / LIBRARY)], capture_output=True, text=True, check=True
    )
    return set(re.findall(r" T (nvml\w+)", listed.stdout))


def test_every_symbol_of_the_stand_in_is_one_that_the_binding_asks_for(stand_in_driver: Path) -> None:
    """A misspelt symbol would never be called; `nvmlInit_v2` is for C programs."""
    assert exported(stand_in_driver) - looked_up() <= {"nvmlInit_v2"}


def test_every_call_of_the_collectors_exists_in_the_binding_and_in_the_stand_in(stand_in_driver: Path) -> None:
    """Whatever the recorder may ask a driver, the stand-in answers, under the name that the binding knows."""
    there = exported(stand_in_driver)
    source = "".join(
        path.read_text(encoding="utf-8") for path in (Path(__file__).parents[2] / "collectors").glob("*nvml*.py")
    )
    used = set(re.findall(r'"(nvml(?!_)[A-Z]\w+)"', source))
    kinds = ("Compute", "Graphics", "MPSCompute")
    used |= {f"nvmlDeviceGet{kind}RunningProcesses_{version}" for kind in kinds for version in ("v2", "v3")}
    assert len(used) > 30
    absent_on_purpose = {
        "nvmlDeviceGetConfComputeMemSizeInfo",
        "nvmlDeviceGetRunningProcessDetailList",
    }  # how drivers are told apart
    for name in sorted(used - absent_on_purpose):
        symbols = {
            name,
            *(f"{name}_v{version}" for version in (2, 3)),
            *(["nvmlInitWithFlags"] if name == "nvmlInit" else []),
        }
        assert symbols & there, f"the stand-in has no {name}"
        assert symbols & looked_up(), f"the binding has no {name}"


LAYOUTS = [
    ("c_nvmlUtilization_t", 8),
    ("c_nvmlMemory_t", 24),
    ("c_nvmlMemory_v2_t", 40),
    ("c_nvmlFieldValue_t", 40),
    ("c_nvmlSample_t", 16),
    ("c_nvmlProcessInfo_v3_t", 24),
    ("c_nvmlProcessUtilizationSample_t", 32),
    ("c_nvmlEventData_t", 32),
    ("nvmlPciInfo_t", 68),
    ("c_nvmlDeviceAttributes", 40),
    ("c_nvmlTemperature_v1_t", 12),
    ("c_nvmlGpmSupport_t", 8),
    ("c_nvmlGpmMetric_t", 40),
]


@pytest.mark.parametrize(("name", "size"), LAYOUTS)
def test_a_structure_of_the_binding_has_the_size_that_the_collectors_and_the_stand_in_read(
    name: str, size: int
) -> None:
    import ctypes

    assert ctypes.sizeof(getattr(pynvml, name)) == size


def test_nothing_but_the_scenario_decides(ask: Ask) -> None:
    """The same instant gives the same answer, however often it is asked."""
    gpu = Gpu(power_w=[(0, 100), (1, 300)], power_period_s=0.1)
    assert Scenario(gpus=[gpu]).text() == Scenario(gpus=[gpu]).text()
    body = "p.nvmlInit(); h = p.nvmlDeviceGetHandleByIndex(0); at(1.23); out += [field(h, 186, 83) for _ in range(3)]"
    assert len({str(answer) for answer in ask({"gpus": [gpu]}, body)}) == 1
