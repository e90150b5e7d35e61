"""The NVML collector against a driver whose truth is known: what it says when all is well."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from driver.scenario import GIB, MIB, NS, Gpu, Process, Scenario, call_fails, field_fails

Observe = Callable[..., Any]

TICKS = [round(tick / 10, 1) for tick in range(41)]
SAMPLE = f"bench.start()\nbench.fast(*{TICKS})\nbench.collector.stop()"
BUSY = Gpu(
    util_pct=[(0, 0), (1, 80), (2.2, 25), (3, 0)],
    memory_util_pct=[(0, 0), (1, 30), (3, 0)],
    power_w=[(0, 70), (1, 512.345), (3, 90)],
    used_bytes=[(0, 0), (0.5, 4 * GIB), (3.5, MIB)],
    sm_clock_mhz=[(0, 345), (1, 1980)],
    memory_clock_mhz=[(0, 405), (1, 2619)],
    temperature_c=[(0, 31), (2, 67)],
    pstate=[(0, 8), (1, 0)],
    reasons=[(0, 1), (1, 0x4)],
    pcie_tx_bytes_per_s=[(0, 0), (0.5, 20_000_000_000)],
    pcie_rx_bytes_per_s=1000,
    energy_base_j=123.456,
)


def test_every_column_is_the_truth_at_every_tick(observe: Observe) -> None:
    """All that the driver tells arrives, in the schema's units, to the last digit."""
    seen = observe(Scenario(gpus=[BUSY]), SAMPLE)
    assert len(seen.gpu) == len(TICKS)
    for tick, row in zip(TICKS, seen.gpu, strict=True):
        t_ns = round(tick * NS)
        expected = {
            "mono_ns": t_ns,
            "time_ns": 1_700_000_000 * NS + t_ns,
            "gpu_uuid": Scenario().uuid(0),
            "gpu_util_pct": BUSY.utilization_reading(t_ns),
            "memory_used_bytes": 512 * MIB + (0 if tick < 0.5 else 4 * GIB if tick < 3.5 else MIB),
            "power_w": BUSY.power_mw.at(t_ns) / 1000,
            "power_average_w": BUSY.power_average_reading_mw(t_ns) / 1000,
            "energy_j": BUSY.energy_reading_mj(t_ns) / 1000,
            "sm_clock_mhz": 345 if tick < 1 else 1980,
            "memory_clock_mhz": 405 if tick < 1 else 2619,
            "temperature_c": 31 if tick < 2 else 67,
            "pstate": 8 if tick < 1 else 0,
            "clocks_event_reasons": 1 if tick < 1 else 4,
            "pcie_tx_bytes": BUSY.pcie_bytes(t_ns, sends=True),
            "pcie_rx_bytes": BUSY.pcie_bytes(t_ns, sends=False),
            "processes": None,
            "run_processes": None,
        }
        assert {name: row[name] for name in expected} == expected
    assert seen.events == []


def test_busy_seconds_and_energy_come_out_exactly(observe: Observe) -> None:
    """What an analyzer computes from the rows is what the GPU really did: utilization is that of the 200 ms before, energy a difference."""
    seen = observe(Scenario(gpus=[BUSY]), SAMPLE)
    every_other = seen.gpu[2::2]
    assert sum(row["gpu_util_pct"] / 100 * 0.2 for row in every_other) == pytest.approx(BUSY.busy_seconds(0, 4 * NS))
    assert seen.gpu[-1]["energy_j"] - seen.gpu[0]["energy_j"] == pytest.approx(BUSY.energy_j(0, 4 * NS), abs=0.001)
    assert seen.gpu[-1]["pcie_tx_bytes"] == 70_000_000_000  # through many turns of a 32-bit counter


