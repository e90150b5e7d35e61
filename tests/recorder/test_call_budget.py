"""How much of a tick calls into the driver may take: set by the user, kept to, and told when a call was slowed down."""

import os
import subprocess

import pytest

from driver.scenario import Gpu, Scenario, slow
from gpucost.store.reader import load
from recording_tools import GPUCOST, manifest, only_run, record

SLOW = Scenario(gpus=[Gpu()], faults=[slow("nvmlDeviceGetPerformanceState", sleep_us=8000)])


def recorded(tmp_path, driver_env, *options):
    """A run against a driver of which one call takes 8 ms, at 10 Hz."""
    runs = tmp_path / "runs"
    done = record(runs, "sleep", "2", options=options, env={**os.environ, **driver_env(SLOW)}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return only_run(runs)


def slowed(run):
    events = load(run).frames["event"]
    return [text for kind, text in zip(events["kind"], events["message"], strict=True) if kind == "driver_call_slow"]


def test_a_call_beyond_the_budget_is_asked_less_often_and_the_report_says_so(tmp_path, driver_env):
    """A hundredth of a tick is 1 ms."""
    run = recorded(tmp_path, driver_env)
    assert manifest(run)["recorder"]["call_budget_pct"] == 1.0
    assert any(text.startswith("pstate takes ") for text in slowed(run))
    report = subprocess.run([*GPUCOST, "report", run], capture_output=True, text=True, check=True).stdout
    assert "driver_call_slow after " in report
    assert "pstate takes " in report


@pytest.mark.parametrize("place", ["option", "file"])
def test_a_larger_budget_lets_the_same_call_be_made_at_every_tick(tmp_path, driver_env, place):
    """The option and the configuration say it alike."""
    if place == "file":
        tmp_path.joinpath("gpucost.toml").write_text("call_budget = 100\n")
    run = recorded(tmp_path, driver_env, *(["--call-budget", "100"] if place == "option" else []))
    assert manifest(run)["recorder"]["call_budget_pct"] == 100.0
    assert slowed(run) == []
    assert load(run).frames["gpu"]["pstate"].notna().all()


def test_the_option_goes_before_the_configuration(tmp_path, driver_env):
    tmp_path.joinpath("gpucost.toml").write_text("call_budget = 100\n")
    run = recorded(tmp_path, driver_env, "--call-budget=0.5")
    assert manifest(run)["recorder"]["call_budget_pct"] == 0.5
    assert slowed(run)


@pytest.mark.parametrize("given", ["0", "-1", "100.1", "nan", "inf", "much"])
def test_what_is_no_share_of_a_tick_is_refused_in_a_line(tmp_path, given):
    done = record(tmp_path / "runs", "true", options=[f"--call-budget={given}"])
    assert done.returncode == 2
    assert f"call budget is '{given}', but takes a number above 0 and up to 100" in done.stderr
    assert "Traceback" not in done.stderr
