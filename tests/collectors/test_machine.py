"""The host: CPU, memory, swap, disks, network, pressure."""

from types import SimpleNamespace

import psutil
import pytest

from collector_harness import FakeProc, Lent
from gpucost.clock import SystemClock
from gpucost.collectors import machine
from gpucost.collectors._proc import page_bytes
from gpucost.collectors.machine import MachineCollector

DISKSTATS = """\
   7       0 loop0 10 0 800 0 10 0 900 0 0 0 0
 259       0 nvme0n1 100 0 2000 5 50 0 4000 7 0 1 2 3 4 5 6
 259       1 nvme0n1p1 90 0 1900 5 40 0 3900 7 0 1 2
 259       2 nvme0c0n1 100 0 2000 5 50 0 4000 7 0 1 2
   8       0 sda 1 0 8 0 1 0 16 0 0 0 0
 253       0 dm-0 90 0 1900 5 40 0 3900 7 0 1 2
   9     127 md127 90 0 1900 5 40 0 3900 7 0 1 2
"""


@pytest.fixture
def proc(tmp_path):
    return FakeProc(tmp_path / "proc")


def hardware(tmp_path, *names):
    """A /sys in which these devices (`block/sda`, `class/net/eth0`) are hardware."""
    for name in names:
        (tmp_path / "sys" / name / "device").mkdir(parents=True)
    return str(tmp_path / "sys")


def test_whole_disks_are_counted_once(proc, tmp_path):
    """Not their partitions, not the loop, RAID and mapper devices upon them, not the paths to a disk."""
    proc.write("diskstats", DISKSTATS)
    sys_root = hardware(tmp_path, "block/nvme0n1", "block/nvme0c0n1", "block/sda")
    assert machine.disk_traffic(proc, sys_root) == ((2000 + 8) * 512, (4000 + 16) * 512)


def test_a_machine_whose_disks_cannot_be_seen_has_unknown_traffic(proc, tmp_path):
    proc.write("diskstats", DISKSTATS)
    assert machine.disk_traffic(proc, str(tmp_path / "sys")) == (None, None)


def network(**names):
    return {name: SimpleNamespace(bytes_recv=rx, bytes_sent=tx) for name, (rx, tx) in names.items()}


def test_bridges_and_virtual_pairs_do_not_count_the_same_bytes_again(tmp_path):
    counters = network(lo=(5, 5), eth0=(100, 10), ib0=(1000, 20), docker0=(70, 7), veth1=(70, 7))
    sys_root = hardware(tmp_path, "class/net/eth0", "class/net/ib0")
    assert machine.network_traffic(counters, sys_root) == (1100, 30)


def test_in_a_container_all_but_loopback_counts(tmp_path):
    assert machine.network_traffic(network(lo=(5, 5), eth0=(100, 10)), str(tmp_path)) == (100, 10)


def test_a_machine_with_loopback_alone_has_unknown_traffic(tmp_path):
    assert machine.network_traffic(network(lo=(5, 5)), str(tmp_path)) == (None, None)


def test_pressure_is_in_seconds_and_null_where_the_kernel_keeps_none(proc):
    proc.write("pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=4164485\nfull avg10=0.00 total=0\n")
    proc.write(
        "pressure/memory", "some avg10=1.00 avg60=0.00 avg300=0.00 total=2000000\nfull avg10=0.00 total=500000\n"
    )
    assert machine.pressure(proc) == {
        "psi_cpu_some_s": 4.164485,
        "psi_memory_some_s": 2.0,
        "psi_memory_full_s": 0.5,
        "psi_io_some_s": None,
        "psi_io_full_s": None,
    }


def test_swap_traffic_is_in_bytes_of_this_machines_pages(proc):
    proc.write("vmstat", "nr_free_pages 10\npswpin 3\npswpout 4\n")
    assert machine.swap_traffic(proc) == (3 * page_bytes(), 4 * page_bytes())


def test_swap_in_use_is_what_is_not_free(proc):
    proc.write("meminfo", "MemTotal:  100 kB\nSwapCached: 7 kB\nSwapTotal:       1000 kB\nSwapFree:         250 kB\n")
    assert machine.swap_used(proc) == 750 * 1024


def test_what_this_machine_does_not_tell_is_null_and_the_row_comes_all_the_same(proc, tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "net_io_counters", lambda **_: (_ for _ in ()).throw(FileNotFoundError()))
    lent = Lent()
    collector = MachineCollector(proc, str(tmp_path / "sys"))
    (tier,) = collector.start(lent.context)
    collector.sample(tier.name)
    (row,) = lent.take("machine")
    unknown = ("swap_used_bytes", "swap_in_bytes", "disk_read_bytes", "net_rx_bytes", "psi_io_full_s")
    assert [getattr(row, name) for name in unknown] == [None] * len(unknown)
    assert row.memory_used_bytes > 0


def test_the_first_row_has_counters_and_no_cpu_share_and_later_ones_have_both():
    lent = Lent(clock=SystemClock())
    collector = MachineCollector()
    (tier,) = collector.start(lent.context)
    collector.sample(tier.name)
    (first,) = lent.take("machine")
    assert first.cpu_util_pct is None
    assert first.cpu_max_core_util_pct is None
    sum(range(2_000_000))  # some ticks of CPU time
    collector.sample(tier.name)
    collector.stop()
    (row,) = lent.take("machine")
    assert 0 <= row.cpu_util_pct <= row.cpu_max_core_util_pct <= 100
    assert row.memory_available_bytes + row.memory_used_bytes == psutil.virtual_memory().total
    assert row.disk_read_bytes is None or row.disk_read_bytes >= first.disk_read_bytes


def test_the_host_is_described():
    lent = Lent()
    MachineCollector().start(lent.context)
    facts = lent.facts["host"]
    assert facts["memory_total_bytes"] == psutil.virtual_memory().total
    assert facts["cpu_count"] >= 1
    assert facts["platform"].startswith("Linux")
    assert len(facts["boot_id"]) == 36
