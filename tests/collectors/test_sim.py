"""Simulated GPUs: load that follows the command's CPU use, by exact numbers."""

import contextlib
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector_harness import FakeProc, Lent
from gpucost.clock import SystemClock
from gpucost.collectors import sim
from gpucost.collectors.base import SourceUnavailable
from gpucost.collectors.sim import (
    CONTEXT_BYTES,
    MEMORY_PER_RSS,
    RESERVED_BYTES,
    Load,
    SimCollector,
    SimulatedGpu,
    Simulation,
)
from gpucost.errors import UsageError

GIB = 1024**3
A, B, C = (11, 100), (12, 200), (13, 300)


def devices(count, tdp_w=700.0, memory_bytes=80 * GIB):
    return [SimulatedGpu(f"GPU-SIM-{index}", memory_bytes, tdp_w) for index in range(count)]


class Run:
    """A simulation in steps of a tenth of a second; each process is told how much CPU it uses in a step."""

    def __init__(self, count=1, **sight):
        self.simulation = Simulation(devices(count))
        self.cpu_s = {}
        self.sight = sight
        self.count = count

    def step(self, use, dt_s=0.1):
        """Go on; returns the utilization of each GPU in percent."""
        self.cpu_s = {key: self.cpu_s.get(key, 0.0) + used_s for key, used_s in use.items()}
        loads = [Load(key, cpu_s, 0) for key, cpu_s in self.cpu_s.items()]
        self.simulation.step(dt_s, loads, lambda load: self.sight.get(f"p{load.key[0]}", tuple(range(self.count))))
        return [pytest.approx(100 * gpu.busy, abs=1e-6) for gpu in self.simulation.gpus]

    def holders(self):
        return [sorted(gpu.holders) for gpu in self.simulation.gpus]


# --- load --------------------------------------------------------------------------------------------------------------------------


def test_a_second_of_cpu_is_a_second_of_the_gpu():
    run = Run()
    run.step({A: 0.05})
    assert [run.step({A: used})[0] for used in (0.0, 0.03, 0.1, 0.07)] == [0, 30, 100, 70]


def test_the_start_of_a_process_loads_nothing_and_holds_nothing():
    run = Run()
    assert run.step({A: 0.02}) == [0]
    assert run.step({A: 0.03}) == [0]
    assert run.holders() == [[]]
    assert run.step({A: 0.01}) == [10]
    assert run.holders() == [[A]]


def test_a_process_holds_its_gpu_until_it_ends_however_long_it_waits():
    run = Run()
    run.step({A: 0.1})
    for _ in range(50):
        assert run.step({A: 0.0}) == [0]
        assert run.holders() == [[A]]
    run.step({})
    assert run.holders() == [[]]


def test_the_ticks_of_the_cpu_clock_do_not_spill_over_to_a_second_gpu():
    """A process that keeps one core busy is seen to use 0.09 s in one step and 0.11 s in the next."""
    run = Run(2)
    run.step({A: 0.05})
    for used in (0.11, 0.09, 0.1, 0.12, 0.08) * 10:
        assert run.step({A: used})[1] == 0
    assert run.holders() == [[A], []]


def test_more_than_one_gpu_can_do_goes_to_the_next_that_is_visible():
    run = Run(3)
    run.step({A: 0.05})
    for _ in range(2):
        run.step({A: 0.2})
    assert run.step({A: 0.2}) == [100, 100, 0]
    assert run.holders() == [[A], [A], []]


def test_work_beyond_all_gpus_is_lost_and_not_kept_for_later():
    run = Run(1)
    run.step({A: 0.05})
    run.step({A: 0.8})
    assert run.step({A: 0.0}) == [20], "what the ticks of the clock may have delayed, and no more"
    assert run.step({A: 0.0}) == [0]


def test_a_process_works_on_the_gpus_that_it_sees_in_its_own_order():
    run = Run(2, p11=(1, 0), p12=(1,))
    run.step({A: 0.05})
    assert run.step({A: 0.1}) == [0, 100]
    run = Run(2, p11=())
    for _ in range(5):
        assert run.step({A: 0.1}) == [0, 0]
    assert run.holders() == [[], []]


def test_processes_that_see_all_gpus_take_one_each():
    run = Run(2)
    run.step({A: 0.05, B: 0.05})
    assert run.step({A: 0.08, B: 0.06}) == [80, 60]
    assert run.step({A: 0.1, B: 0.1}) == [100, 100]
    assert run.holders() == [[A], [B]]


def test_processes_on_one_gpu_share_it():
    run = Run(1)
    run.step({A: 0.05, B: 0.05})
    assert run.step({A: 0.03, B: 0.04}) == [70]
    assert run.simulation.gpus[0].holders == {A: pytest.approx(0.03), B: pytest.approx(0.04)}