def test_identity_and_versions_are_described(observe: Observe) -> None:
    """The manifest learns who the GPUs are, and of which versions driver, NVML and CUDA are."""
    seen = observe(
        Scenario(gpus=[Gpu(), Gpu(name="NVIDIA A10", architecture=7, compute_capability=(8, 6), power_limit_w=150)]),
        "bench.start()",
    )
    assert seen.described["driver"] == {"driver": "570.86.15", "nvml": "12.570.86.15", "cuda": "12.8"}
    first, second = seen.described["gpus"]
    assert first == {
        "uuid": Scenario().uuid(0),
        "name": "NVIDIA H100 80GB HBM3",
        "index": 0,
        "held": True,
        "memory_total_bytes": 80 * GIB,
        "memory_reserved_bytes": 512 * MIB,
        "power_limit_w": 700,
        "pci_bus_id": "00000000:01:00.0",
        "architecture": "Hopper",
        "compute_capability": "9.0",
    }
    assert [second[name] for name in ("index", "architecture", "compute_capability", "power_limit_w")] == [
        1,
        "Ampere",
        "8.6",
        150,
    ]


@pytest.mark.parametrize(
    ("hz", "fast", "processes"), [(10, NS // 10, NS), (50, NS // 50, NS), (0.1, 10 * NS, 10 * NS), (1, NS, NS)]
)
def test_tiers_follow_the_rate(observe: Observe, hz: float, fast: int, processes: int) -> None:
    """Fields at the user's rate; processes once a second, or as rarely as the fields; processes first, so that counts join the row after.

    What the driver keeps between ticks is taken once a second at any rate.
    """
    assert observe(Scenario(), "bench.start()", hz=hz).tiers == [
        ["processes", processes],
        ["fast", fast],
        ["samples", NS],
    ]


def test_only_held_gpus_are_sampled(observe: Observe) -> None:
    """CUDA_VISIBLE_DEVICES decides, unless --gpus does; nothing is asked of other GPUs but who they are."""
    three = Scenario(gpus=[Gpu()] * 3)
    body = "bench.start()\nbench.fast(0, 1)"
    visible = observe(three, body, environ={"CUDA_VISIBLE_DEVICES": "2,0"})
    assert {row["gpu_uuid"] for row in visible.gpu} == {three.uuid(0), three.uuid(2)}
    assert [gpu["index"] for gpu in visible.described["gpus"]] == [0, 2]
    asked = observe(three, body, gpus="1", environ={"CUDA_VISIBLE_DEVICES": "2,0"})
    assert asked.column("gpu_uuid") == [three.uuid(1)] * 2
    node = observe(three, body, bill="node", environ={"CUDA_VISIBLE_DEVICES": ""})
    assert [gpu["held"] for gpu in node.described["gpus"]] == [True] * 3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"environ": {"CUDA_VISIBLE_DEVICES": ""}}, "hides every GPU"),
        ({"environ": {"CUDA_VISIBLE_DEVICES": "0,7"}}, "stops reading at `7`"),
        ({"gpus": "0", "bill": "node"}, "every GPU of this machine is billed"),
    ],
)
def test_what_is_unusual_about_the_choice_is_one_event(observe: Observe, settings: dict[str, Any], says: str) -> None:
    """The report can then say why these GPUs and no others."""
    (message,) = observe(Scenario(gpus=[Gpu()] * 2), "bench.start()", **settings).messages("gpu_selection")
    assert says in message


def test_no_visible_gpu_means_no_tiers(observe: Observe) -> None:
    """There is nothing to sample, which is no failure."""
    seen = observe(Scenario(), "bench.start()\nbench.collector.stop()", environ={"CUDA_VISIBLE_DEVICES": ""})
    assert (seen.tiers, seen.described["gpus"], seen.unavailable) == ([], [], None)


def test_simulated_gpus_are_left_to_another_collector(observe: Observe) -> None:
    """The driver is not even opened."""
    seen = observe(Scenario(), "bench.start()\nbench.collector.stop()", gpus="sim:h100:2")
    assert (seen.tiers, seen.calls, seen.described) == ([], 0, {})


def test_driver_calls_are_on_the_meter(observe: Observe) -> None:
    """Eight calls a GPU and tick: one batch of fields, utilization, memory, two clocks, temperature, P-state, clock-event reasons.

    Once a second three more: counters, and the link's generation and width.
    """
    seen = observe(
        Scenario(gpus=[Gpu()] * 2), "bench.start()\nout.append(bench.context.meter.calls)\nbench.fast(0, 1, 2)"
    )
    assert seen.calls - seen.out[0] == 3 * 2 * 8 + 2 * 3
    assert seen.wall_ns > 0


