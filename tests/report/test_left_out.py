"""What the recorder left out of the samples is said in the report, with how much of it."""

import pytest

from gpucost.report.load import load_report
from run_maker import make_run

UUID = "GPU-0a1b2c3d-0000-0000-0000-000000000000"


def notes(runs, left_out):
    report = load_report(make_run(runs, 10, recorder={"hz": 10.0, "left_out": left_out}), environ={})
    return [note for note in report.quality.notes if "left out" in note]


def test_impossible_readings_and_samples_of_nobody_are_counted_apart(tmp_path):
    left_out = {UUID: {"impossible": {"power_w": 2, "process sm_util_pct": 1200}, "unlisted_samples": 1}}
    assert notes(tmp_path, left_out) == [
        "gpu0: 1,202 impossible readings left out (power_w 2, process sm_util_pct 1,200)",
        "gpu0: 1 utilization sample of processes that are in no process list left out",
    ]


@pytest.mark.parametrize(
    "left_out",
    [
        {},
        [1],
        "x",
        {UUID: 3},
        {UUID: {"impossible": 3, "unlisted_samples": "many"}},
        {UUID: {"unlisted_samples": True}},
    ],
)
def test_a_manifest_that_makes_no_sense_says_nothing(tmp_path, left_out):
    assert notes(tmp_path, left_out) == []
