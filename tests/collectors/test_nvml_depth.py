"""The NVML collector's deeper readings: true activity, what the driver kept between ticks, time held down, events, costs of calls."""

import ctypes
import json
from collections.abc import Callable
from typing import Any

import pytest

from driver.scenario import NS, ROW_RETIRED, Activity, Event, Gpu, Mig, Process, Scenario, call_fails, garbage, gpu_lost
from gpucost.collectors._nvml_costs import Histogram
from gpucost.collectors._nvml_periods import PeriodFinder

Observe = Callable[..., Any]
UTC = 1_700_000_000 * NS

BUSY = Gpu(
    sm_clock_mhz=[(0, 1000), (2, 2000)],
    activity=Activity(sm=[(0, 20), (2, 80)], occupancy=30, tensor=40, fp64=None, fp32=5, fp16=1, dram=60),
    pcie_tx_bytes_per_s=2 * 10**9,
    nvlink_rx_bytes_per_s=3 * 2**20,
)


def test_true_activity_is_of_windows_that_adjoin(observe: Observe) -> None:
    """The first sample only opens a window; each later one closes it and opens the next; bytes are bytes a second; the clock stands beside."""
    seen = observe(Scenario(gpus=[BUSY]), "bench.start()\nbench.fast(0, 1, 3)", hz=1)
    assert seen.column("activity_window_ns") == [None, NS, 2 * NS]
    assert seen.column("sm_active_pct") == [None, 20, 60]
    assert seen.column("sm_clock_mhz") == [1000, 1000, 2000]
    last = seen.gpu[-1]
    assert (last["sm_occupancy_pct"], last["tensor_active_pct"], last["dram_active_pct"]) == (30, 40, 60)
    assert (last["fp64_active_pct"], last["fp32_active_pct"]) == (None, 5)
    assert last["pcie_tx_bytes_per_s"] == pytest.approx(2e9)
    assert (last["nvlink_rx_bytes_per_s"], last["nvlink_tx_bytes_per_s"]) == (3 * 2**20, None)


