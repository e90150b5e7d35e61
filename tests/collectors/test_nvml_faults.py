"""The NVML collector when the driver, or a GPU, does not do what it should."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driver.scenario import (
    GIB,
    NS,
    Fault,
    Gpu,
    Scenario,
    call_fails,
    energy_reset,
    fewer_gpus,
    field_fails,
    garbage,
    gpu_lost,
    init_fails,
    slow,
    slow_field,
)

Observe = Callable[..., Any]

HERE = Path(__file__).parent
TWO = [Gpu(power_w=100), Gpu(power_w=200)]
FIRST, SECOND = Scenario().uuid(0), Scenario(gpus=TWO).uuid(1)

# Column to how the driver refuses it: calls and fields.
WAYS: dict[str, tuple[list[str], list[int]]] = {
    "gpu_util_pct": (["nvmlDeviceGetUtilizationRates"], []),
    "memory_util_pct": (["nvmlDeviceGetUtilizationRates"], []),
    "memory_used_bytes": (["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo"], []),
    "power_w": ([], [186]),
    "power_average_w": (["nvmlDeviceGetPowerUsage"], [185]),
    "energy_j": (["nvmlDeviceGetTotalEnergyConsumption"], [83, 191]),
    "sm_clock_mhz": (["nvmlDeviceGetClockInfo"], []),
    "memory_clock_mhz": (["nvmlDeviceGetClockInfo"], []),
    "temperature_c": (["nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature"], []),
    "pstate": (["nvmlDeviceGetPerformanceState"], []),
    "clocks_event_reasons": (
        ["nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"],
        [],
    ),
    "pcie_tx_bytes": ([], [197]),
    "pcie_rx_bytes": ([], [198]),
}
TOGETHER = [{"gpu_util_pct", "memory_util_pct"}, {"sm_clock_mhz", "memory_clock_mhz"}]


def refusing(column: str, code: int, **when: Any) -> list[Fault]:
    """The faults with which a driver refuses one column in every way."""
    calls, fields = WAYS[column]
    return [call_fails(name, code, **when) for name in calls] + [field_fails(field, code, **when) for field in fields]


def nulls(row: dict[str, Any]) -> set[str]:
    """The columns of a row that are null, of those that every row has on a GPU that tells all."""
    return {name for name in WAYS if row[name] is None}


# Opening.


@pytest.mark.parametrize(
    ("code", "permanent", "says"),
    [
        (4, True, "no permission to talk to the NVIDIA driver"),
        (9, True, "kernel module of the NVIDIA driver is not loaded"),
        (17, True, "the operating system blocks the GPUs"),
        (18, True, "was updated and not yet reloaded"),
        (10, False, "does not open: timed out"),
        (15, False, "does not open: the GPU is lost"),
        (999, False, "does not open: unknown driver error"),
        (77, False, "does not open: driver error 77"),
    ],
)
def test_a_driver_that_does_not_open_is_one_clear_line(observe: Observe, code: int, permanent: bool, says: str) -> None:
    """The line says what is wrong, and whether trying again can help."""
    seen = observe(Scenario(faults=[init_fails(code)]), "bench.start()\nbench.collector.stop()")
    message, found = seen.unavailable
    assert says in message
    assert found == permanent
    assert (seen.tiers, seen.gpu) == ([], [])


def start_without_driver(before: str) -> Any:
    """Start the collector where no library can be found, after some statements."""
    settings = {"clock": os.devnull, "hz": 10, "gpus": "", "bill": "visible", "environ": {}}
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    command = [
        sys.executable,
        str(HERE / "nvml_bench.py"),
        json.dumps(settings),
        f"{before}\nbench.start()\nbench.collector.stop()",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_machine_without_a_driver_is_one_clear_line() -> None:
    """The library is not found, and nobody needs to look for it again."""
    hide = (
        "import pynvml\ndef cdll(name):\n    raise OSError(name)\npynvml.CDLL = cdll"  # also on machines that have one
    )
    assert start_without_driver(hide)["unavailable"] == [
        "no NVIDIA driver found (libnvidia-ml.so.1): GPUs are not recorded",
        True,
    ]


def test_a_binding_that_is_not_nvidias_is_one_clear_line() -> None:
    """A module of the same name, and a missing one, are told apart."""
    impostor = "import sys, types\nsys.modules['pynvml'] = types.ModuleType('pynvml')"
    assert "is not NVIDIA's nvidia-ml-py" in start_without_driver(impostor)["unavailable"][0]
    missing = "import sys\nsys.modules['pynvml'] = None"
    assert "nvidia-ml-py is not installed" in start_without_driver(missing)["unavailable"][0]


def test_a_start_that_failed_can_be_tried_again(observe: Observe) -> None:
    """When the driver opens at the second try, everything is as if it had at the first."""
    seen = observe(Scenario(faults=[init_fails(999, times=1)]), "bench.start()\nbench.start()\nbench.fast(0)")
    assert len(seen.gpu) == 1


def test_a_gpu_that_is_not_there_is_one_clear_line(observe: Observe) -> None:
    """`--gpus 7` on a machine with two: nothing is recorded, and the line says which there are."""
    message, permanent = observe(Scenario(gpus=TWO), "bench.start()", gpus="7").unavailable
    assert "no GPU `7` on this machine (there are: 0, 1)" in message
    assert permanent


def test_a_gpu_that_cannot_be_opened_does_not_keep_the_others(observe: Observe) -> None:
    """Access may be given to some GPUs only: the rest is named, and left out."""
    faults = [call_fails("nvmlDeviceGetHandleByIndex_v2", 4, gpu=0)]
    seen = observe(Scenario(gpus=TWO, faults=faults), "bench.start()\nbench.fast(0)")
    assert seen.column("gpu_uuid") == [SECOND]
    assert seen.messages("gpu_unreadable") == ["GPU 0 cannot be opened: no permission"]


def test_a_driver_without_gpus_is_one_clear_line(observe: Observe) -> None:
    """It opened, and there is nothing behind it."""
    assert "lists no GPU" in observe(Scenario(faults=[fewer_gpus(0)]), "bench.start()").unavailable[0]


def test_a_changed_number_of_gpus_is_seen_at_the_next_start(observe: Observe) -> None:
    """A session keeps its GPUs; the next one describes what there is then."""
    body = "bench.start()\nbench.fast(0, 1)\nbench.start()\nbench.fast(2)"
    seen = observe(Scenario(gpus=TWO, faults=[fewer_gpus(1, from_s=1)]), body)
    assert [len(seen.column("power_w", uuid)) for uuid in (FIRST, SECOND)] == [3, 2]
    assert len(seen.described["gpus"]) == 1


# Metrics.


@pytest.mark.parametrize("column", WAYS)
def test_a_metric_that_a_gpu_lacks_is_null_and_never_zero(observe: Observe, column: str) -> None:
    """Each metric in turn, unsupported on one GPU and not permitted on another: null there, told once each, and all else is untouched."""
    scenario = Scenario(gpus=[Gpu()] * 3, faults=refusing(column, 3, gpu=0) + refusing(column, 4, gpu=1))
    seen = observe(scenario, "bench.start()\nbench.fast(0, 0.1)")
    together = next((group for group in TOGETHER if column in group), {column})
    assert [nulls(row) for row in seen.gpu] == [together, together, set()] * 2
    assert [event[0::2] for event in seen.events] == [
        ("metric_unavailable", scenario.uuid(0)),
        ("metric_unavailable", scenario.uuid(1)),
    ]
    for message, reason in zip(seen.messages("metric_unavailable"), ("not supported", "no permission"), strict=True):
        assert column in message
        assert reason in message


@pytest.mark.parametrize(
    "symbol", sorted({name for calls, _ in WAYS.values() for name in calls} | {"nvmlDeviceGetFieldValues"})
)
def test_a_missing_call_takes_nothing_else_with_it(observe: Observe, symbol: str) -> None:
    """A driver that lacks one symbol: at most the columns that nothing else tells are null."""
    (row,) = observe(Scenario(absent=[symbol]), "bench.start()\nbench.fast(0)").gpu
    alone = {column for column, (calls, fields) in WAYS.items() if calls == [symbol] and not fields}
    if symbol == "nvmlDeviceGetFieldValues":
        alone = {"power_w", "pcie_tx_bytes", "pcie_rx_bytes"}  # the plain power call is an average on this GPU
    assert nulls(row) == alone


@pytest.mark.parametrize("column", WAYS)
def test_a_call_that_fails_once_is_null_once(observe: Observe, column: str) -> None:
    """Whatever code a call answers with in between, the next tick has the value again."""
    faults = [
        fault for gpu, code in enumerate((6, 10, 999)) for fault in refusing(column, code, gpu=gpu, from_s=1, to_s=1.05)
    ]
    seen = observe(Scenario(gpus=[Gpu()] * 4, faults=faults), "bench.start()\nbench.fast(0.95, 1, 1.05)")
    assert [column in nulls(row) for row in seen.gpu] == [False] * 4 + [True] * 3 + [False] + [False] * 4


def test_a_call_that_goes_on_failing_is_told_and_asked_less_often(observe: Observe) -> None:
    """After three failures in a row the call is left out for longer and longer; when it answers, it is there again."""
    ticks = [round(tick / 10, 1) for tick in range(120)]
    fault = call_fails("nvmlDeviceGetPerformanceState", 999, from_s=1, to_s=6)
    seen = observe(Scenario(faults=[fault]), f"bench.start()\nbench.fast(*{ticks})")
    told = seen.messages("driver_call_failed")
    assert set(told) == {"GPU 0 (NVIDIA H100 80GB HBM3): pstate: unknown driver error"}
    assert 3 < len(told) < 15
    assert None not in seen.column("pstate")[:10]
    assert None not in seen.column("pstate")[-10:]
    assert None not in seen.column("power_w")


def test_a_gpu_that_tells_nothing_gives_no_rows(observe: Observe) -> None:
    """A row without a value would look like a reading."""
    faults = [fault for column in WAYS for fault in refusing(column, 3, gpu=0)]
    faults += [
        call_fails(name, 3, gpu=0)
        for name in (
            "nvmlDeviceGetFieldValues",
            "nvmlDeviceGetCurrPcieLinkGeneration",
            "nvmlDeviceGetCurrPcieLinkWidth",
        )
    ]
    seen = observe(Scenario(gpus=TWO, faults=faults), "bench.start()\nbench.fast(0, 1)")
    assert set(seen.column("gpu_uuid")) == {SECOND}


# Impossible values.


@pytest.mark.parametrize(
    ("what", "value", "column"),
    [
        ("util", 101, "gpu_util_pct"),
        ("util", 0xFFFFFFFF, "gpu_util_pct"),
        ("memory_util", 255, "memory_util_pct"),
        ("memory", 81 * GIB, "memory_used_bytes"),
        ("power", 7_000_001, "power_w"),
        ("power", 0xFFFFFFFF, "power_w"),
        ("power_average", 0xFFFFFFFF, "power_average_w"),
        ("energy", -1, "energy_j"),
        ("energy", 10**12, "energy_j"),
        ("sm_clock", 0xFFFFFFFF, "sm_clock_mhz"),
        ("memory_clock", 0xFFFFFFFF, "memory_clock_mhz"),
        ("temperature", -5, "temperature_c"),
        ("temperature", 0xFFFF, "temperature_c"),
        ("pstate", 16, "pstate"),
        ("reasons", -1, "clocks_event_reasons"),
    ],
)
def test_an_impossible_value_is_null_and_counted(observe: Observe, what: str, value: int, column: str) -> None:
    """Nonsense for two ticks of four: null there, the truth before and after, and one event that counts it."""
    body = "bench.start()\nbench.fast(0.9, 1, 1.1, 1.2)\nbench.collector.stop()"
    seen = observe(Scenario(gpus=TWO, faults=[garbage(what, value, gpu=0, from_s=1, to_s=1.15)]), body)
    assert [value is None for value in seen.column(column, FIRST)] == [False, True, True, False]
    assert None not in seen.column(column, SECOND)
    messages = seen.messages("garbage_value")
    assert f"{column} 1" in messages[0]
    assert f"{column} 2" in messages[-1]


def test_an_unknown_performance_state_is_null_and_no_nonsense(observe: Observe) -> None:
    """The driver has a number for "unknown"."""
    seen = observe(Scenario(gpus=[Gpu(pstate=32)]), "bench.start()\nbench.fast(0)")
    assert seen.column("pstate") == [None]
    assert seen.events == []


def test_nonsense_is_told_at_once_then_once_a_minute(observe: Observe) -> None:
    """A value that is wrong for hours does not fill the recording with events; none of it goes uncounted."""
    ticks = list(range(150))
    seen = observe(
        Scenario(faults=[garbage("util", 150)]), f"bench.start()\nbench.fast(*{ticks})\nbench.collector.stop()", hz=1
    )
    counts = [int(message.split()[-1]) for message in seen.messages("garbage_value")]
    assert counts == [1, 61, 121, 150]


def test_an_energy_counter_that_starts_again_is_told(observe: Observe) -> None:
    """The first lower reading is not believed; the second is, and an event says that energy across this is unknown."""
    scenario = Scenario(gpus=[Gpu(power_w=100, energy_base_j=5000)], faults=[energy_reset(2)])
    seen = observe(scenario, "bench.start()\nbench.fast(1, 2, 3, 4)")
    assert seen.column("energy_j") == [5100, None, 100, 200]
    assert seen.kinds().count("energy_counter_reset") == 1


def test_a_single_low_energy_reading_is_no_new_start(observe: Observe) -> None:
    """A zero between true readings is nonsense, and nothing has started again."""
    scenario = Scenario(gpus=[Gpu(power_w=100, energy_base_j=5000)], faults=[garbage("energy", 0, from_s=2, to_s=3)])
    seen = observe(scenario, "bench.start()\nbench.fast(1, 2, 3, 4)")
    assert seen.column("energy_j") == [5100, None, 5300, 5400]
    assert "energy_counter_reset" not in seen.kinds()


# Lost GPUs.


@pytest.mark.parametrize("code", [15, 16])
def test_a_lost_gpu_is_told_once_and_the_others_go_on(observe: Observe, code: int) -> None:
    """No rows while it is lost, one event when it goes and one when it comes back, and its figures are right again."""
    ticks = [round(tick / 10, 1) for tick in range(80)]
    seen = observe(
        Scenario(gpus=TWO, faults=[gpu_lost(0, 1, 4, code=code)]),
        f"bench.start()\nbench.processes(0)\nbench.fast(*{ticks})",
    )
    instants = [instant / NS for instant in seen.column("mono_ns", FIRST)]
    assert [instant for instant in instants if instant < 1] == ticks[:10]
    assert not [instant for instant in instants if 1 <= instant < 4]
    assert len(seen.column("mono_ns", SECOND)) == len(ticks)
    assert [(kind, subject) for kind, _, subject in seen.events] == [("gpu_lost", FIRST), ("gpu_back", FIRST)]
    back = [row for row in seen.gpu if row["gpu_uuid"] == FIRST and row["mono_ns"] >= 4 * NS]
    assert back
    assert back[0]["mono_ns"] <= 5 * NS
    assert {row["power_w"] for row in back} == {100}
    assert back[-1]["energy_j"] == TWO[0].energy_reading_mj(round(7.9 * NS)) / 1000


def test_a_gpu_that_stays_lost_is_tried_ever_more_rarely(observe: Observe) -> None:
    """Each second for a minute, then at growing distances of up to a minute: a dead GPU costs next to nothing for hours."""
    ticks = list(range(1000))
    body = f"bench.start()\nbench.fast(*{ticks[:6]})\ncalls = bench.context.meter.calls\nbench.fast(*{ticks[6:]})\nout.append(bench.context.meter.calls - calls)"
    seen = observe(Scenario(gpus=[Gpu(pcie_counter_bits=64)], faults=[gpu_lost(0, 5)]), body, hz=1)
    assert len(seen.gpu) == 5
    assert seen.kinds() == ["gpu_lost"]
    assert 70 < seen.out[0] < 90  # 60 in the first minute, then 8, then one a minute


def test_a_gpu_that_is_back_is_recorded_within_a_second(observe: Observe) -> None:
    """However long it was away in the first minute."""
    ticks = [round(tick / 10, 1) for tick in range(360)]
    faults = [gpu_lost(0, 1.05, 4.85), gpu_lost(0, 10.05, 32.25)]
    seen = observe(Scenario(faults=faults), f"bench.start()\nbench.fast(*{ticks})")
    instants = [instant / NS for instant in seen.column("mono_ns")]
    assert min(instant for instant in instants if instant > 4.85) <= 5.85
    assert min(instant for instant in instants if instant > 32.25) <= 33.25


def test_a_gpu_that_is_back_is_noticed_between_the_ticks_of_a_slow_recording(observe: Observe) -> None:
    """At a tick every ten seconds, what empties the driver's rings each second finds it; its samples begin there."""
    body = "bench.start()\nbench.fast(0, 10)\nbench.samples(11, 12, 13, 14, 15)"
    seen = observe(Scenario(faults=[gpu_lost(0, 10, 13)]), body, hz=0.1)
    assert [kind for kind in seen.kinds() if kind != "metric_unavailable"] == ["gpu_lost", "gpu_back"]
    assert min(row["mono_ns"] for row in seen.gpu_sample) == 13 * NS + 60_000_000