def test_a_late_step_gives_the_mean_over_all_its_time():
    run = Run()
    run.step({A: 0.05})
    assert run.step({A: 0.5}, dt_s=2.0) == [25]


steps = st.lists(
    st.tuples(
        st.floats(0.01, 3.0),
        st.dictionaries(st.sampled_from([A, B, C]), st.floats(0.0, 4.0), max_size=3),
    ),
    max_size=25,
)


@given(steps, st.integers(1, 3), st.permutations([0, 1, 2]))
def test_no_work_is_invented_and_energy_is_the_integral_of_power(history, count, order):
    run = Run(count, p11=tuple(index for index in order if index < count), p12=(), p13=(0,))
    energy_j, used_s, burned_s = [0.0] * count, 0.0, 0.0
    for dt_s, use in history:
        run.step(use, dt_s)
        burned_s += sum(used for key, used in use.items() if key != B)
        for index, gpu in enumerate(run.simulation.gpus):
            assert 0 <= gpu.busy <= 1
            assert 70 <= gpu.power_w <= 700
            assert B not in gpu.holders
            assert C not in gpu.holders or index == 0
            energy_j[index] += gpu.power_w * dt_s
            used_s += gpu.busy * dt_s
            assert gpu.busy == 0 or gpu.holders, "a GPU at work is held"
    assert used_s <= burned_s + 1e-6
    assert [gpu.energy_j for gpu in run.simulation.gpus] == pytest.approx(energy_j)


# --- power and memory --------------------------------------------------------------------------------------------------------------


def test_power_goes_from_idle_to_the_limit_in_proportion():
    (gpu,) = devices(1)
    assert gpu.power_w == pytest.approx(70)
    gpu.advance(1.0, 0.5)
    assert gpu.power_w == pytest.approx(385)
    gpu.advance(1.0, 1.0)
    assert gpu.power_w == pytest.approx(700)
    assert gpu.energy_j == pytest.approx(385 + 700)


def test_memory_follows_the_resident_memory_of_who_holds_the_gpu():
    (gpu,) = devices(1)
    assert gpu.used_bytes({A: GIB}) == RESERVED_BYTES
    gpu.holders[A] = 0.0
    assert gpu.used_bytes({A: GIB}) == RESERVED_BYTES + CONTEXT_BYTES + MEMORY_PER_RSS * GIB
    assert gpu.used_bytes({A: 100 * GIB}) == 80 * GIB


def test_a_model_whose_power_is_not_known_has_none():
    (gpu,) = devices(1, tdp_w=None, memory_bytes=None)
    gpu.advance(1.0, 1.0)
    assert gpu.power_w is None
    assert gpu.process_bytes(GIB) == CONTEXT_BYTES + MEMORY_PER_RSS * GIB


# --- the option --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"), [("sim:h100", 1), (" SIM:H100:2", 2), ("sim:a100:64", 64), ("sim:NVIDIA H100 80GB HBM3:3", 3)]
)
def test_the_option_names_a_model_and_a_number(text, count):
    spec, found = sim.parse(text)
    assert found == count
    assert spec.tdp_w > 0


@pytest.mark.parametrize(
    "text", ["h100:0", "h100:65", "h100:007", "h100:", "h100:two", "h100:-1", "h100:2:2", "h100:٢", "nosuch", "", ":2"]
)
def test_anything_else_is_refused_with_what_to_do(text):
    with pytest.raises(UsageError) as caught:
        sim.parse(f"sim:{text}")
    assert caught.value.hint


def test_a_collector_with_an_impossible_option_does_not_try_for_ever():
    with pytest.raises(SourceUnavailable) as caught:
        SimCollector().start(Lent(gpus="sim:nosuch").context)
    assert caught.value.permanent


# --- the collector -----------------------------------------------------------------------------------------------------------------

ROOT = 1000


@pytest.fixture
def proc(tmp_path):
    fake = FakeProc(tmp_path / "proc")
    fake.process(ROOT, 1, name="gpucost")
    return fake


def worker(proc, pid, cpu_ticks, gpus, **options):
    environ = "A=1\0" if gpus is None else f"A=1\0CUDA_VISIBLE_DEVICES={gpus}\0"
    proc.process(pid, ROOT, cpu_ticks=cpu_ticks, files={"environ": environ}, **options)


def test_devices_are_described_as_simulated_and_keyed_by_uuid(proc):
    lent = Lent(root_pid=ROOT, gpus="sim:h100:2")
    tiers = SimCollector(proc).start(lent.context)
    first, second = lent.facts["gpus"]
    assert first["uuid"] != second["uuid"]
    assert first["uuid"].startswith("GPU-SIM-")
    assert (first["index"], first["name"], first["held"], first["simulated"]) == (
        0,
        "NVIDIA H100 80GB HBM3",
        True,
        True,
    )
    assert [(tier.name, tier.period_ns) for tier in tiers] == [("devices", 100_000_000), ("processes", 1_000_000_000)]
    again = Lent(root_pid=ROOT, gpus="sim:h100:2")
    SimCollector(proc).start(again.context)
    assert again.facts == lent.facts