def test_two_samples_of_activity_are_more_than_100_ms_apart(observe: Observe) -> None:
    """At a faster rate a window spans several ticks."""
    ticks = ", ".join(str(tick / 20) for tick in range(9))
    seen = observe(Scenario(gpus=[BUSY]), f"bench.start()\nbench.fast({ticks})", hz=20)
    windows = seen.column("activity_window_ns")
    assert windows == [None, None, None, NS * 15 // 100, None, None, NS * 15 // 100, None, None]


@pytest.mark.parametrize("code", [4, 19])
def test_activity_that_is_refused_in_mid_run_ends_nothing_else(observe: Observe, code: int) -> None:
    """Permission lost, or the counters taken by another profiler: null from then on, said once, and back when it is back."""
    fault = call_fails("nvmlGpmSampleGet", code, from_s=2.5, to_s=4.5)
    seen = observe(Scenario(gpus=[BUSY], faults=[fault]), "bench.start()\nbench.fast(1, 2, 3, 4, 5, 6, 7)", hz=1)
    known = [value is not None for value in seen.column("sm_active_pct")]
    assert known == [False, True, False, False, False, True, True]
    assert seen.column("power_w") == [70] * 7
    assert seen.column("activity_window_ns")[5] == NS
    assert any("gpm" in message for message in seen.messages("driver_call_failed"))


def test_a_gpu_without_activity_has_none_and_no_event_says_so(observe: Observe) -> None:
    """Most GPUs have none: that is a fact for `gpucost doctor`, not for every report."""
    seen = observe(Scenario(), "bench.start()\nbench.fast(0, 1)", hz=1)
    assert seen.column("sm_active_pct") == [None, None]
    assert not any("activity" in message for message in seen.messages("metric_unavailable"))


def test_activity_above_100_is_dropped_and_counted(observe: Observe) -> None:
    gpu = Gpu(activity=Activity(sm=150, dram=100.2))
    seen = observe(Scenario(gpus=[gpu]), "bench.start()\nbench.fast(0, 1)", hz=1)
    assert (seen.gpu[-1]["sm_active_pct"], seen.gpu[-1]["dram_active_pct"]) == (None, 100)
    assert "sm_active_pct 1" in seen.messages("garbage_value")[0]


def test_each_mig_device_has_its_own_activity(observe: Observe) -> None:
    migs = [
        Mig(uuid="MIG-a", gi=1, activity=Activity(sm=30)),
        Mig(uuid="MIG-b", gi=2, index=1, activity=Activity(sm=70)),
    ]
    gpu = Gpu(mig_enabled=True, migs=migs)
    seen = observe(Scenario(gpus=[gpu]), "bench.start()\nbench.fast(0, 1)", hz=1, gpus="all")
    assert (seen.column("sm_active_pct", "MIG-a")[-1], seen.column("sm_active_pct", "MIG-b")[-1]) == (30, 70)


# What the driver kept.


def test_samples_between_ticks_are_each_taken_once(observe: Observe) -> None:
    """Whatever the rate of the draining, the series is the driver's own, without holes and without repetitions; power as means of a tenth of a second."""
    gpu = Gpu(util_pct=[(0, 0), (2, 100), (2.2, 0)], power_w=[(0, 100), (2.05, 300)])
    seen = observe(Scenario(gpus=[gpu]), "bench.start()\nbench.samples(1, 2, 2.1, 3, 3)", hz=1)
    power = [(row["mono_ns"], row["power_w"]) for row in seen.gpu_sample if row["power_w"] is not None]
    middles = range(
        60_000, 2_860_001, 100_000
    )  # of 20 to 100 ms, 120 to 200 ms, and so on; the last five wait for the next one
    assert power == [(us * 1000, 100 if us < 2_000_000 else 220 if us < 2_100_000 else 300) for us in middles]
    util = [(row["mono_ns"], row["gpu_util_pct"]) for row in seen.gpu_sample if row["gpu_util_pct"] is not None]
    assert util == [(k * NS // 5, 100 if k == 11 else 0) for k in range(1, 16)]
    assert all(row["time_ns"] == UTC + row["mono_ns"] for row in seen.gpu_sample)
    assert all(row["module_power_w"] is None for row in seen.gpu_sample)


def test_no_sample_of_power_is_lost_at_a_tenth_of_a_hertz(observe: Observe) -> None:
    """The driver's ring holds 2.4 s of power: the tier that empties it does not wait for the ticks, which are 10 s apart."""
    ticking = """
bench.start()
for second in range(1, 31):
    bench.clock.set(second)
    for name, period_ns in bench.seen["tiers"]:
        if second * 10**9 % period_ns == 0:
            bench.collector.sample(name)
"""
    seen = observe(Scenario(gpus=[Gpu(power_w=[(0, 100), (12.345, 300)])]), ticking, hz=0.1)
    power = [(row["mono_ns"], row["power_w"]) for row in seen.gpu_sample if row["power_w"] is not None]
    middles = range(60_000_000, 30 * NS - 100_000_000, 100_000_000)  # of 20 to 100 ms, 120 to 200 ms, and so on
    levels = [100 if ns < 12_300_000_000 else 220 if ns < 12_400_000_000 else 300 for ns in middles]
    assert power == list(zip(middles, levels, strict=True))
    assert len(seen.gpu) == 3


def test_what_happened_before_the_start_is_not_sampled(observe: Observe) -> None:
    seen = observe(Scenario(), "bench.clock.set(10)\nbench.start()\nbench.samples(10.5)", hz=1)
    power = [row["mono_ns"] for row in seen.gpu_sample if row["power_w"] is not None]
    assert power == [10_060_000_000 + k * 100_000_000 for k in range(4)]


def test_ticks_that_come_often_read_the_power_themselves(observe: Observe) -> None:
    """Then the ring would say the same again, at twice the cost."""
    seen = observe(Scenario(), "bench.start()\nbench.samples(1, 2)", hz=10)
    assert {row["power_w"] for row in seen.gpu_sample} == {None}
    assert len([row for row in seen.gpu_sample if row["gpu_util_pct"] is not None]) == 10


def test_impossible_samples_are_dropped_and_counted(observe: Observe) -> None:
    scenario = Scenario(faults=[garbage("util", 101, from_s=0.5)])
    seen = observe(scenario, "bench.start()\nbench.samples(1)\nbench.fast(1)")
    assert {row["gpu_util_pct"] for row in seen.gpu_sample} == {None}
    assert "sample gpu_util_pct 5" in seen.messages("garbage_value")[0]


def test_a_gpu_that_is_lost_while_its_samples_are_drained_is_told(observe: Observe) -> None:
    seen = observe(Scenario(faults=[gpu_lost(0, 1.5)]), "bench.start()\nbench.samples(1, 2, 3)")
    assert seen.kinds() == ["gpu_lost"]
    assert max(row["mono_ns"] for row in seen.gpu_sample) == NS


def test_a_module_has_power_samples_of_its_own(observe: Observe) -> None:
    gpu = Gpu(module_power_w=900, module_scope_only=True)
    seen = observe(Scenario(gpus=[gpu]), "bench.start()\nbench.samples(0.15)", hz=1)
    assert {(row["power_w"], row["module_power_w"]) for row in seen.gpu_sample} == {(None, 900)}


# Why it was slow.


def test_time_held_down_is_counted_by_reason(observe: Observe) -> None:
    """Not a snapshot: what happened between two readings is in the counter."""
    gpu = Gpu(reasons=[(0, 0), (1.2, 0x4), (1.4, 0x4 | 0x40), (1.5, 0)])
    seen = observe(Scenario(gpus=[gpu]), "bench.start()\nbench.fast(1, 2)", hz=1)
    assert seen.column("clocks_event_reasons") == [0, 0]
    assert seen.column("sw_power_cap_ns") == [0, 3 * NS // 10]
    assert seen.column("hw_thermal_ns") == [0, NS // 10]
    assert seen.column("sync_boost_ns") == [0, 0]
    assert seen.column("pcie_link_gen") == [4, 4]
    assert seen.column("pcie_link_width") == [16, 16]


def test_counters_and_links_are_asked_once_a_second(observe: Observe) -> None:
    ticks = ", ".join(str(tick / 10) for tick in range(21))
    seen = observe(Scenario(), f"bench.start()\nbench.fast({ticks})")
    known = [place for place, value in enumerate(seen.column("sw_power_cap_ns")) if value is not None]
    assert known == [0, 10, 20]
    assert [place for place, value in enumerate(seen.column("pcie_link_width")) if value is not None] == [0, 10, 20]


def test_the_drivers_events_are_told_in_words(observe: Observe) -> None:
    """By a thread of its own, each with the GPU it is about."""
    events = [Event(at_s=1, data=79, gpu=1), Event(at_s=1, kind=ROW_RETIRED), Event(at_s=1, data=4711, gi=3)]
    body = """
import time
bench.start()
bench.clock.set(2)
until = time.monotonic() + 20
while len(bench.seen["events"]) < 3 and time.monotonic() < until:
    time.sleep(0.01)
"""
    seen = observe(Scenario(gpus=[Gpu(), Gpu()], events=events), body)
    scenario = Scenario()
    title = "NVIDIA H100 80GB HBM3"
    assert sorted(seen.events) == [
        (
            "row_remap",
            f"GPU 0 ({title}): memory was taken out of use: a page was retired or a row remapped",
            scenario.uuid(0),
        ),
        ("xid", f"GPU 0 ({title}): XID 4711 in GPU instance 3", scenario.uuid(0)),
        ("xid", f"GPU 1 ({title}): XID 79: the GPU has fallen off the bus", Scenario(gpus=[Gpu(), Gpu()]).uuid(1)),
    ]


# What it costs.


def test_every_call_leaves_its_durations(observe: Observe) -> None:
    """The manifest gets count, quantiles and buckets of every sort of call, and the periods of the sensors."""
    body = "bench.start()\nbench.fast(0, 1)\nbench.processes(1)\nbench.samples(1)\nbench.collector.stop()"
    seen = observe(Scenario(gpus=[Gpu(activity=Activity())]), body, hz=1)
    calls = seen.described["driver_calls"]
    assert calls["nvmlDeviceGetUtilizationRates"]["calls"] == 2  # the trial, and the first reading of sixteen
    assert sum(calls["nvmlDeviceGetUtilizationRates"]["buckets_us"].values()) == 2
    assert {
        "nvmlInit",
        "nvmlDeviceGetFieldValues",
        "process lists",
        "nvmlDeviceGetSamples",
        "nvmlGpmSampleGet, nvmlGpmMetricsGet",
    } <= calls.keys()
    periods = seen.described["sensor_periods_ns"][Scenario().uuid(0)]
    assert (periods["power_w"], periods["gpu_util_pct"]) == (20_000_000, 200_000_000)
    json.dumps(seen.described)


def test_a_histogram_bounds_its_quantiles_within_a_factor_of_two() -> None:
    histogram = Histogram()
    for _ in range(99):
        histogram.add(1000)
    histogram.add(5_000_000)
    assert 1000 <= histogram.quantile_ns(0.5) < 2000
    assert histogram.quantile_ns(1.0) == 5_000_000
    assert histogram.facts()["calls"] == 100
    assert histogram.facts()["max_us"] == 5000
    assert Histogram().quantile_ns(0.5) == 0


def test_a_process_on_the_gpu_changes_nothing_of_this(observe: Observe) -> None:
    gpu = Gpu(processes=[Process(pid=1, sm_util_pct=5)], activity=Activity(sm=10))
    seen = observe(Scenario(gpus=[gpu]), "bench.start()\nbench.processes(1)\nbench.fast(1, 2)", hz=1)
    assert seen.column("sm_active_pct") == [None, 10]


class Handle(ctypes.Structure):
    """What the binding's handles point to."""


class CountingNvml:
    """A session whose energy counters move at every third asking, but for those of some handles; remembers whom it was asked about."""

    def __init__(self, still: set[int] = frozenset()) -> None:
        self.asked: list[int] = []
        self._still = still

    def bind(self, _name: str, handle: Any, out: Any) -> Callable[[], int]:
        address = ctypes.addressof(handle._obj)

        def call() -> int:
            self.asked.append(address)
            out._obj.value = 1 if address in self._still else self.asked.count(address) // 3
            return 0

        return call

    def timed(self, call: Callable[[], int], _name: str) -> tuple[int, int]:
        return call(), 1


@pytest.mark.parametrize(("still", "asked"), [(set(), {1, 4}), ({1}, {1, 2, 4})])
def test_the_period_of_the_energy_counter_is_found_on_one_gpu_of_each_product(still: set[int], asked: set[int]) -> None:
    nvml, found = CountingNvml(still), {}
    names = ["H100", "H100", "H100", "L4"]
    gpus = [(name, f"GPU-{at}", ctypes.cast(at, ctypes.POINTER(Handle))) for at, name in enumerate(names, start=1)]
    finder = PeriodFinder(nvml, gpus, found.__setitem__, delay_s=0)
    finder.run()
    assert set(nvml.asked) == asked
    assert set(found) == {"GPU-1", "GPU-2", "GPU-3", "GPU-4"}
