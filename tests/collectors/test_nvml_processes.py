"""The NVML collector and who is on a GPU: kinds, memory, utilization, and which processes are the run's."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driver.scenario import GIB, NS, Gpu, Process, Scenario, call_fails, garbage
from gpucost.collectors._nvml_processes import Family, Trust, trust
from gpucost.collectors._proc import Proc, start_time_ns

Observe = Callable[..., Any]

GONE_PID = 4_194_303  # one below the largest that Linux gives out
UTILIZATION = "nvmlDeviceGetProcessUtilization"


def polled(*seconds: float) -> str:
    """Statements that poll processes and take a fast sample at these instants."""
    return "bench.start()\n" + "\n".join(f"bench.processes({instant})\nbench.fast({instant})" for instant in seconds)


def test_a_process_of_the_run_is_told_from_a_foreign_one(observe: Observe, tmp_path: Path) -> None:
    """The recorder's descendants are the run's; this test's own process, which is the recorder's parent, is foreign."""
    pid_file = tmp_path / "pid"
    gpu = Gpu(
        processes=[
            Process(pid_file=pid_file, memory_bytes=4 * GIB, sm_util_pct=60, memory_util_pct=20),
            Process(pid=os.getpid(), memory_bytes=GIB),
        ]
    )
    body = (
        f"child = bench.child({str(pid_file)!r})\nout.append(child.pid)\n{polled(1, 2)}\nchild.communicate()\n"
        + polled(3).replace("bench.start()", "")
    )
    seen = observe(Scenario(gpus=[gpu]), body)
    (child,) = seen.out
    mine = [row for row in seen.gpu_process if row["pid"] == child]
    others = [row for row in seen.gpu_process if row["pid"] == os.getpid()]
    assert [row["mono_ns"] for row in mine] == [NS, 2 * NS]
    assert [(row["in_run"], row["kind"], row["memory_used_bytes"]) for row in mine] == [(True, "compute", 4 * GIB)] * 2
    assert [(row["in_run"], row["memory_used_bytes"]) for row in others] == [(False, GIB)] * 3
    assert seen.column("processes") == [2, 2, 1]
    assert seen.column("run_processes") == [1, 1, 0]


def test_the_start_of_a_process_is_the_kernels(observe: Observe) -> None:
    """It is the same number that the process table has, so that the two can be joined."""
    stat = Proc().stat(os.getpid())
    assert stat is not None
    seen = observe(Scenario(gpus=[Gpu(processes=[Process(pid=os.getpid())])]), polled(1))
    assert (
        abs(seen.gpu_process[0]["start_time_ns"] - start_time_ns(stat.start_ticks)) < NS
    )  # boot time is read once a process


def test_grandchildren_and_orphans_belong_to_the_run(observe: Observe, tmp_path: Path) -> None:
    """A process belongs by its ancestors, however many there are; one that lost its parent is adopted by the recorder."""
    pid_file = tmp_path / "pid"
    body = f"""
