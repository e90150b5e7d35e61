"""The command's tree of processes, read from /proc."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector_harness import FakeProc, Lent, stat_line
from gpucost.clock import SystemClock
from gpucost.collectors import _proc
from gpucost.collectors.base import SourceUnavailable
from gpucost.collectors.process import ProcessCollector

ROOT = 1000


def poll(lent, proc=None):
    """Start a collector, and read the tree once."""
    collector = ProcessCollector(proc)
    (tier,) = collector.start(lent.context)
    collector.sample(tier.name)
    collector.stop()


def tree_of(proc, own=()):
    return _proc.Tree(ROOT, own_pids=lambda: own, proc=proc)


def pids(tree):
    return sorted(stat.pid for stat in tree.refresh())


@pytest.fixture
def proc(tmp_path):
    """A host with the recorder (1000), its parent, and an unrelated process."""
    fake = FakeProc(tmp_path / "proc")
    fake.process(1, 0, name="init")
    fake.process(900, 1, name="bash")
    fake.process(ROOT, 900, name="gpucost")
    fake.process(50, 1, name="sshd")
    return fake


@contextlib.contextmanager
def child(code):
    """A Python process that runs `code`, says a line when it is ready, and ends with the test."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().strip() == "ready"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# --- one process -------------------------------------------------------------------------------------------------------------------


@given(st.text(max_size=15).filter(lambda name: "\0" not in name))
def test_a_process_may_call_itself_anything(name):
    line = stat_line(7, 3, name, "R", 41, 5, 777, 12).encode(
        "utf-8", "surrogateescape" if name.isascii() else "replace"
    )
    found = _proc.parse_stat(line)
    assert (found.pid, found.ppid, found.state) == (7, 3, "R")
    assert (found.cpu_ticks, found.threads, found.start_ticks, found.rss_pages) == (41, 5, 777, 12)


@given(st.binary(max_size=80))
def test_a_damaged_stat_is_no_process_and_no_error(junk):
    line = stat_line(7, 3, "python", "R", 41, 5, 777, 12).encode()
    for data in (junk, line[: len(junk)], b"7 (x) " + junk):
        found = _proc.parse_stat(data)
        assert found is None or found.pid >= 0


def test_start_times_are_those_of_the_wall_clock():
    before_ns = time.time_ns()
    with child("print('ready', flush=True); input()") as process:
        started_ns = _proc.start_time_ns(_proc.Proc().stat(process.pid).start_ticks)
    slack_ns = 2 * 10**9 // _proc.ticks_per_second()
    assert before_ns - slack_ns <= started_ns <= time.time_ns()


def test_a_sleeping_process_is_described_as_the_operating_system_sees_it():
    code = "import threading, time\nfor _ in range(3): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    with child(f"{code}print('ready', flush=True); time.sleep(60)") as process:
        os.kill(process.pid, signal.SIGSTOP)  # so that nothing changes between the two looks
        lent = Lent(clock=SystemClock())
        other = psutil.Process(process.pid)
        while other.status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)
        poll(lent)
        (row,) = [row for row in lent.take("process") if row.pid == process.pid]
        with other.oneshot():
            assert (row.ppid, row.name, row.threads, row.state) == (os.getpid(), other.name(), 4, "T")
            assert row.rss_bytes == other.memory_info().rss
            assert row.cpu_s == pytest.approx(sum(other.cpu_times()[:2]))
            assert (row.read_bytes, row.write_bytes) == other.io_counters()[2:4]
            assert (row.voluntary_switches, row.involuntary_switches) == tuple(other.num_ctx_switches())


def test_cpu_time_is_that_of_all_threads_and_only_grows():
    burn = "import time, threading\ndef burn():\n while time.thread_time() < 0.1: pass\n"
    both = "threads = [threading.Thread(target=burn) for _ in 'ab']\nfor t in threads: t.start()\nfor t in threads: t.join()\n"
    with child(f"{burn}{both}print('ready', flush=True); input()") as process:
        lent = Lent(clock=SystemClock())
        poll(lent)
        (row,) = [row for row in lent.take("process") if row.pid == process.pid]
    assert row.cpu_s >= 0.19


def test_what_may_not_be_read_is_null_and_not_zero(proc):
    proc.process(1001, ROOT, cpu_ticks=250)
    lent = Lent(root_pid=ROOT)
    poll(lent, proc)
    (row,) = lent.take("process")
    assert row.cpu_s == 250 / _proc.ticks_per_second()
    assert row.read_bytes is None
    assert row.write_bytes is None
    assert row.voluntary_switches is None


def test_a_zombie_is_there_and_has_no_memory():
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    lent = Lent(clock=SystemClock())
    poll(lent)
    (row,) = [row for row in lent.take("process") if row.pid == process.pid]
    process.wait()
    assert row.state == "Z"
    assert row.rss_bytes == 0
    assert row.cpu_s is not None


# --- the tree ----------------------------------------------------------------------------------------------------------------------


def test_the_tree_is_every_descendant_of_the_recorder_and_nothing_else(proc):
    proc.process(1001, ROOT)
    proc.process(1002, 1001)
    proc.process(1003, 1002)
    proc.process(2000, 900)
    assert pids(tree_of(proc)) == [1001, 1002, 1003]


def test_a_child_with_a_smaller_pid_than_its_parents_is_found(proc):
    proc.process(5000, ROOT)
    proc.process(30, 5000)
    proc.process(20, 30)
    assert pids(tree_of(proc)) == [20, 30, 5000]


