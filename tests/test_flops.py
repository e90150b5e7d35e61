"""`gpucost.count_flops`: torch counts, the stage says so, and the program notices neither success nor failure."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

PROGRAM = """
import gpucost, sys
{prelude}
with gpucost.stage("train") as span:
    with gpucost.count_flops(span, times=3) as counted:
        {block}
print(counted.flops)
"""
NEEDS_TORCH = pytest.mark.skipif(
    find_spec("torch") is None, reason="counting FLOP needs torch (pip install 'gpucost[bench]')"
)
PRODUCT = "import torch; torch.ones(2, 3) @ torch.ones(3, 5)"


def run(tmp_path, block, *, recorded=True, prelude=""):
    marks = tmp_path / "stages.jsonl"
    environ = {**os.environ, **({"GPUCOST_STAGE_FILE": str(marks)} if recorded else {})}
    if not recorded:
        environ.pop("GPUCOST_STAGE_FILE", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(block=block, prelude=prelude)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in marks.read_text().splitlines()] if marks.exists() else []
    return done, [line.get("attributes", {}) for line in lines if line["event"] == "end"]


@NEEDS_TORCH
def test_a_product_is_counted_and_stated(tmp_path):
    done, ends = run(tmp_path, PRODUCT)
    assert done.stdout.strip() == str(3 * 2 * 2 * 3 * 5)
    assert ends == [{"flops": 180}]


def test_outside_a_recording_nothing_is_counted_and_torch_is_not_imported(tmp_path):
    done, ends = run(tmp_path, "print('torch' in sys.modules)", recorded=False)
    assert done.stdout.split() == ["False", "None"]
    assert ends == []


def test_without_torch_the_program_does_not_notice(tmp_path):
    done, ends = run(tmp_path, "pass", prelude="sys.modules['torch'] = None")
    assert (done.returncode, done.stdout.strip()) == (0, "None")
    assert ends == [{}]


@NEEDS_TORCH
def test_an_exception_passes_through_and_states_nothing(tmp_path):
    done, ends = run(tmp_path, "raise KeyError('the program own')")
    assert "KeyError" in done.stderr
    assert ends == [{"error": "KeyError"}]
