"""Devices that tell less than a data centre's GPU: what they do not tell is null, nothing is made up, and one note says so.

One recording has one device of each kind; each test looks at what was recorded and reported of it.
"""

import os
from dataclasses import dataclass, field

import pytest

from driver.scenario import GIB, Fault, Gpu, Process, Scenario, call_fails, field_fails, garbage
from gpucost.report.load import load_report
from gpucost.store.reader import load
from recording_tools import manifest, only_run, record

MEMORY = ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo")
LISTS = tuple(
    f"nvmlDeviceGet{kind}RunningProcesses_{version}"
    for kind in ("Compute", "Graphics", "MPSCompute")
    for version in ("v2", "v3")
)
LINK = ("nvmlDeviceGetCurrPcieLinkGeneration", "nvmlDeviceGetCurrPcieLinkWidth")
STATE = (
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetPerformanceState",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetTemperature",
)
UTILIZATION = ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetProcessUtilization")
POWER = ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetFieldValues")
COLUMNS = (
    "gpu_util_pct", "memory_util_pct", "memory_used_bytes", "power_w", "power_average_w", "energy_j", "sm_clock_mhz", "temperature_c", "processes",
)  # fmt: skip


@dataclass(frozen=True)
class Platform:
    """One kind of device, and what is to be known of it.

    Attributes:
        refuses: calls that it does not support.
        fields: field values that it does not support.
        tells: what its process is: of the command, of an MPS server, or nobody's.
        nulls: those of `COLUMNS` that are null; None: there is no row at all.
        events: kind to a part of the text.
        unknown: why its time is unknown, where all of it is.
    """

    gpu: dict = field(default_factory=dict)
    refuses: tuple[str, ...] = ()
    fields: tuple[int, ...] = ()
    faults: tuple[Fault, ...] = ()
    process: str = "command"
    nulls: tuple[str, ...] | None = ()
    events: dict = field(default_factory=dict)
    energy: str = "counter"
    holding: str = "processes"
    unknown: str = ""


PLATFORMS = {
    "data centre": Platform(),
    "GB10": Platform(
        gpu={"memory_bytes": 0, "reserved_bytes": 0, "power_limit_w": 0},
        refuses=MEMORY,
        nulls=("memory_used_bytes",),
        events={"metric_unavailable": "memory_used_bytes: not supported"},
    ),
    "memory of 0 bytes": Platform(
        gpu={"memory_bytes": 0, "reserved_bytes": 0, "used_bytes": 0},
        nulls=("memory_used_bytes",),
        events={"metric_unavailable": "memory_used_bytes: shared with the CPU"},
    ),
    "no energy counter": Platform(
        gpu={"buffered": False},
        refuses=("nvmlDeviceGetTotalEnergyConsumption",),
        fields=(83, 191),
        nulls=("energy_j",),
        events={"metric_unavailable": "energy_j: not supported"},
        energy="integrated",
    ),
    "WSL": Platform(
        gpu={"used_bytes": 3 * GIB, "buffered": False},
        refuses=(*UTILIZATION, *LISTS),
        process="nobody",
        nulls=("gpu_util_pct", "memory_util_pct", "processes"),
        events={"metric_unavailable": "gpu_util_pct, memory_util_pct, processes: not supported"},
        holding="memory",
        unknown="unsupported",
    ),
    "vGPU": Platform(
        gpu={"buffered": False},
        refuses=POWER,
        nulls=("power_w", "power_average_w", "energy_j"),
        events={"metric_unavailable": "power_w, power_average_w, energy_j", "virtual_gpu": "others may be at work"},
        faults=(garbage("virtualization", 2),),
        energy="unknown",
    ),
    "GH200": Platform(
        gpu={"module_scope_only": True, "module_power_w": 900},
        events={"power_of_module": "power_w, power_average_w, energy_j are of the whole module, CPU included"},
    ),
    "Jetson": Platform(
        gpu={"memory_bytes": 0, "reserved_bytes": 0, "power_limit_w": 0, "buffered": False},
        refuses=(*UTILIZATION, *POWER, *STATE, *LINK, *LISTS, *MEMORY),
        process="nobody",
        nulls=None,
        events={"gpu_silent": "tells nothing of it"},
        energy="unknown",
        holding="none",
        unknown="unsupported",
    ),
    "MPS": Platform(process="server", events={"mps_clients_hidden": "lists the server alone"}, holding="memory"),
}
NAMES = list(PLATFORMS)


