"""`make gpu-check`: what it would say of a card, on made-up profiles; and that without a GPU it says so and fails."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from benching.profiles import profile, result

SCRIPT = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "gpu_check.py"


@pytest.fixture(scope="module")
def gpu_check():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module
    spec.loader.exec_module(module)
    return module


def card(gpu_check, *rates, name="NVIDIA H200"):
    made = [
        profile(
            name=name, results=[result("gemm.bf16", "TFLOP/s", rate, dtype="bf16"), result("mem.copy", "GB/s", 4000.0)]
        )
        for rate in rates
    ]
    return gpu_check.Card("GPU-1", name, {"full": made})


def test_without_a_gpu_it_has_not_been_run(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT], env={"LD_LIBRARY_PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "has not been run" in done.stdout


@pytest.mark.parametrize(("rates", "passed"), [((790.0, 795.0), True), ((790.0, 799.0), False), ((790.0,), None)])
def test_a_second_run_must_repeat_the_first_within_one_per_cent(gpu_check, rates, passed):
    (check,) = gpu_check._repeatability(card(gpu_check, *rates))
    assert check.passed is passed


def test_what_failed_a_gate_proves_no_repeatability(gpu_check):
    one = card(gpu_check, 790.0, 790.0)
    for made in one.profiles["full"]:
        for found in made.results:
            found.ceiling = False
    assert gpu_check._repeatability(one)[0].passed is False


@pytest.mark.parametrize(("rate", "passed"), [(790.0, True), (770.0, True), (760.0, False), (850.0, False)])
def test_bf16_must_lie_within_three_per_cent_of_what_is_published(gpu_check, rate, passed):
    assert gpu_check._bf16(card(gpu_check, rate)).passed is passed


def test_a_model_of_which_nothing_is_published_is_not_judged(gpu_check):
    assert gpu_check._bf16(card(gpu_check, 1.0, name="Somebody's GPU")).passed is None


def test_the_page_says_what_was_checked(gpu_check):
    one = card(gpu_check, 790.0, 791.0)
    one.checks = [gpu_check.Check("bf16", True, "790"), gpu_check.Check("copy", False, "1")]
    page = "\n".join(gpu_check._page(one))
    assert page.startswith("# NVIDIA H200")
    assert "| bf16 | passed | 790 |" in page
    assert "| copy | **failed** | 1 |" in page
    assert "gemm.bf16" in page


def test_the_benchmark_runs_twice_in_each_mode_and_its_checks_stand_on_the_same_page(gpu_check, monkeypatch):
    made, uuid = [], "GPU-1"

    def measure(mode, gpus, cards):
        made.append((mode, gpus))
        cards[uuid].profiles.setdefault(mode, []).append(card(gpu_check, 790.0).profiles["full"][0])
        return [mode]

    monkeypatch.setattr(gpu_check, "_measure", measure)
    monkeypatch.setattr(gpu_check, "_copy", lambda card: gpu_check.Check("copy", None, "not tried"))
    cards = {
        uuid: gpu_check.Card(uuid, "NVIDIA H200", sections=["## Fields"]),
        "GPU-2": gpu_check.Card("GPU-2", "other"),
    }
    assert gpu_check._bench(cards, "0") == ["quick", "quick", "full", "full"]
    assert made == [("quick", "0")] * 2 + [("full", "0")] * 2
    page = "\n".join(gpu_check._page(cards[uuid]))
    assert page.index("quick repeats within 1%") < page.index("## Fields") < page.index("## Benchmark")
    assert cards["GPU-2"].checks == []