def test_what_was_left_out_is_still_counted_when_a_gpu_was_lost_and_came_back(observe: Observe) -> None:
    """The count is the run's, not of the time since the GPU was opened."""
    faults = [garbage("util", 150, to_s=0.15), gpu_lost(0, 1, 2), garbage("util", 150, from_s=3)]
    seen = observe(Scenario(faults=faults), "bench.start()\nbench.fast(0, 0.1, 1, 2, 3)\nbench.collector.stop()")
    assert seen.described["left_out"] == {FIRST: {"impossible": {"gpu_util_pct": 3}}}


def test_a_gpu_that_is_lost_twice_is_told_twice(observe: Observe) -> None:
    """The second event says that it is the second."""
    faults = [gpu_lost(0, 1, 2), gpu_lost(0, 4, 5)]
    seen = observe(Scenario(faults=faults), f"bench.start()\nbench.fast(*{list(range(9))})")
    assert seen.kinds() == ["gpu_lost", "gpu_back", "gpu_lost", "gpu_back"]
    assert "(for the 2. time)" in seen.messages("gpu_lost")[1]


def test_a_gpu_that_is_lost_while_processes_are_polled_is_told_all_the_same(observe: Observe) -> None:
    """Whichever tier notices first."""
    seen = observe(
        Scenario(gpus=TWO, faults=[gpu_lost(0, 1, 2)]),
        "bench.start()\nbench.processes(0, 1)\nbench.fast(1, 3)\nbench.processes(3)\nbench.fast(4)",
    )
    assert seen.kinds() == ["gpu_lost", "gpu_back"]
    assert seen.column("processes", FIRST) == [None, 0]
    assert seen.column("processes", SECOND) == [0, None, 0]


