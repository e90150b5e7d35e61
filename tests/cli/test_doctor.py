"""`gpucost doctor`, against machines that the stand-in driver plays."""

import json
import os
import subprocess
import sys

import pytest

from driver.scenario import Activity, Gpu, Mig, Process, Scenario, call_fails, init_fails, slow


@pytest.fixture
def doctor(driver_env, tmp_path):
    """Runs it; gives the exit code, and what it printed."""

    def run(scenario, *options):
        environ = {**os.environ, **(driver_env(scenario) if scenario else {"LD_LIBRARY_PATH": str(tmp_path)})}
        command = [sys.executable, "-m", "gpucost", "doctor", *options]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=100)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout

    return run


def test_a_machine_on_which_all_can_be_measured_exits_with_0(doctor):
    code, out = doctor(Scenario(gpus=[Gpu(activity=Activity(sm=10), power_w=300)]), "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert found["complete"]
    (gpu,) = found["gpus"]
    assert {"energy_j", "power_w", "memory_used_bytes", "gpm"} <= set(gpu["measured"])
    assert gpu["missing"] == {}
    periods = gpu["update_periods_ms"]
    assert (periods["gpu_util_pct"], periods["power_w"]) == (200, 20)
    assert periods["energy_j"] > 0
    assert found["calls"]["nvmlDeviceGetUtilizationRates"]["calls"] >= 20
    assert found["system"]["driver_version"] == "570.86.15"


def test_a_machine_without_a_driver_says_so_and_exits_with_1(doctor):
    code, out = doctor(None)
    assert code == 1
    assert "MISSING  driver: no NVIDIA driver found" in out


def test_a_driver_that_does_not_open_says_why(doctor):
    code, out = doctor(Scenario(faults=[init_fails(18)]))
    assert code == 1
    assert "reboot" in out


def test_what_is_missing_is_named_with_the_reason(doctor):
    faults = [
        call_fails("nvmlDeviceGetTemperatureV", 3),
        call_fails("nvmlDeviceGetTemperature", 3),
        call_fails("nvmlGpmSampleGet", 4),
    ]
    code, out = doctor(Scenario(gpus=[Gpu(activity=Activity())], faults=faults))
    assert code == 1
    assert "temperature_c: not supported" in out
    assert "true activity (GPM): no permission" in out
    assert "-> run as root" in out
    assert out.splitlines()[-1] == "a recording would lack what is marked MISSING"


def test_a_card_without_true_activity_is_complete_all_the_same(doctor):
    """What the hardware does not have is a note: no setting brings it."""
    code, out = doctor(Scenario())
    assert code == 0
    assert "note     GPU 0 (NVIDIA H100 80GB HBM3): true activity (GPM): not supported" in out


def test_mig_is_explained(doctor):
    gpu = Gpu(mig_enabled=True, migs=[Mig(uuid="MIG-a", activity=Activity(sm=5))])
    _, out = doctor(Scenario(gpus=[gpu]))
    assert "in MIG mode: utilization, processes and memory are those of its MIG devices" in out


def test_the_latency_of_each_call_is_measured(doctor):
    _, out = doctor(Scenario(faults=[slow("nvmlDeviceGetPerformanceState", sleep_us=2000)]), "--format", "json")
    assert json.loads(out)["calls"]["nvmlDeviceGetPerformanceState"]["p50_us"] > 2000


def test_a_name_with_control_characters_is_printed_as_text(doctor):
    _, out = doctor(Scenario(gpus=[Gpu(name="evil\x1b[31m")]))
    assert "\x1b" not in out


def test_work_that_goes_through_mps_is_a_note(doctor, mps_server):
    """It can be measured, and whose it is cannot be told."""
    code, out = doctor(Scenario(gpus=[Gpu(activity=Activity(), processes=[Process(pid=mps_server)])]))
    assert code == 0
    assert "shared through MPS, and the driver lists the server alone" in " ".join(out.split())


def test_what_is_true_of_several_gpus_of_one_model_is_said_once():
    from io import StringIO

    from gpucost.render.doctor import render

    system = {"platform": "Linux", "python": "3.12", "pid_namespace": "host"}
    said = [("GPU 0 (A)", "no GPM"), ("GPU 1 (A)", "no GPM"), ("GPU 2 (B)", "no energy"), ("GPU 0 (A)", "no energy")]
    findings = [{"state": "note", "about": about, "text": text, "advice": ""} for about, text in said]
    out = StringIO()
    render({"complete": True, "system": system, "findings": findings, "gpus": [], "calls": {}}, out)
    assert [line for line in out.getvalue().splitlines() if line.startswith("note")] == [
        "note     GPU 0, 1 (A): no GPM",
        "note     GPU 2 (B); GPU 0 (A): no energy",
    ]