import ctypes, subprocess
ctypes.CDLL(None).prctl(36, 1)  # adopt orphans, as the recorder does
shell = subprocess.Popen(["sh", "-c", "exec 3<&0; sh -c 'echo $$ > {pid_file}; exec cat <&3' & echo; wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
shell.stdout.readline()
import time
while not os.path.exists({str(pid_file)!r}) or not open({str(pid_file)!r}).read().strip():
    time.sleep(0.01)
bench.start()
bench.processes(1)
shell.kill()
shell.wait()
bench.processes(2)
shell.stdin.close()
"""
    seen = observe(Scenario(gpus=[Gpu(processes=[Process(pid_file=pid_file)])]), body)
    assert [(row["mono_ns"], row["in_run"]) for row in seen.gpu_process] == [(NS, True), (2 * NS, True)]


def test_a_process_that_cannot_be_seen_is_unknown(observe: Observe) -> None:
    """A pid without a process here (another namespace): whose it is is null, and so is the count of the run's."""
    gpu = Gpu(processes=[Process(pid=GONE_PID, memory_bytes=GIB), Process(pid=os.getpid())])
    seen = observe(Scenario(gpus=[gpu]), polled(1))
    row = next(row for row in seen.gpu_process if row["pid"] == GONE_PID)
    assert (row["in_run"], row["start_time_ns"], row["memory_used_bytes"]) == (None, None, GIB)
    assert (seen.column("processes"), seen.column("run_processes")) == ([2], [None])


def test_counts_stand_in_the_row_after_the_poll_and_nowhere_else(observe: Observe) -> None:
    """A tick that did not ask has no counts, which is not the same as none."""
    body = "bench.start()\nbench.fast(0.9)\nbench.processes(1)\nbench.fast(1, 1.1)\nbench.processes(2)\nbench.fast(2)"
    seen = observe(Scenario(gpus=[Gpu(processes=[Process(pid=os.getpid(), start_s=2)])]), body)
    assert seen.column("processes") == [None, 0, None, 1]
    assert seen.column("run_processes") == [None, 0, None, 0]


def test_a_process_in_several_lists_is_one_process(observe: Observe) -> None:
    """Its kind is the most telling: MPS client, then compute, then graphics."""
    kinds = {"gc": "compute", "g": "graphics", "m": "mps", "cm": "mps"}
    parent = os.getppid()
    for listed, expected in kinds.items():
        gpu = Gpu(processes=[Process(pid=parent, kinds=listed, memory_bytes=GIB)])
        seen = observe(Scenario(gpus=[gpu]), polled(1))
        assert [(row["kind"], row["memory_used_bytes"]) for row in seen.gpu_process] == [(expected, GIB)]
        assert seen.column("processes") == [1]


def test_more_processes_than_expected_are_all_listed(observe: Observe) -> None:
    """The lists are read again with more room."""
    gpu = Gpu(
        processes=[Process(pid=10_000_000 + number) for number in range(60)]
        + [Process(pid=20_000_000 + number, kinds="g") for number in range(4)]
    )
    scenario = Scenario(gpus=[gpu])
    body = "import gpucost.collectors._nvml_entries as e\ne.FIRST_BYTES = 48\n" + polled(1)
    assert len(observe(scenario, body).gpu_process) == 64


@pytest.mark.parametrize("value", [81 * GIB, -1])
def test_memory_that_is_unknown_or_impossible_is_null(observe: Observe, value: int) -> None:
    """All ones mean "not available"; more than the GPU has is nonsense, and counted."""
    faults = [garbage("process_memory", value)]
    seen = observe(Scenario(gpus=[Gpu(processes=[Process(pid=os.getpid(), memory_bytes=1)])], faults=faults), polled(1))
    assert seen.gpu_process[0]["memory_used_bytes"] is None
    assert ("garbage_value" in seen.kinds()) == (value > 0)


# Utilization.


def test_utilization_is_the_mean_of_the_samples_since_the_last_poll(observe: Observe) -> None:
    """Every sample counts once, in the poll after it, and the row says how many there were."""
    sm = [(0, 0), (1, 40), (1.5, 80), (2.5, 0)]
    gpu = Gpu(process_period_s=0.25, processes=[Process(pid=os.getpid(), sm_util_pct=sm, memory_util_pct=10)])
    seen = observe(Scenario(gpus=[gpu]), polled(0.9, 1.9, 2.9, 3.9))
    # Samples above zero stand at 1, 1.25 (40 %), 1.5 to 2.25 (80 %).
    assert [(row["sm_util_pct"], row["memory_util_pct"], row["util_samples"]) for row in seen.gpu_process] == [
        (None, None, 0),
        (60, 10, 4),
        (80, 10, 2),
        (None, None, 0),
    ]


def test_the_first_poll_takes_no_history_with_it(observe: Observe) -> None:
    """The driver remembers ten seconds; what was before the run is not the run's."""
    sm = [(0, 100), (5.1, 30)]
    gpu = Gpu(process_period_s=0.25, processes=[Process(pid=os.getpid(), sm_util_pct=sm)])
    (row,) = observe(Scenario(gpus=[gpu]), polled(6)).gpu_process
    assert (row["sm_util_pct"], row["util_samples"]) == (30, 4)


def test_samples_of_processes_that_are_not_listed_are_dropped(observe: Observe) -> None:
    """A pid in the samples alone may be anybody's: it ended, or is a pid of another namespace. How many there were is said."""
    gpu = Gpu(
        process_period_s=0.25,
        processes=[Process(pid=GONE_PID, kinds="", sm_util_pct=90), Process(pid=os.getpid(), sm_util_pct=50)],
    )
    scenario = Scenario(gpus=[gpu])
    seen = observe(scenario, polled(1, 2) + "\nbench.collector.stop()")
    assert [(row["pid"], row["sm_util_pct"]) for row in seen.gpu_process] == [(os.getpid(), 50)] * 2
    assert seen.described["left_out"] == {scenario.uuid(0): {"unlisted_samples": 8}}
    assert seen.events == []


def test_last_samples_of_a_process_that_ended_are_nobodys_else(observe: Observe) -> None:
    """It was in the list before, so what the driver caught of it since is no sign of somebody who cannot be seen."""
    gpu = Gpu(process_period_s=0.25, processes=[Process(pid=GONE_PID, sm_util_pct=50, end_s=1.6)])
    seen = observe(Scenario(gpus=[gpu]), polled(1, 2, 3) + "\nbench.collector.stop()")
    assert [row["util_samples"] for row in seen.gpu_process] == [4]
    assert "left_out" not in seen.described


def test_no_sample_is_lost_between_lists_that_are_far_apart(observe: Observe) -> None:
    """The driver's ring holds ten seconds; it is emptied beside the lists, and the next one has all of it."""
    gpu = Gpu(process_period_s=0.25, processes=[Process(pid=os.getpid(), sm_util_pct=[(0, 0), (0.1, 80), (10.1, 40)])])
    between = list(range(1, 20))
    body = f"bench.start()\nbench.processes(0)\nbench.samples(*{between})\nbench.processes(20)"
    seen = observe(Scenario(gpus=[gpu]), body, hz=0.1)
    assert [(row["sm_util_pct"], row["util_samples"]) for row in seen.gpu_process] == [(None, 0), (60, 80)]


def test_the_ring_is_not_asked_twice_where_lists_come_every_second(observe: Observe) -> None:
    """Then they empty it in time."""
    polls = "\n".join(f"bench.processes({second})\nbench.samples({second})" for second in range(10))
    body = f"bench.start()\n{polls}\nout.append(bench.collector._nvml.costs.facts()[{UTILIZATION!r}]['calls'])"
    gpu = Gpu(process_period_s=0.25, processes=[Process(pid=os.getpid(), sm_util_pct=50)])
    assert observe(Scenario(gpus=[gpu]), body).out == [11]  # one to find out whether it is there


def test_impossible_samples_are_dropped_and_counted(observe: Observe) -> None:
    """More than 100 % is nonsense; the possible samples of the same poll remain."""
    gpu = Gpu(process_period_s=0.25, processes=[Process(pid=os.getpid(), sm_util_pct=50)])
    fault = garbage("process_sm", 1000, from_s=2, to_s=3)
    seen = observe(Scenario(gpus=[gpu], faults=[fault]), polled(1, 2, 3))
    assert [row["util_samples"] for row in seen.gpu_process] == [
        4,
        0,
        8,
    ]  # asked again, the second half of them came right
    assert seen.gpu_process[1]["sm_util_pct"] is None
    assert "process sm_util_pct 4" in seen.messages("garbage_value")[-1]


def test_an_impossible_sample_is_counted_once(observe: Observe) -> None:
    """The driver tells it again as long as no possible one follows."""
    gpu = Gpu(process_period_s=0.25, processes=[Process(pid=os.getpid(), sm_util_pct=[(0, 0), (0.9, 50), (1.9, 0)])])
    scenario = Scenario(gpus=[gpu], faults=[garbage("process_sm", 1000)])
    seen = observe(scenario, polled(1, 2, 3, 4, 5) + "\nbench.collector.stop()")
    assert seen.described["left_out"] == {scenario.uuid(0): {"impossible": {"process sm_util_pct": 4}}}


@pytest.mark.parametrize(("code", "samples"), [(6, 0), (3, None), (4, None)])
def test_no_samples_and_no_sampling_are_different(observe: Observe, code: int, samples: int | None) -> None:
    """NOT_FOUND is an answer: nobody was caught working. A refusal is none, and the columns are null."""
    gpu = Gpu(processes=[Process(pid=os.getpid(), sm_util_pct=50)])
    (row,) = observe(Scenario(gpus=[gpu], faults=[call_fails(UTILIZATION, code)]), polled(1)).gpu_process
    assert (row["sm_util_pct"], row["util_samples"]) == (None, samples)


def test_a_failure_in_between_is_null_once(observe: Observe) -> None:
    """The samples are not lost: the next poll has those of both seconds."""
    gpu = Gpu(process_period_s=0.25, processes=[Process(pid=os.getpid(), sm_util_pct=50)])
    fault = call_fails(UTILIZATION, 999, from_s=2, to_s=3)
    seen = observe(Scenario(gpus=[gpu], faults=[fault]), polled(1, 2, 3))
    assert [row["util_samples"] for row in seen.gpu_process] == [4, None, 8]


# Lists that cannot be read.


@pytest.mark.parametrize("code", [3, 4])
def test_lists_that_cannot_be_read_leave_the_counts_null(observe: Observe, code: int) -> None:
    """Nobody seen is not the same as nobody there; that it is so is told."""
    faults = [call_fails(f"nvmlDeviceGetComputeRunningProcesses_{version}", code) for version in ("v2", "v3")]
    seen = observe(Scenario(gpus=[Gpu(processes=[Process(pid=os.getpid())])], faults=faults), polled(1))
    assert (seen.column("processes"), seen.column("run_processes"), seen.gpu_process) == ([None], [None], [])
    assert "processes: " in seen.messages("metric_unavailable")[0]


def test_a_list_that_this_gpu_does_not_have_is_not_missed(observe: Observe) -> None:
    """Without graphics and MPS lists the compute list is all there is."""
    absent = [
        f"nvmlDeviceGet{kind}RunningProcesses_{version}"
        for kind in ("Graphics", "MPSCompute")
        for version in ("v2", "v3")
    ]
    seen = observe(Scenario(gpus=[Gpu(processes=[Process(pid=os.getpid())])], absent=absent), polled(1))
    assert (seen.column("processes"), seen.events) == ([1], [])


def test_a_list_that_fails_for_once_leaves_the_counts_of_that_poll_null(observe: Observe) -> None:
    """Who was listed is kept, and the sum is unknown."""
    gpu = Gpu(processes=[Process(pid=os.getpid()), Process(pid=os.getppid(), kinds="g")])
    fault = call_fails("nvmlDeviceGetGraphicsRunningProcesses_v3", 999, from_s=2, to_s=3)
    seen = observe(Scenario(gpus=[gpu], faults=[fault]), polled(1, 2, 3))
    assert seen.column("processes") == [2, None, 2]
    assert [sum(row["mono_ns"] == t * NS for row in seen.gpu_process) for t in (1, 2, 3)] == [2, 1, 2]


# GPUs that the run does not hold.


def test_a_run_that_uses_a_gpu_it_does_not_hold_is_told(observe: Observe, tmp_path: Path) -> None:
    """Then the bill would not say what the run used."""
    pid_file = tmp_path / "pid"
    scenario = Scenario(gpus=[Gpu(), Gpu(processes=[Process(pid_file=pid_file), Process(pid=os.getpid())])])
    body = f"child = bench.child({str(pid_file)!r})\n{polled(1, 2)}\nchild.communicate()"
    seen = observe(scenario, body, environ={"CUDA_VISIBLE_DEVICES": "0"})
    ((kind, message, subject),) = seen.events
    assert (kind, subject) == ("gpu_not_held", scenario.uuid(1))
    assert "is on GPU 1 (NVIDIA H100 80GB HBM3), which is not billed" in message
    assert {row["gpu_uuid"] for row in seen.gpu} == {scenario.uuid(0)}


# What can be believed in a container.


@pytest.mark.parametrize(
    ("version", "inner", "expected"),
    [
        ("470.129.06", False, Trust(pids=True, memory=True, samples=True)),
        ("470.129.06", True, Trust(pids=False, memory=False, samples=False)),
        ("535.104.05", True, Trust(pids=False, memory=False, samples=False)),
        ("535.113.01", True, Trust(pids=True, memory=False, samples=False)),
        ("560.35.03", True, Trust(pids=True, memory=False, samples=False)),
        ("565.57.01", True, Trust(pids=True, memory=True, samples=False)),
        ("570.86.15", True, Trust(pids=True, memory=True, samples=True)),
        ("595.45.04", True, Trust(pids=True, memory=True, samples=True)),
        ("", True, Trust(pids=False, memory=False, samples=False)),
    ],
)
def test_what_a_container_is_shown_depends_on_the_driver(version: str, inner: bool, expected: Trust) -> None:
    """Old drivers show a container the host's pids, newer ones its own, step by step."""
    assert trust(version, inner_namespace=inner) == expected


def test_pids_that_are_the_hosts_are_nobody_here(observe: Observe) -> None:
    """In a container under an old driver a host's pid may happen to be one of ours: whose it is stays null, and so does what it used."""
    gpu = Gpu(processes=[Process(pid=os.getpid(), memory_bytes=GIB, sm_util_pct=50)])
    body = "import gpucost.collectors.nvml as n\nn.in_inner_namespace = lambda: True\n" + polled(1)
    seen = observe(Scenario(gpus=[gpu], driver_version="470.129.06"), body)
    (row,) = seen.gpu_process
    assert [row[name] for name in ("in_run", "start_time_ns", "memory_used_bytes", "util_samples")] == [None] * 4
    assert (seen.column("processes"), seen.column("run_processes")) == ([1], [None])
    assert seen.kinds() == ["processes_unknown"]


# The tree, from a /proc of our own.


@pytest.fixture
def proc(tmp_path: Path) -> Callable[..., Proc]:
    """Makes a /proc: pid to parent and start in ticks."""

    def made(**processes: tuple[int, int]) -> Proc:
        for name, (parent, start) in processes.items():
            folder = tmp_path / name.removeprefix("p")
            folder.mkdir(exist_ok=True)
            (folder / "stat").write_text(f"{folder.name} (a) b) S {parent} " + "0 " * 17 + f"{start} 0 0\n")
        if not (tmp_path / "self").is_symlink():
            (tmp_path / "self").symlink_to(str(os.getpid()))
        return Proc(str(tmp_path))

    return made


def test_a_reused_pid_is_another_process(proc: Callable[..., Proc]) -> None:
    """The same number with another start is looked at anew."""
    family = Family(10, proc=proc(p10=(1, 5), p20=(10, 50), p30=(1, 60)))
    assert [family.member(pid).in_run for pid in (20, 30)] == [True, False]
    proc(p20=(30, 70))
    assert family.member(20).in_run is False
    assert family.member(20).start_time_ns == start_time_ns(70)


def test_what_is_known_outlives_the_process_while_it_is_listed(proc: Callable[..., Proc], tmp_path: Path) -> None:
    """The driver may list a process a little longer than /proc has it."""
    family = Family(10, proc=proc(p10=(1, 5), p20=(10, 50)))
    before = family.member(20)
    (tmp_path / "20" / "stat").unlink()
    assert family.member(20) == before
    family.forget_all_but(set())
    assert family.member(20).in_run is None


def test_a_broken_chain_of_parents_is_unknown(proc: Callable[..., Proc]) -> None:
    """When a parent cannot be read, whose child it is cannot be told, and it is tried again the next time."""
    family = Family(10, proc=proc(p10=(1, 5), p20=(19, 50)))
    assert family.member(20).in_run is None
    proc(p19=(10, 40))
    assert family.member(20).in_run is True


def test_the_recorder_may_be_the_first_process_of_its_namespace(proc: Callable[..., Proc]) -> None:
    """In a container it can have pid 1, and then adopts everything anyway."""
    family = Family(1, proc=proc(p1=(0, 1), p20=(1, 50), p21=(0, 50)))
    assert [family.member(pid).in_run for pid in (20, 21, 1)] == [True, False, False]


def test_a_proc_that_is_not_ours_tells_nothing(proc: Callable[..., Proc], tmp_path: Path) -> None:
    """The /proc of another namespace has other processes under the same numbers."""
    made = proc(p10=(1, 5), p20=(10, 50))
    (tmp_path / "self").unlink()
    (tmp_path / "self").symlink_to("3")
    assert Family(10, proc=made).member(20).in_run is None


# MPS.


def test_a_server_of_mps_without_its_clients_is_nobody(observe: Observe, mps_server: int) -> None:
    """The driver tells of the server alone: the clients may be the run's or not, so whose it is is null, and that is said once."""
    gpu = Gpu(processes=[Process(pid=mps_server, memory_bytes=GIB, sm_util_pct=50)])
    scenario = Scenario(gpus=[gpu])
    seen = observe(scenario, polled(1, 2, 3))
    assert [(row["pid"], row["in_run"]) for row in seen.gpu_process] == [(mps_server, None)] * 3
    assert seen.column("run_processes") == [None] * 3
    ((kind, message, subject),) = seen.events
    assert (kind, subject) == ("mps_clients_hidden", scenario.uuid(0))
    assert "shared through MPS" in message


@pytest.mark.parametrize("mine", [True, False])
def test_a_server_of_mps_belongs_to_whom_it_serves(
    observe: Observe, mps_server: int, tmp_path: Path, mine: bool
) -> None:
    """Where the driver lists the clients, it is the run's if one of them is."""
    pid_file = tmp_path / "pid"
    client = Process(pid_file=pid_file, kinds="m") if mine else Process(pid=os.getpid(), kinds="m")
    gpu = Gpu(processes=[Process(pid=mps_server), client])
    body = f"child = bench.child({str(pid_file)!r})\n{polled(1)}\nchild.communicate()"
    seen = observe(Scenario(gpus=[gpu]), body)
    assert [row["in_run"] for row in seen.gpu_process] == [mine, mine]
    assert seen.kinds() == ["mps_seen"]
