"""Whole benchmarks on stand-ins: NVIDIA's driver for telemetry, CUDA for the kernels. They show the structure, and no figure of any device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from driver.scenario import Activity, Gpu, Mig, Process, Scenario
from gpucost.bench import store
from gpucost.bench.model import STATUSES, Profile
from gpucost.bench.session import Options, Session
from gpucost.errors import UsageError

pytest.importorskip("torch", reason="a benchmark needs torch (pip install 'gpucost[bench]')")

SCRIPT = Path(__file__).parent.parent / "benching" / "session_process.py"
UUID = "GPU-11111111-1111-1111-1111-111111111111"
OTHER = "GPU-22222222-2222-2222-2222-222222222222"
H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def run(tmp_path):
    """Runs a session in a process of its own; gives what came of each device, and what was said."""

    def run_it(environ=None, **arguments):
        done = subprocess.run(
            [sys.executable, str(SCRIPT), json.dumps({"out": str(tmp_path / "profiles"), **arguments})],
            env={**os.environ, "GPUCOST_PROFILES": str(tmp_path / "kept"), "OMP_NUM_THREADS": "1", **(environ or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        for one in answer["outcomes"]:
            one["profile"] = one["profile"] and Profile.from_json(one["profile"])
        return answer["outcomes"], answer["said"]

    return run_it


def gpu(uuid=UUID, **fields):
    return Gpu(uuid=uuid, name=H100, **{"power_w": 300, "sm_clock_mhz": 1700, "reasons": 0x4, **fields})


def test_a_full_run_leaves_a_result_for_every_test_and_all_of_its_files(run, driver_env, tmp_path):
    (outcome,), _ = run(driver_env(Scenario(gpus=[gpu(activity=Activity(tensor=90, dram=30))])), mode="full")
    profile = outcome["profile"]
    assert (profile.device.uuid, profile.device.name, profile.device.power_limit_w) == (UUID, H100, 700)
    assert (profile.mode, profile.contention, profile.shared, profile.power_scope) == ("full", "none", False, "gpu")
    assert profile.tool["driver"]
    names = {one.id for one in profile.results}
    assert names >= {
        "power.idle_no_ctx", "power.idle_ctx", "gemm.bf16", "gemm.fp32", "gemm.int8", "gemm.bf16.shapes", "gemm.bf16.zeros",
        "mem.triad", "mem.copy", "mem.read", "mem.write", "link.h2d.pinned", "link.d2h.pinned", "link.both.pinned", "link.h2d.pageable", "link.pin",
        "launch.enqueue", "launch.throughput", "launch.roundtrip", "launch.graph_node", "roofline",
    }  # fmt: skip
    assert {one.status for one in profile.results} == {"ok"}
    assert not [one.id for one in profile.results if "wrong_result" in one.flags]
    assert profile.result("gemm.bf16").repeat is not None
    assert len(profile.result("roofline").points) == 5
    assert profile.result("mem.triad").error_fp64 <= 1e-5
    assert profile.theoretical["gemm_tflops"]["bf16"] == 989

    path = store.place(tmp_path / "profiles", profile)
    windows, telemetry = (pq.read_table(path / name) for name in ("samples.parquet", "telemetry.parquet"))
    assert set(windows["test_id"].to_pylist()) >= {
        "gemm.bf16",
        "mem.triad",
        "roofline/m=1,n=64,k=64",
        "gemm.bf16.repeat",
    }
    assert set(telemetry["gpu_uuid"].to_pylist()) == {UUID}
    assert {"power.idle_ctx", "warm_up", None} <= set(telemetry["test_id"].to_pylist())
    assert set(windows["clocks_event_reasons"].to_pylist()) >= {4}, "throttled windows are kept and labelled"

    idle = profile.result("power.idle_ctx")
    assert (idle.unit, idle.sustained) == ("W", 300)
    loaded = [one for one in profile.results if one.sm_clock_mhz]
    assert {one.sm_clock_mhz["median"] for one in loaded} == {1700}
    assert {one.gpm["tensor_active_pct"] for one in profile.results if one.gpm} == {90}
    assert {one.reasons["sw_power_cap"] for one in loaded if one.reasons} == {1.0}
    assert not any(one.ceiling for one in profile.results if one.unit == "W")


def test_a_device_that_others_use_is_refused(run, driver_env):
    scenario = Scenario(gpus=[gpu(processes=[Process(pid=4_000_000, memory_bytes=1 << 30)], util_pct=50)])
    (outcome,), _ = run(driver_env(scenario))
    assert outcome["profile"] is None
    assert "4000000" in outcome["refused"]
    assert "busy" in outcome["refused"]


def test_a_shared_device_is_measured_when_asked_for_and_gives_no_ceiling(run, driver_env):
    scenario = Scenario(gpus=[gpu(processes=[Process(pid=4_000_000, memory_bytes=1 << 30)])])
    (outcome,), _ = run(driver_env(scenario), allow_shared=True, plan="tiny")
    profile = outcome["profile"]
    assert (profile.shared, profile.contention) == (True, "found")
    assert not any(one.ceiling for one in profile.results)
    assert profile.ceilings["gemm_tflops"] == {}
    assert "contended" in profile.result("gemm.bf16").flags


def test_two_devices_compute_at_once_and_copy_to_each_other(run, driver_env):
    outcomes, _ = run(driver_env(Scenario(gpus=[gpu(), gpu(OTHER)])), plan="tiny")
    first, second = (one["profile"] for one in outcomes)
    assert (first.device.uuid, second.device.uuid) == (UUID, OTHER)
    assert first.result("gemm.bf16").concurrent
    assert not first.result("link.h2d.pinned").concurrent
    assert first.result(f"link.p2p.{OTHER}").precision == "peer access"
    assert not [one.id for one in second.results if one.id.startswith("link.p2p")], "a quick run measures one pair"


def test_a_full_run_of_two_devices_says_what_is_left_when_both_work(run, driver_env):
    outcomes, _ = run(driver_env(Scenario(gpus=[gpu(), gpu(OTHER)])), mode="full", plan="tiny")
    for one, peer in zip(outcomes, (OTHER, UUID), strict=True):
        profile = one["profile"]
        assert not profile.result("gemm.bf16").concurrent
        ids = {found.id for found in profile.results}
        assert {f"link.p2p.{peer}", f"link.p2p.{peer}.both", f"link.p2p.{peer}.latency"} <= ids
        ratio = profile.result("concurrent.mem.triad")
        assert ratio is None or ratio.unit == "ratio"


def test_a_mig_device_has_rates_of_its_own_and_the_power_of_its_gpu(run, driver_env):
    mig = "MIG-33333333-3333-3333-3333-333333333333"
    (outcome,), _ = run(driver_env(Scenario(gpus=[gpu(mig_enabled=True, migs=[Mig(uuid=mig)])])), plan="tiny")
    profile = outcome["profile"]
    assert (profile.device.uuid, profile.device.parent_uuid, profile.power_scope) == (mig, UUID, "parent_gpu")
    assert profile.result("gemm.bf16").status == "ok"
    assert not [one.id for one in profile.results if one.energy_pj is not None], "nobody knows a slice's energy"
    assert profile.theoretical["gemm_tflops"]["bf16"] == pytest.approx(989 * 4 / 132)


def test_without_a_driver_the_rates_are_there_and_the_rest_is_unknown(run, tmp_path):
    (outcome,), said = run({"LD_LIBRARY_PATH": str(tmp_path)}, plan="tiny")
    profile = outcome["profile"]
    assert "no NVML" in said[0]
    assert (profile.contention, profile.power_scope, profile.device.power_limit_w) == ("unknown", None, None)
    assert profile.result("gemm.bf16").status == "ok"
    assert profile.result("gemm.bf16").power_w is None
    assert profile.result("power.idle_ctx") is None


def test_little_free_memory_skips_what_does_not_fit_and_goes_on(run, driver_env):
    scenario = driver_env(Scenario(gpus=[gpu()]))
    (outcome,), _ = run({**scenario, "STANDIN_FREE_BYTES": str((1 << 30) + 20_000)}, plan="tiny")
    statuses = {one.id: one.status for one in outcome["profile"].results}
    assert set(statuses.values()) <= set(STATUSES)
    assert statuses["mem.triad"] == "skipped_oom"
    assert statuses["launch.throughput"] == "ok"


def test_a_kernel_that_hangs_ends_its_test_and_the_rest_is_measured(run, driver_env):
    scenario = driver_env(Scenario(gpus=[gpu()]))
    (outcome,), _ = run({**scenario, "STANDIN_HANGS_IN": "pin"}, plan="tiny", slack_s=3)
    profile = outcome["profile"]
    assert profile.result("link.pin").status == "timeout"
    assert profile.result("launch.throughput").status == "ok"
    assert "the worker was lost 1 time" in profile.warnings


def test_no_gpu_at_all_gives_the_profile_of_the_cpu(run, tmp_path):
    (outcome,), said = run({"LD_LIBRARY_PATH": str(tmp_path), "STANDIN_DEVICES": "0"}, kind="cpu")
    profile = outcome["profile"]
    assert "the CPU is measured" in said[0]
    assert (profile.device.kind, profile.power_scope) == ("cpu", None)
    assert profile.device.uuid.startswith("CPU-")
    assert {one.status for one in profile.results} == {"ok"}
    assert not [one.id for one in profile.results if one.power_w or one.energy_pj or one.sm_clock_mhz], "null, not 0"
    assert not [one.id for one in profile.results if one.ceiling and one.n_clean < 5 and one.id != "launch.enqueue"]


@pytest.mark.parametrize("gpus", ["sim:h100:2", "7"])
def test_what_cannot_be_measured_is_said_before_anything_is_started(gpus, monkeypatch, tmp_path):
    monkeypatch.setenv("GPUCOST_PROFILES", str(tmp_path))
    with pytest.raises(UsageError):
        Session(Options(gpus=gpus)).run()


def test_without_torch_there_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="torch") as caught:
        Session(Options()).run()
    assert "gpucost[bench]" in caught.value.hint


def test_nothing_but_the_worker_imports_torch():
    code = "import sys, gpucost.bench.session, gpucost.bench.store, gpucost.bench.compare, gpucost.bench.view, gpucost.cli.bench; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