def test_a_gpu_that_is_lost_at_the_start_is_recorded_once_it_is_back(observe: Observe) -> None:
    """Its metrics are found out when it answers."""
    faults = [call_fails("nvmlDeviceGetFieldValues", 15, gpu=0, to_s=3)]
    gpus = [Gpu(pcie_counter_bits=64)] * 2
    seen = observe(Scenario(gpus=gpus, faults=faults), f"bench.start()\nbench.fast(*{list(range(8))})")
    assert seen.kinds() == ["gpu_lost", "gpu_back"]
    assert nulls(seen.gpu[-2]) == nulls(seen.gpu[-1]) == set()
    assert min(seen.column("mono_ns", FIRST)) == 3 * NS


def test_a_field_that_says_the_gpu_is_lost_is_believed(observe: Observe) -> None:
    """The code may come with one field of a batch that succeeded."""
    seen = observe(Scenario(faults=[field_fails(186, 15, from_s=1, to_s=2)]), "bench.start()\nbench.fast(0, 1, 2, 3)")
    assert seen.kinds() == ["gpu_lost", "gpu_back"]
    assert seen.column("mono_ns") == [0, 2 * NS, 3 * NS]


# Slow calls.


def test_one_slow_call_changes_nothing(observe: Observe) -> None:
    """A single hiccup is no reason to ask less often."""
    fault = slow("nvmlDeviceGetPerformanceState", sleep_us=30_000, times=2)
    seen = observe(Scenario(faults=[fault]), f"bench.start()\nbench.fast(*{[tick / 10 for tick in range(20)]})")
    assert None not in seen.column("pstate")
    assert seen.events == []