def test_the_collector_can_be_started_again(observe: Observe) -> None:
    """Each start opens one session, and each stop closes it; stop without start, and twice, does nothing."""
    body = "bench.collector.stop()\nbench.start()\nbench.start()\nbench.fast(0)\nbench.collector.stop()\nbench.collector.stop()\nbench.start()\nbench.fast(1)"
    assert observe(Scenario(), body).column("mono_ns") == [0, NS]


def test_a_session_that_was_closed_under_us_is_opened_again(observe: Observe) -> None:
    """The sample fails, and the next one has a session."""
    body = """
import pynvml
bench.start()
bench.fast(0)
pynvml.nvmlShutdown()
try:
    bench.fast(1)
except Exception as error:
    out.append(str(error))
bench.fast(2)
"""
    seen = observe(Scenario(), body)
    assert seen.out == ["the session with the driver was closed"]
    assert seen.column("mono_ns") == [0, 2 * NS]


@pytest.mark.parametrize(
    ("gpu", "instant", "average"),
    [
        (Gpu(power_w=[(0, 100), (1, 500)]), 500, 200),
        (Gpu(power_w=[(0, 100), (1, 500)], power_averages=False, compute_capability=(8, 0)), 500, None),
    ],
)
def test_power_means_what_its_column_says(observe: Observe, gpu: Gpu, instant: float, average: float | None) -> None:
    """Instantaneous in one column, the driver's average in the other; on a device without averages there is none."""
    (row,) = observe(Scenario(gpus=[gpu]), "bench.start()\nbench.fast(1.25)").gpu
    assert (row["power_w"], row["power_average_w"]) == (instant, average)


@pytest.mark.parametrize(
    ("capability", "averages", "column"),
    [((8, 0), False, "power_w"), ((7, 0), False, "power_w"), ((8, 6), True, "power_average_w")],
)
def test_the_plain_power_call_goes_where_it_belongs(
    observe: Observe, capability: tuple[int, int], averages: bool, column: str
) -> None:
    """Without the fields, the plain call is instantaneous up to GA100 and an average after it; the other column stays null."""
    gpu = Gpu(power_w=[(0, 100), (1, 500)], compute_capability=capability, power_averages=averages)
    seen = observe(Scenario(gpus=[gpu], absent=["nvmlDeviceGetFieldValues"]), "bench.start()\nbench.fast(1.25)")
    (row,) = seen.gpu
    other = {"power_w": "power_average_w", "power_average_w": "power_w"}[column]
    assert (row[column], row[other]) == (200 if averages else 500, None)
    assert row["energy_j"] == gpu.energy_reading_mj(1_250_000_000) / 1000
    assert other in seen.messages("metric_unavailable")[0]


def test_a_module_that_tells_only_its_sum_is_said_to(observe: Observe) -> None:
    """On a chip that joins CPU and GPU, power and energy may exist for both together: they are kept, and the report is told."""
    gpu = Gpu(power_w=200, module_power_w=450, module_scope_only=True)
    seen = observe(Scenario(gpus=[gpu]), "bench.start()\nbench.fast(0, 1)")
    assert seen.column("power_w") == [450, 450]
    assert seen.column("power_average_w") == [450, 450]
    assert seen.column("energy_j") == [0, 450]
    (message,) = seen.messages("power_of_module")
    assert message.endswith(": power_w, power_average_w, energy_j are of the whole module, CPU included")
    assert seen.kinds() == ["power_of_module"]


def test_energy_without_its_field_comes_from_the_older_call(observe: Observe) -> None:
    """The counter is the same."""
    faults = [field_fails(83, 3), field_fails(191, 3)]
    seen = observe(Scenario(gpus=[BUSY], faults=faults), "bench.start()\nbench.fast(2)")
    assert seen.column("energy_j") == [BUSY.energy_reading_mj(2 * NS) / 1000]
    assert seen.events == []


