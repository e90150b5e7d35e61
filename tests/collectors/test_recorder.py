"""What recording costs, by its own account."""

import os

import psutil

from collector_harness import Lent
from gpucost.collectors.recorder import RecorderCollector


def rows_of(status):
    lent = Lent(status=status)
    collector = RecorderCollector()
    (tier,) = collector.start(lent.context)
    collector.sample(tier.name)
    collector.stop()
    return {row.collector: row for row in lent.take("recorder")}


def test_every_collector_has_a_row_with_what_it_published():
    rows = rows_of({"nvml": {"ticks": 10, "errors": 1, "driver_s": 0.25}, "process": {"ticks": 1}})
    assert set(rows) == {"nvml", "process", "recorder"}
    assert (rows["nvml"].ticks, rows["nvml"].errors, rows["nvml"].driver_s) == (10, 1, 0.25)
    assert rows["nvml"].cpu_s is None
    assert rows["process"].errors is None


def test_the_row_named_recorder_is_this_whole_process():
    row = rows_of({})["recorder"]
    mine = psutil.Process(os.getpid())
    assert 0 < row.cpu_s <= sum(mine.cpu_times()[:2]) + 0.02
    assert 0.5 < row.rss_bytes / mine.memory_info().rss < 2


def test_what_the_recorder_tells_beyond_the_tables_columns_is_passed_over():
    rows = rows_of({"recorder": {"own_pids": {1, 2}, "journal_bytes": 77}})
    assert rows["recorder"].journal_bytes == 77
    assert rows["recorder"].cpu_s is not None
