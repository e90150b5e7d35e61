"""Why the GPUs were slow, as the report has it."""

import io
import json
import os
import subprocess
import sys
import time

import pytest

from driver.scenario import Event, Gpu
from driver.scenario import Scenario as DriverScenario
from gpucost.render import RENDERERS, renderer
from report_factory import S, Scenario, a_gpu, demo, report_of

UUID = a_gpu(0).uuid
CUBE = {(UUID, "(no stage)", "busy"): 100 * S}


def held(cause, ns, covered=100 * S, basis="counter", samples=101):
    return (UUID, cause, ns, covered, basis, samples)


def cause_of(report, cause):
    return next(one for one in report.slow[0].held_back if one.cause == cause)


def test_every_cause_is_there_and_what_was_not_read_is_unknown():
    report = report_of(Scenario(cube=CUBE, held_back=[held("power_cap", 25.0 * S)]))
    assert [one.cause for one in report.slow[0].held_back] == ["power_cap", "thermal", "power_brake", "sync_boost"]
    cap, heat = cause_of(report, "power_cap"), cause_of(report, "thermal")
    assert (cap.time_s.text, cap.share_pct.text, cap.basis) == ("25.0 s", "25.0 %", "counter")
    assert (heat.time_s.value, heat.time_s.text, heat.share_pct.value) == (None, "unknown", None)


def test_a_cause_that_was_looked_at_for_a_part_of_the_run_is_a_lower_bound():
    report = report_of(Scenario(cube=CUBE, held_back=[held("thermal", 0.0, covered=60 * S, basis="sampled")]))
    assert cause_of(report, "thermal").time_s.text == "≥ 0.0 s"
    assert cause_of(report, "thermal").share_pct.text == "≥ 0.0 %"


@pytest.mark.parametrize("output", ["terminal", "markdown"])
def test_where_the_driver_says_nothing_there_is_no_section(output):
    assert set(RENDERERS) >= {output}
    text = io.StringIO()
    renderer(output)(report_of(Scenario(cube=CUBE)), text)
    assert "slowed" not in text.getvalue()
    assert "Findings" not in text.getvalue()


def test_a_link_without_a_known_maximum_is_not_called_slow():
    nan = float("nan")
    link = report_of(Scenario(cube=CUBE, links=[(UUID, 10, 4.0, 8.0, nan, nan, nan, nan)])).slow[0].link
    assert link.text == "gen 4 x8 of unknown"
    assert link.below_pct.value is None


def test_findings_are_ranked_by_money_and_the_time_they_touch_has_its_price():
    report = report_of(demo(), price="3.60")
    assert [one.code for one in report.findings] == ["GC301", "GC302", "GC303"]
    heat, link, _ = report.findings
    assert heat.money.usd == "0.0025"  # 2.5 s at 3.60 USD an hour
    assert heat.gpu_time_s.value == 2.5
    assert (link.money.usd, link.money.text, link.gpu_time_s.value) == (None, "–", None)


def test_without_a_price_the_money_of_a_finding_is_unknown_and_its_time_is_not():
    gpus = [a_gpu(0, name="NVIDIA Imaginary 9000")]
    (found,) = report_of(Scenario(gpus, CUBE, held_back=[held("thermal", 5.0 * S)])).findings
    assert (found.money.usd, found.money.text) == (None, "unknown")
    assert found.gpu_time_s.value == 5.0


def test_what_a_driver_said_during_a_recorded_command_is_in_its_report(driver_env, tmp_path):
    """The power cap holds the clocks down throughout; an XID comes each second, so that a slow start of the recorder misses the first at most."""
    gpu = Gpu(util_pct=90, reasons=0x4)
    events = [Event(at_s=at_s, data=79) for at_s in (1, 2, 3, 4)]
    scenario = DriverScenario(gpus=[gpu], events=events, epoch_mono_ns=time.monotonic_ns())
    gpucost = [sys.executable, "-m", "gpucost"]
    environ = {**os.environ, **driver_env(scenario)}
    recorded = [*gpucost, "record", "-q", "--runs", str(tmp_path), "--", "sleep", "5"]
    subprocess.run(recorded, env=environ, check=True, timeout=60)
    printed = subprocess.run(
        [*gpucost, "report", "--runs", str(tmp_path), "--format", "json", "--price", "1"],
        env=environ,
        check=True,
        capture_output=True,
        timeout=60,
    )
    report = json.loads(printed.stdout)
    (slow,) = report["slow"]
    causes = {one["cause"]: one for one in slow["held_back"]}
    assert {one["basis"] for one in causes.values()} == {"counter"}
    assert causes["power_cap"]["time_s"]["value"] > 0
    assert causes["thermal"]["time_s"]["value"] == 0
    assert slow["link"]["gen_max"] == 4
    assert {one["kind"] for one in slow["events"]} == {"xid"}
    assert [one["code"] for one in report["findings"]] == ["GC303"]
