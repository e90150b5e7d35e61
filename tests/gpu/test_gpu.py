"""On a real GPU (`make gpu-check`): what the facts about NVML say, checked; the page that comes out is printed, and written where asked.

`GPUCOST_VALIDATION=DIR` writes `DIR/<gpu>.md`. Loads need torch; without it the parts that need a load are left out, and the page says so.
"""

import importlib.util
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpucost.analyzers import analyze
from gpucost.store.reader import load

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

GPUCOST = [sys.executable, "-m", "gpucost"]
HAS_TORCH = importlib.util.find_spec("torch") is not None
FIELDS = (185, 186, 191, 83, 197, 198, 138, 139, 140, 141, 74, 75, 76, 77, 78, 79, 81, 269, 270, 271)
RATES = (1, 5, 10, 20)
DUTY = """
import sys, time, torch
duty, seconds = float(sys.argv[1]), float(sys.argv[2])
a = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
torch.cuda.synchronize()
end = time.monotonic() + seconds
while time.monotonic() < end:
    until = time.monotonic() + duty
    while time.monotonic() < until:
        a @ a
        torch.cuda.synchronize()
    time.sleep(1 - duty)
"""
WORK = """
import time, torch
a = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
for _ in range(20):
    a @ a
torch.cuda.synchronize()
began = time.perf_counter()
for _ in range(3000):
    a @ a
torch.cuda.synchronize()
print(time.perf_counter() - began)
"""


@pytest.fixture(scope="module")
def nvml():
    """The binding, with a session; without a GPU these tests are skipped."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        pytest.skip(f"no NVIDIA GPU: {error}")
    yield pynvml
    pynvml.nvmlShutdown()


@pytest.fixture(scope="module")
def page(nvml):
    """Lines of the page, printed and written at the end."""
    name = nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(0))
    lines = [f"# {name}", "", f"Driver {nvml.nvmlSystemGetDriverVersion()}; made by `make gpu-check`."]
    yield lines
    text = "\n".join(lines) + "\n"
    sys.__stdout__.write(f"\n{text}")
    folder = os.environ.get("GPUCOST_VALIDATION")
    if folder:
        (Path(folder) / (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".md")).write_text(
            text, encoding="utf-8"
        )


def value(answer) -> float:
    """The member of the union that the answer's type names."""
    return getattr(
        answer.value, {0: "dVal", 1: "uiVal", 2: "ulVal", 4: "sllVal", 5: "siVal"}.get(answer.valueType, "ullVal")
    )


def recorded(runs: Path, *argv: str, hz: float = 10):
    command = [*GPUCOST, "record", "--runs", str(runs), "-q", "--hz", str(hz), "--", *argv]
    subprocess.run(command, check=True, timeout=600)
    return load(str(max(runs.iterdir(), key=lambda path: path.stat().st_mtime)))


def test_what_doctor_says_of_this_machine(page):
    done = subprocess.run(
        [*GPUCOST, "doctor", "--format", "json"], capture_output=True, text=True, check=False, timeout=300
    )
    found = json.loads(done.stdout)
    page += ["", "## Doctor", "", "| state | about | text |", "|---|---|---|"]
    page += [f"| {one['state']} | {one['about']} | {one['text']} |" for one in found["findings"]]
    page += [f"\nUpdate periods of {gpu['uuid']}: {gpu['update_periods_ms']}" for gpu in found["gpus"]]
    page += ["", "| call | calls | median us | 99 % us | longest us |", "|---|---|---|---|---|"]
    page += [
        f"| {name} | {c['calls']} | {c['p50_us']} | {c['p99_us']} | {c['max_us']} |"
        for name, c in found["calls"].items()
    ]
    assert done.returncode == (0 if found["complete"] else 1)


def test_which_fields_answer_the_user_who_runs_this(nvml, page):
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    asked = [(field, 0xFFFFFFFF if 138 <= field <= 141 else 0) for field in FIELDS]
    answers = nvml.nvmlDeviceGetFieldValues(handle, asked)
    page += ["", f"## Fields (root: {os.geteuid() == 0})", "", "| field | code | type | value |", "|---|---|---|---|"]
    page += [f"| {a.fieldId} | {a.nvmlReturn} | {a.valueType} | {value(a)} |" for a in answers]
    assert any(answer.nvmlReturn == 0 for answer in answers)


def test_what_the_buffered_samples_are(nvml, page):
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    page += ["", "## Buffered samples", "", "| type | count | period ms | age of the newest s |", "|---|---|---|---|"]
    for kind in (0, 1, 5, 6):
        try:
            _, samples = nvml.nvmlDeviceGetSamples(handle, kind, 0)
        except nvml.NVMLError as error:
            page.append(f"| {kind} | {error} | | |")
            continue
        stamps = sorted(sample.timeStamp for sample in samples)
        apart = [(b - a) / 1000 for a, b in itertools.pairwise(stamps)]
        age = time.time() - stamps[-1] / 1e6
        page.append(f"| {kind} | {len(stamps)} | {statistics.median(apart) if apart else '-'} | {age:.3f} |")


def test_energy_by_the_counter_is_the_integral_of_power_when_idle(nvml, page, tmp_path):
    row = analyze(recorded(tmp_path, "sleep", "30")).energy_gpus.iloc[0]
    page += [
        "",
        "## Energy, 30 s idle",
        "",
        f"counter {row['counter_j']:.1f} J, integral {row['integral_j']:.1f} J, difference {row['difference_pct']:.2f} %",
    ]
    assert row["basis"] in ("counter", "integrated")


@pytest.mark.skipif(not HAS_TORCH, reason="needs torch")
def test_a_load_of_known_duty_cycle_is_busy_for_it(nvml, page, tmp_path):
    page += [
        "",
        "## Duty cycles, 30 s",
        "",
        "| duty | Hz | busy share of the load | counter J | integral J |",
        "|---|---|---|---|---|",
    ]
    for duty in (0.25, 0.5, 0.9):
        for hz in (1, 10):
            recording = recorded(tmp_path, sys.executable, "-c", DUTY, str(duty), "30", hz=hz)
            analysis = analyze(recording)
            gpu, energy = analysis.gpus.iloc[0], analysis.energy_gpus.iloc[0]
            share = gpu["busy_ns"] / 30e9
            page.append(f"| {duty} | {hz} | {share:.3f} | {energy['counter_j']:.0f} | {energy['integral_j']:.0f} |")
            assert share == pytest.approx(duty, abs=0.1)


@pytest.mark.skipif(not HAS_TORCH, reason="needs torch")
def test_how_much_recording_slows_the_work_down(nvml, page, tmp_path):
    def seconds(*before: str) -> float:
        done = subprocess.run(
            [*before, sys.executable, "-c", WORK], capture_output=True, text=True, check=True, timeout=600
        )
        return float(done.stdout.split()[-1])

    alone = statistics.median(seconds() for _ in range(3))
    page += [
        "",
        "## Slow-down",
        "",
        "| recorder | seconds | slow-down % |",
        "|---|---|---|",
        f"| none | {alone:.3f} | |",
    ]
    for hz in RATES:
        beside = statistics.median(
            seconds(*GPUCOST, "record", "--runs", str(tmp_path), "-q", "--hz", str(hz), "--") for _ in range(3)
        )
        page.append(f"| {hz} Hz | {beside:.3f} | {(beside / alone - 1) * 100:+.2f} |")


def test_what_was_left_out(page):
    if not HAS_TORCH:
        page += ["", "torch is not installed: duty cycles and slow-down were not measured."]