def test_used_memory_includes_the_reserve_whichever_version_tells_it(observe: Observe) -> None:
    """The two versions count differently; the column does not."""
    gpu = Gpu(reserved_bytes=300 * MIB, used_bytes=5 * MIB)
    newer = observe(Scenario(gpus=[gpu]), "bench.start()\nbench.fast(0)")
    older = observe(Scenario(gpus=[gpu], absent=["nvmlDeviceGetMemoryInfo_v2"]), "bench.start()\nbench.fast(0)")
    assert newer.column("memory_used_bytes") == older.column("memory_used_bytes") == [305 * MIB]
    assert newer.described["gpus"][0]["memory_reserved_bytes"] == 300 * MIB
    assert older.described["gpus"][0]["memory_reserved_bytes"] is None


def test_an_old_driver_is_asked_in_its_own_way(observe: Observe) -> None:
    """Without the newer calls, every metric but the fields' own comes from the older ones."""
    absent = [
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
        "nvmlDeviceGetMigMode",
    ]
    gpu = Gpu(processes=[Process(pid=os.getpid(), memory_bytes=GIB)], temperature_c=55, reasons=4)
    seen = observe(Scenario(gpus=[gpu], absent=absent), "bench.start()\nbench.processes(1)\nbench.fast(1)")
    (row,) = seen.gpu
    known = {name for name, value in row.items() if value is not None}
    assert known >= {
        "gpu_util_pct",
        "memory_used_bytes",
        "power_w",
        "energy_j",
        "pstate",
        "processes",
        "sw_power_cap_ns",
        "pcie_link_gen",
    }
    assert (row["temperature_c"], row["clocks_event_reasons"], row["processes"]) == (55, 4, 1)
    assert seen.gpu_process[0]["memory_used_bytes"] == GIB


@pytest.mark.parametrize(
    ("gpu", "hz", "followed"),
    [
        (Gpu(pcie_tx_bytes_per_s=10**9), 10, True),
        (Gpu(pcie_tx_bytes_per_s=10**9), 1, False),
        (Gpu(pcie_tx_bytes_per_s=10**9, pcie_gen=5), 10, False),
        (Gpu(pcie_tx_bytes_per_s=10**9, pcie_gen=5), 20, True),
        (Gpu(pcie_tx_bytes_per_s=10**9, pcie_gen=5, pcie_counter_bits=64), 1, True),
        (Gpu(pcie_tx_bytes_per_s=10**9, pcie_gen=0), 10, False),
    ],
)
def test_a_counter_that_could_wrap_unseen_is_not_believed(
    observe: Observe, gpu: Gpu, hz: float, followed: bool
) -> None:
    """Where the link could carry 4 GiB between two readings, a 32-bit counter says nothing; which rate would do is said."""
    seen = observe(Scenario(gpus=[gpu]), f"bench.start()\nbench.fast(0, {1 / hz}, {2 / hz})", hz=hz)
    expected = [0, round(10**9 / hz), round(2 * 10**9 / hz)]
    assert seen.column("pcie_tx_bytes") == (expected if followed else [None] * 3)
    assert ("--hz" in "".join(seen.messages("metric_unavailable"))) != followed


def test_a_late_reading_loses_the_count_and_nothing_else(observe: Observe) -> None:
    """After a gap in which the counter may have wrapped, that reading is null and counting goes on from there."""
    seen = observe(Scenario(gpus=[Gpu(pcie_tx_bytes_per_s=10**9)]), "bench.start()\nbench.fast(0, 0.1, 1, 1.1)")
    assert seen.column("pcie_tx_bytes") == [0, 10**8, None, 2 * 10**8]


def test_a_metric_that_the_driver_refuses_costs_nothing_afterwards(observe: Observe) -> None:
    """Refused once, it is not asked again."""
    scenario = Scenario(faults=[call_fails("nvmlDeviceGetClockInfo", 3)])
    seen = observe(scenario, "bench.start()\nout.append(bench.context.meter.calls)\nbench.fast(0, 1)")
    assert seen.calls - seen.out[0] == 2 * 6 + 3