def test_a_call_that_got_slow_is_asked_less_often_and_the_others_as_before(observe: Observe) -> None:
    """40 ms of every 100 ms in one call: it is thinned out until all calls keep to a hundredth of the time, and the report is told."""
    fault = slow("nvmlDeviceGetPerformanceState", sleep_us=40_000)
    seen = observe(Scenario(faults=[fault]), f"bench.start()\nbench.fast(*{[tick / 10 for tick in range(40)]})")
    asked = [value is not None for value in seen.column("pstate")]
    assert all(asked[:6])
    assert sum(asked[6:]) <= 3
    assert None not in seen.column("gpu_util_pct")
    assert None not in seen.column("energy_j")
    assert any(message.startswith("pstate takes ") for message in seen.messages("driver_call_slow"))


def test_a_dear_field_stands_alone_and_is_asked_once_a_second(observe: Observe) -> None:
    """On some cards average power takes milliseconds: it must not hold up the fields that cost nothing."""
    seen = observe(
        Scenario(faults=[slow_field(185, sleep_us=3000)]),
        f"bench.start()\nbench.fast(*{[tick / 10 for tick in range(30)]})",
    )
    assert None not in seen.column("power_w")
    assert sum(value is not None for value in seen.column("power_average_w")) == 3
    assert seen.events == []
