"""Every probe of `make gpu-check`, run on the stand-in driver, so that the first run on a real GPU does not die of a typo."""

import dataclasses
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from driver.scenario import GIB, Activity, Gpu, Process, Scenario, call_fails

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "benchmarks" / "gpu_check.py"
TORCH = ROOT / "tests" / "benching" / "standin_torch"
UUID = "GPU-11111111-2222-3333-4444-555555555555"
BRIEF = ("--without-bench", "--seconds", "0.6", "--pairs", "1", "--calls", "2")


sys.path.insert(0, str(SCRIPT.parent))

probes = importlib.import_module("gpu_probes")
gpu_site = importlib.import_module("gpu_site")
TESTED_BELOW = {"gpm_loaded", "two_processes", "pid_namespace"}
PROBES = [probe.__name__ for probe in probes.PROBES if probe.__name__ not in TESTED_BELOW]


@pytest.fixture
def check(driver_env, tmp_path):
    """Runs the script on a GPU of the stand-in driver, with or without something that loads it; gives its exit code and page."""
    pids = [tmp_path / "pid-1", tmp_path / "pid-2"]
    gpu = Gpu(
        uuid=UUID,
        util_pct=50,
        power_w=300,
        power_period_s=0.1,
        activity=Activity(sm=40, tensor=20),
        processes=[Process(pid_file=pid, memory_bytes=4 * GIB, sm_util_pct=25) for pid in pids],
    )

    def run(*words, torch=True, faults=(), **changes):
        scenario = Scenario(gpus=[dataclasses.replace(gpu, **changes)], faults=list(faults))
        environ = {
            **os.environ,
            **driver_env(scenario),
            "STANDIN_PID_FILES": os.pathsep.join(map(str, pids)),
            "PYTHONPATH": str(TORCH) if torch else str(no_torch(tmp_path)),
        }
        done = subprocess.run(
            [sys.executable, SCRIPT, *BRIEF, *words],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    return run


def no_torch(folder: Path) -> Path:
    """A path on which torch cannot be imported, whatever is installed."""
    (folder / "torch.py").write_text("raise ImportError", encoding="utf-8")
    return folder


def cells(page: str, title: str) -> list[list[str]]:
    """The rows of the table in a section."""
    section = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBES)
def test_a_probe_runs_through_on_the_stand_in_driver(check, name):
    _, page = check("--only", name)
    title = name.replace("_", " ").capitalize()
    assert f"## {title}" in page
    assert "It broke" not in page
    if name != "dcgm":
        rows = cells(page, title)
        assert rows
        assert all(len(row) == len(rows[0]) for row in rows)


def test_windows_of_activity_go_from_50_to_1000_ms(check):
    _, page = check("--only", "gpm_loaded")
    rows = cells(page, "Gpm loaded")
    assert [row[0] for row in rows] == ["50", "100", "150", "200", "500", "1000"]
    assert rows[-1][3] == "40.0"


@pytest.mark.slow
def test_two_processes_are_told_apart_and_a_namespace_has_pids_of_its_own(check):
    code, page = check("--only", "two_processes", "pid_namespace")
    assert "| two processes that share the GPU are told apart | passed |" in page
    shares = [float(row[1]) for row in cells(page, "Two processes")]
    assert sum(shares) == pytest.approx(1, abs=0.002)
    own = cells(page, "Pid namespace")[1]
    assert own[1] in ("1", "-")  # "-" where this may not be made, and then the page says why
    assert code == 0


def test_without_torch_the_page_says_what_was_not_run(check):
    code, page = check("--only", "fields", "slow_down", torch=False)
    assert code == 0
    assert cells(page, "Fields")
    assert "Not run: it needs a load" in page.partition("## Slow down")[2]


def test_a_driver_that_has_next_to_nothing_is_described_and_nothing_breaks(check):
    missing = ("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetProcessUtilization")
    names = ("fields", "gpm_idle", "buffered_samples", "energy_steps", "latency_idle")
    _, page = check("--only", *names, faults=[call_fails(one, 3) for one in missing], activity=None, buffered=False)
    assert "It broke" not in page
    assert "There is no energy counter: Not Supported" in page
    assert "GPM is not there" in page


def test_a_probe_that_breaks_is_a_failed_check_and_the_others_go_on(tmp_path):
    site = gpu_site.Site(UUID, tmp_path, has_load=False)

    def broken(site):
        """A probe."""
        raise RuntimeError("a fault\nof two lines")

    def sound(site):
        """Another."""
        return ["seen"]

    lines = probes.sections(site, [broken, sound])
    assert [(one.what, one.passed, one.text) for one in site.checks] == [
        ("broken runs", False, "RuntimeError: a fault of two lines")
    ]
    assert "seen" in lines


def test_what_dcgmi_prints_is_read_and_what_it_cannot_measure_is_left_out():
    output = """#Entity   GRACT        SMACT        SMOCC        TENSO        DRAMA
ID
GPU 0     N/A          N/A          N/A          N/A          N/A
GPU 0     0.900        0.800        0.500        0.700        0.100
GPU 0     1.000        0.600        0.300        0.500        0.300
"""
    assert probes._dcgm_means(output) == pytest.approx([95, 70, 40, 60, 20])
    assert probes._dcgm_means("Error: cannot connect to the host engine") == []


def test_a_cell_of_the_page_cannot_leave_its_cell():
    assert probes.table(["a"], [["x | y"]])[-1] == "| x / y |"


def test_what_is_saved_lies_where_the_documents_say(tmp_path):
    gpu_check = importlib.import_module("gpu_check")
    run = tmp_path / "made" / "20260101-000000-abcdef"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}", encoding="utf-8")
    card = gpu_check.Card(UUID, "NVIDIA H100 80GB HBM3", recordings={"idle-10hz": run})
    gpu_check._save(card, "# page\n", [], tmp_path / "root")
    saved = tmp_path / "root"
    assert (saved / "docs/validation/nvidia-h100-80gb-hbm3.md").read_text() == "# page\n"
    assert (saved / "sample_data/gpus/nvidia-h100-80gb-hbm3/idle-10hz" / run.name / "run.json").exists()


def test_to_look_for_a_gpu_needs_one(check, tmp_path):
    assert check("--look") == (0, "")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--look"],
        env={"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["gpu-check has not been run: there is no GPU here that NVML lists."]
    assert done.stderr == ""
