"""`gpucost bench` on the command line: profiles are listed, shown and compared, and mistakes are one line."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import psutil
import pytest

from benching.profiles import profile, result, samples
from gpucost.bench import store


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """Keeps a made-up profile in the user's folder."""
    root = tmp_path / "kept"
    monkeypatch.setenv("GPUCOST_PROFILES", str(root))

    def keep(*, rates=(), **fields):
        made = profile(**fields)
        store.write(store.place(root, made), made, samples("gemm.bf16", rates), [])
        return made

    return keep


def test_without_profiles_the_list_says_how_to_make_one(cli, kept):
    code, out, err = cli("bench", "list")
    assert (code, out) == (0, "")
    assert "`gpucost bench` makes one" in err


def test_profiles_are_listed_newest_first(cli, kept):
    kept(run_id="20260101-000000-aaaaaa")
    kept(run_id="20260201-000000-bbbbbb", uuid="GPU-2222")
    code, out, _ = cli("bench", "list")
    assert code == 0
    assert out.index("bbbbbb") < out.index("aaaaaa")
    _, out, _ = cli("bench", "list", "--format", "json")
    assert [one["device"] for one in json.loads(out)] == ["GPU-1111", "GPU-2222"]


def test_a_profile_is_shown_with_its_interval_and_what_others_have_published(cli, kept):
    kept(
        name="NVIDIA H200",
        results=[
            result("gemm.bf16", "TFLOP/s", 600.0, dtype="bf16"),
            result("launch.enqueue", "us", 4.0, flags=["unstable"]),
        ],
    )
    code, out, _ = cli("bench", "show", "--width", "140")
    assert code == 0
    for piece in ("NVIDIA H200", "gemm.bf16", "600", "599-601", "low (790-794)", "unstable", "driver 1.2.3"):
        assert piece in out, piece


def test_the_same_in_json_is_the_profile_itself(cli, kept):
    made = kept()
    _, out, _ = cli("bench", "show", "--format", "json")
    assert json.loads(out) == made.to_json()


def test_markdown_takes_no_name_for_markup(cli, kept):
    kept(name="**bold** | @somebody <b>")
    _, out, _ = cli("bench", "show", "--format", "markdown")
    assert "**bold**" not in out
    assert "<b>" not in out


def test_escape_sequences_in_a_profile_do_not_reach_the_terminal(cli, kept):
    kept(name="GPU\x1b[31m\x07", warnings=["\x1b]0;title\x07"])
    _, out, _ = cli("bench", "show")
    assert "\x1b" not in out
    assert "\x07" not in out


def test_a_comparison_says_what_is_slower_and_what_else_differs(cli, kept):
    kept(run_id="20260101-000000-aaaaaa", rates=[700 + i % 3 for i in range(60)])
    changed = [
        result("gemm.bf16", "TFLOP/s", 630.0, dtype="bf16", shape=[8192, 8192, 8192]),
        result("mem.triad", "GB/s", 3000.0),
    ]
    kept(run_id="20260201-000000-bbbbbb", rates=[630 + i % 3 for i in range(60)], results=changed, driver="9.9")
    code, out, _ = cli("bench", "compare", "latest~1", "--width", "140")
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("gemm.bf16"))
    assert "slower" in row
    assert "0.9" in row
    assert "differs: driver: 1.2.3 and 9.9" in out
    _, out, _ = cli("bench", "compare", "latest~1", "latest", "--format", "json")
    verdicts = {one["id"]: one["verdict"] for one in json.loads(out)["tests"]}
    assert verdicts["gemm.bf16"] == "slower"
    assert verdicts["launch.enqueue"] == "not compared"


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (("bench", "show", "nothing"), "no profile answers"),
        (("bench", "compare", "latest", "latest"), "the same profile"),
        (("bench", "show", "--format", "xml"), "--format"),
        (("bench", "--dtype", "fp4"), "fp4"),
        (("bench", "--gpus", "sim:h100:1"), "simulated"),
        (("bench", "--nonsense"), "nonsense"),
        (("bench", "nonsense"), "nonsense"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(cli, kept, argv, word):
    kept()
    code, out, err = cli(*argv)
    assert (code, out) == (2, "")
    assert word in err.splitlines()[0]
    assert "Traceback" not in err


def test_a_folder_in_use_is_refused_before_anything_is_measured(cli, kept, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    code, _, err = cli("bench", "--out", str(tmp_path / "full"))
    assert code == 2
    assert "not empty" in err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_help_names_what_there_is(cli):
    _, out, _ = cli("bench", "--help")
    for word in ("--quick", "--full", "--gpus", "--dtype", "--out", "--allow-shared", "show", "compare", "list"):
        assert word in out


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is None, reason="measuring needs torch (pip install 'gpucost[bench]')")
def test_a_cpu_is_measured_kept_and_written_where_asked(tmp_path):
    environ = {**os.environ, "GPUCOST_PROFILES": str(tmp_path / "kept"), "OMP_NUM_THREADS": "1"}
    argv = [
        sys.executable,
        "-m",
        "gpucost",
        "bench",
        "--gpus",
        "cpu",
        "--dtype",
        "fp64",
        "--out",
        str(tmp_path / "out"),
        "--format",
        "json",
    ]
    done = subprocess.run(argv, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: a busy machine fails the contention gate, as it should
    (made,) = json.loads(done.stdout)
    assert made["device"]["kind"] == "cpu"
    assert {one["id"] for one in made["results"]} >= {"gemm.fp64", "mem.triad", "launch.enqueue"}
    flagged = [one for one in made["results"] if {"contended", "wrong_result", "not_monotone"} & set(one["flags"])]
    assert done.returncode == bool(flagged)
    assert not [one["id"] for one in flagged if one["ceiling"]]
    assert store.read(tmp_path / "out").run_id == made["run_id"]
    assert (tmp_path / "out" / "samples.parquet").is_file()
    (found,), broken = store.every(tmp_path / "kept")
    assert (found.profile.run_id, broken) == (made["run_id"], [])


@pytest.mark.skipif(find_spec("torch") is None, reason="measuring needs torch (pip install 'gpucost[bench]')")
def test_an_interrupted_benchmark_leaves_no_process_and_no_profile(tmp_path):
    environ = {**os.environ, "GPUCOST_PROFILES": str(tmp_path / "kept"), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-m", "gpucost", "bench", "--gpus", "cpu"]
    process = subprocess.Popen(argv, env=environ, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    workers = []
    while not workers:
        assert process.poll() is None
        workers = psutil.Process(process.pid).children()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []
    assert not (tmp_path / "kept").exists()