def scenario(here, server):
    """One GPU of each kind; all of them work at 60 % and take 100 W."""
    gpus, faults = [], []
    for index, (name, one) in enumerate(PLATFORMS.items()):
        on_it = {"memory_bytes": 2 * GIB, "sm_util_pct": 60}
        who = {"command": [Process(pid_file=here, **on_it)], "server": [Process(pid=server, **on_it)], "nobody": []}
        gpus.append(
            Gpu(
                **{
                    "name": name,
                    "pcie_counter_bits": 64,
                    "util_pct": 60,
                    "power_w": 100,
                    "processes": who[one.process],
                    **one.gpu,
                }
            )
        )
        faults += [call_fails(symbol, 3, gpu=index) for symbol in one.refuses]
        faults += [field_fails(number, 3, gpu=index) for number in one.fields]
        faults += [Fault(fault.kind, (*fault.facts, ("gpu", index))) for fault in one.faults]
    return Scenario(gpus=gpus, faults=faults)


@pytest.fixture(scope="module")
def run(tmp_path_factory, driver_build, mps_server):
    """The run directory of the one recording."""
    folder = tmp_path_factory.mktemp("platforms")
    path = scenario(folder / "here", mps_server).write(folder / "scenario.txt")
    environ = {**os.environ, "LD_LIBRARY_PATH": str(driver_build(())), "GPUCOST_DRIVER_SCENARIO": str(path)}
    line = ["sh", "-c", f"echo $$ > {folder / 'here'}; exec sleep 3"]
    done = record(folder / "runs", *line, options=["--price", "3.60", "--gpus", "all", "--hz", "5"], env=environ)
    assert done.returncode == 0, done.stderr
    return only_run(folder / "runs")


@pytest.fixture(scope="module")
def recording(run):
    return load(run)


@pytest.fixture(scope="module")
def report(run):
    return load_report(run, environ={})


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def uuid_of(name):
    return Scenario(gpus=[Gpu()] * len(NAMES)).uuid(NAMES.index(name))


def test_what_a_device_does_not_tell_is_null_and_all_else_is_there(recording, name):
    rows = recording.frames["gpu"]
    rows = rows[rows["gpu_uuid"] == uuid_of(name)]
    nulls = PLATFORMS[name].nulls
    if nulls is None:
        assert rows.empty
    else:
        assert tuple(column for column in COLUMNS if rows[column].isna().all()) == nulls


def test_each_limit_is_said_once(recording, name):
    events = recording.frames["event"]
    events = events[(events["source"] == "nvml") & (events["subject"] == uuid_of(name))]
    said = dict(zip(events["kind"], events["message"], strict=True))
    expected = PLATFORMS[name].events
    assert sorted(events["kind"]) == sorted(expected)
    for kind, part in expected.items():
        assert part in said[kind]


def test_the_report_says_what_its_figures_rest_on(report, name):
    """Energy by the counter, by power, or unknown; holding by process lists, by memory, or by nothing; and why time is unknown."""
    row = next(row for row in report.gpus if row.uuid == uuid_of(name))
    one = PLATFORMS[name]
    assert (row.energy_basis, row.holding_basis) == (one.energy, one.holding)
    assert (row.energy_j.value is None) == (one.energy == "unknown")
    assert row.foreign_pct.value in (0, None)
    assert (row.unknown_pct.value == 100) == bool(one.unknown)
    assert (row.busy_pct.value or 0) == pytest.approx(0 if one.unknown else 60, rel=0.2)


def test_the_report_knows_why_time_is_unknown_and_that_power_is_a_modules(report, run):
    reasons = {one.reason: one.gpu_time_s.value for one in report.quality.unknown}
    silent = [one for one in PLATFORMS.values() if one.unknown == "unsupported"]
    assert reasons["unsupported"] == pytest.approx(len(silent) * 3, rel=0.2)
    energy = next(basis for basis in report.quality.bases if basis.figure == "energy")
    assert "of the whole module, CPU included" in energy.text
    assert "left_out" not in manifest(run)["recorder"]


def test_the_manifest_makes_up_no_memory(run):
    known = {gpu["name"]: gpu["memory_total_bytes"] for gpu in manifest(run)["gpus"]}
    assert [name for name, total in known.items() if total is None] == ["GB10", "memory of 0 bytes", "Jetson"]