def test_new_processes_are_found_and_ended_ones_forgotten(proc):
    tree = tree_of(proc)
    assert pids(tree) == []
    proc.process(1001, ROOT)
    assert pids(tree) == [1001]
    proc.process(1002, 1001)
    assert pids(tree) == [1001, 1002]
    proc.remove(1001)
    assert pids(tree) == [1002]


def test_the_recorders_own_children_are_not_the_commands(proc):
    own = set()
    tree = tree_of(proc, own)
    proc.process(1001, ROOT)
    proc.process(1002, ROOT, name="sealer")
    assert pids(tree) == [1001, 1002], "nobody has said yet that it is the recorder's"
    own.add(1002)
    proc.process(1003, 1002, name="helper")
    assert pids(tree) == [1001]


def test_an_orphan_stays_in_the_tree(proc):
    tree = tree_of(proc)
    proc.process(1001, ROOT)
    proc.process(1002, 1001)
    assert pids(tree) == [1001, 1002]
    proc.remove(1001)
    proc.process(1002, 1)  # as where the recorder cannot adopt it
    proc.process(1003, 1002)
    assert pids(tree) == [1002, 1003]


def test_a_reused_pid_is_another_process(proc):
    tree = tree_of(proc)
    proc.process(1001, ROOT, start=100)
    assert pids(tree) == [1001]
    proc.process(1001, 900, start=200)
    assert pids(tree) == []


def test_a_pid_reused_by_the_command_is_found_before_long(proc):
    tree = tree_of(proc)
    assert pids(tree) == []
    proc.process(50, ROOT, start=300)
    assert any(pids(tree) == [50] for _ in range(16))


def test_a_process_whose_parent_vanishes_under_the_reader_is_found_below_its_new_parent(proc):
    class Racing(FakeProc):
        def stat(self, pid):
            if pid == 1001:  # it was in the listing, and is gone: its child has been adopted in between
                self.process(1002, ROOT)
                return None
            return super().stat(pid)

    proc.__class__ = Racing
    proc.process(1001, ROOT)
    proc.process(1002, 1001)
    assert pids(tree_of(proc)) == [1002]


def test_parents_that_go_in_a_circle_end_nowhere(proc):
    proc.process(71, 72)
    proc.process(72, 71)
    assert pids(tree_of(proc)) == []


def test_the_cost_follows_the_tree_and_not_the_host(proc):
    for pid in range(10_000, 10_320):
        proc.process(pid, 1)
    proc.process(1001, ROOT)
    tree = tree_of(proc)
    tree.refresh()
    for _ in range(16):
        proc.reads.clear()
        tree.refresh()
        assert len(proc.reads) <= 1 + 320 // 16 + 4


@given(st.dictionaries(st.integers(2, 30), st.integers(0, 30), max_size=25), st.integers(2, 30))
def test_the_tree_is_what_following_parents_says(parents, root):
    class Table:
        def pids(self):
            return list(parents)

        def stat(self, pid):
            return _proc.Stat(pid, "p", "S", parents[pid], 0, 1, 5, 1) if pid in parents else None

    def descends(pid):
        seen = set()
        while pid in parents and pid not in seen and pid > 1:
            seen.add(pid)
            pid = parents[pid]
            if pid == root:
                return True
        return False

    tree = _proc.Tree(root, proc=Table())
    expected = sorted(pid for pid in parents if pid != root and descends(pid))
    assert pids(tree) == expected
    assert pids(tree) == expected


# --- the collector -----------------------------------------------------------------------------------------------------------------


def test_a_real_tree_of_shells_is_recorded_whole():
    process = subprocess.Popen(["sh", "-c", "sh -c 'sleep 60; :' & wait"], start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        names = []
        while "sleep" not in names and time.monotonic() < deadline:
            lent = Lent(clock=SystemClock())
            poll(lent)
            rows = {row.pid: row for row in lent.take("process")}
            below = [row for row in rows.values() if row.pid == process.pid or row.ppid in rows]
            names = sorted(row.name for row in below)
        assert names == ["sh", "sh", "sleep"]
        assert os.getpid() not in rows
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_processes_that_come_and_go_while_they_are_read_do_no_harm():
    over = threading.Event()

    def churn():
        while not over.is_set():
            subprocess.run(["true"], check=True)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        lent = Lent(clock=SystemClock())
        collector = ProcessCollector()
        collector.start(lent.context)
        for _ in range(150):
            collector.sample("tree")
        collector.stop()
    finally:
        over.set()
        thread.join()


def test_the_tree_is_read_once_a_second_or_as_seldom_as_the_user_wants(proc):
    (tier,) = ProcessCollector(proc).start(Lent(root_pid=ROOT, hz=10.0).context)
    assert tier.period_ns == 1_000_000_000
    (tier,) = ProcessCollector(proc).start(Lent(root_pid=ROOT, hz=0.1).context)
    assert tier.period_ns == 10_000_000_000


@pytest.mark.parametrize("self_link", [None, "4194303"])
def test_a_machine_without_a_proc_that_shows_this_process_is_said_to_have_none(tmp_path, self_link):
    proc = _proc.Proc(str(tmp_path))
    if self_link:
        (tmp_path / "self").symlink_to(self_link)
    with pytest.raises(SourceUnavailable, match="processes are not recorded") as caught:
        ProcessCollector(proc).start(Lent().context)
    assert caught.value.permanent