def test_a_process_loads_the_gpu_of_its_own_environment(proc):
    lent = Lent(root_pid=ROOT, gpus="sim:h100:2")
    collector = SimCollector(proc)
    collector.start(lent.context)
    worker(proc, 1001, 5, "1", rss_pages=1000)
    worker(proc, 1002, 100, "")
    lent.clock.advance(0.1)
    collector.sample("devices")
    worker(proc, 1001, 13, "1", rss_pages=1000)
    worker(proc, 1002, 200, "")
    lent.clock.advance(0.1)
    lent.take("gpu")
    collector.sample("devices")
    idle, busy = lent.take("gpu")
    assert (idle.gpu_util_pct, idle.processes, idle.run_processes) == (0, 0, 0)
    assert idle.power_w == pytest.approx(70)
    assert busy.gpu_util_pct == pytest.approx(80)
    assert busy.power_w == pytest.approx(70 + 0.8 * 630)
    assert busy.energy_j == pytest.approx(7 + 0.1 * (70 + 0.8 * 630))
    assert (busy.processes, busy.run_processes) == (1, 1)
    assert busy.memory_used_bytes == RESERVED_BYTES + CONTEXT_BYTES + MEMORY_PER_RSS * 4096 * 1000
    assert (busy.sm_clock_mhz, busy.temperature_c, busy.power_average_w) == (None, None, None)


def test_the_process_list_tells_each_ones_share_since_the_last_poll(proc):
    lent = Lent(root_pid=ROOT, gpus="sim:h100")
    collector = SimCollector(proc)
    collector.start(lent.context)
    for tick in range(1, 11):
        worker(proc, 1001, 5 + 3 * tick, None)
        worker(proc, 1002, 5 + 6 * tick, "0")
        lent.clock.advance(0.1)
        collector.sample("devices")
    collector.sample("processes")
    rows = {row.pid: row for row in lent.take("gpu_process")}
    assert rows[1001].sm_util_pct == pytest.approx(30)
    assert rows[1002].sm_util_pct == pytest.approx(60)
    assert (rows[1001].util_samples, rows[1001].in_run, rows[1001].kind) == (10, True, "compute")
    lent.clock.advance(0.1)
    collector.sample("devices")
    collector.sample("processes")
    assert [row.sm_util_pct for row in lent.take("gpu_process")] == [0, 0]


def test_a_process_whose_environment_may_not_be_read_sees_what_the_command_sees(proc):
    lent = Lent(root_pid=ROOT, gpus="sim:h100:2", environ={"CUDA_VISIBLE_DEVICES": "1"})
    collector = SimCollector(proc)
    collector.start(lent.context)
    proc.process(1001, ROOT, cpu_ticks=11)
    lent.clock.advance(0.1)
    collector.sample("devices")
    assert [row.processes for row in lent.take("gpu")] == [0, 1]


def test_a_zombie_holds_nothing(proc):
    lent = Lent(root_pid=ROOT, gpus="sim:h100")
    collector = SimCollector(proc)
    collector.start(lent.context)
    for state in "RZ":
        worker(proc, 1001, 20, None, state=state)
        lent.clock.advance(0.1)
        collector.sample("devices")
    assert [row.processes for row in lent.take("gpu")] == [1, 0]


def test_two_samples_at_the_same_moment_count_nothing_twice(proc):
    lent = Lent(root_pid=ROOT, gpus="sim:h100")
    collector = SimCollector(proc)
    collector.start(lent.context)
    worker(proc, 1001, 50, None)
    lent.clock.advance(1.0)
    for _ in range(2):
        collector.sample("devices")
    first, second = lent.take("gpu")
    assert first == second
    assert first.gpu_util_pct == pytest.approx(45)


def test_a_real_process_that_computes_is_seen_on_its_gpu():
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint('ready', flush=True)\ninput()"
    lent = Lent(clock=SystemClock(), gpus="sim:h100:2")
    collector = SimCollector()
    collector.start(lent.context)
    environ = {"CUDA_VISIBLE_DEVICES": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
    )
    with contextlib.closing(process.stdin), contextlib.closing(process.stdout):
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.02)
        collector.sample("devices")
        collector.sample("processes")
        process.kill()
        process.wait()
    rows = [row for row in lent.take("gpu_process") if row.pid == process.pid]
    uuids = [gpu["uuid"] for gpu in lent.facts["gpus"]]
    assert [row.gpu_uuid for row in rows] == [uuids[1]]
    assert rows[0].sm_util_pct > 0
