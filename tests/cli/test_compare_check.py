"""`gpucost compare` and `gpucost check` on real run directories."""

import json
import os
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

from gpucost import choose
from gpucost.errors import GpucostError
from run_maker import STARTED_NS, make_run

DAY_NS = 86_400_000_000_000
DRIVER = {"driver": "570.86"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Six runs of main, one of another driver, one that failed, then two of a branch that take half as long again."""
    folder = tmp_path_factory.mktemp("runs")
    for day in range(6):
        made(folder, day, 20 + day % 2, labels={"branch": "main"})
    made(folder, 6, 20, labels={"branch": "main"}, driver={"driver": "535.1"})
    made(folder, 7, 20, labels={"branch": "main"}, exit_code=3)
    made(folder, 8, 30, labels={"branch": "feature"}, name="slow")
    made(folder, 9, 30, labels={"branch": "feature"}, name="slow")
    return folder


def made(folder, day: int, seconds: int, **fields):
    return make_run(folder, seconds, started_ns=STARTED_NS + day * DAY_NS, **{"driver": DRIVER, **fields})


def compared(cli, runs, *argv: str):
    code, out, err = cli("compare", "--runs", str(runs), "--format", "json", *argv)
    assert (code, err) == (0, "")
    return json.loads(out)


def ids(side) -> list[str]:
    return [run["run_id"][:8] for run in side["runs"]]


def test_two_runs_are_compared_by_their_names(cli, runs):
    code, out, err = cli("compare", "--runs", str(runs), "20260725", "latest")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    document = compared(cli, runs, "20260725", "latest")
    assert document["run"]["duration_s"]["delta"]["value"] == pytest.approx(10.0)
    assert document["method"]["name"] == "report-only"


def test_a_label_chooses_the_history_and_what_is_of_another_kind_is_left_out_with_its_reason(cli, runs):
    document = compared(cli, runs, "--base", "label:branch=main")
    assert ids(document["base"]) == [f"202607{day}" for day in (30, 29, 28, 27, 26, 25)]
    assert ids(document["head"]) == ["20260803"]
    reasons = {left["run_id"][:8]: left["reason"] for left in document["base"]["left_out"]}
    assert "535.1" in reasons["20260731"]
    assert "failure" in reasons["20260801"]
    assert document["method"]["name"] == "median-mad"
    assert document["run"]["cost_usd"]["direction"] == "higher"


def test_repeats_on_both_sides_and_globs(cli, runs):
    document = compared(cli, runs, "2026072*", "name:slow", "--head", "20260803", "--last", "3")
    assert ids(document["base"]) == ["20260729", "20260728", "20260727"]
    assert ids(document["head"]) == ["20260803", "20260802"]
    assert sum("older" in left["reason"] for left in document["base"]["left_out"]) == 2


def test_a_glob_of_paths_takes_runs_from_wherever_they_lie(cli, runs):
    document = compared(cli, runs, "--base", f"{runs}/2026072*", "latest")
    assert len(document["base"]["runs"]) == 5


def test_the_run_itself_is_never_its_own_baseline(cli, runs):
    document = compared(cli, runs, "--base", "label:branch=*", "latest~1", "--match", "none")
    assert "20260802" not in ids(document["base"])
    assert any("the run itself" in left["reason"] for left in document["base"]["left_out"])


def test_matching_can_be_narrowed_to_a_label_or_given_up(cli, runs):
    code, _, err = cli("compare", "--runs", str(runs), "label:branch=main", "latest", "--match", "label:branch")
    assert code == 2
    assert "its label branch is main, not feature" in err
    assert len(compared(cli, runs, "label:branch=main", "latest", "--match", "none")["base"]["runs"]) == 8


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "needs a baseline"),
        (("label:branch=nowhere",), "no run in"),
        (("label:branch",), "not a choice of runs"),
        (("latest", "latest~1", "--match", "planet"), "planet"),
        (("latest", "latest~1", "--format", "xml"), "--format"),
        (("latest", "latest~1", "--min-effect", "-1"), "--min-effect"),
        (("latest~99",), "only 10 runs"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_what_to_do(cli, runs, argv, words):
    code, out, err = cli("compare", "--runs", str(runs), *argv)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def check(cli, runs, *argv: str):
    return cli("check", "--runs", str(runs), *argv)


def test_a_check_passes_with_0_and_fails_with_1(cli, runs):
    # 30 s of an H100 at 6.88 $/h are 0.0573 $.
    code, out, err = check(cli, runs, "latest", "--gate", "cost=0.06")
    assert (code, err) == (0, "")
    assert "1 gate passed" in out
    code, out, _ = check(cli, runs, "latest", "--gate", "cost=0.05")
    assert code == 1
    assert "more than $0.05" in out


def test_a_regression_against_the_history_of_main_fails(cli, runs):
    code, out, _ = check(cli, runs, "--baseline", "label:branch=main", "--gate", "duration_increase=10%")
    assert code == 1
    assert "one run can only see big changes" in " ".join(out.split())
    assert check(cli, runs, "--baseline", "label:branch=main", "--gate", "duration_increase=80%")[0] == 0


def test_the_first_run_of_a_project_has_no_baseline_and_does_not_fail_for_it(cli, runs):
    code, out, _ = check(cli, runs, "--baseline", "label:branch=nowhere", "--gate", "cost_increase=10%")
    assert code == 0
    assert "undecided" in out
    assert "no run of the baseline" in out


def test_gates_come_from_the_configuration(cli, runs, tmp_path):
    (tmp_path / "gpucost.toml").write_text(
        '[check]\nbaseline = "label:branch=main"\n[check.run]\ncost = 0.05\nidle_share = "90 %"\n'
        '[check.stages."work"]\nduration = "10s"\nduration_increase = "5s"\n'
    )
    code, out, _ = check(cli, runs, "--format", "json")
    document = json.loads(out)
    assert code == 1
    assert [(gate["gate"], gate["stage"], gate["status"]) for gate in document["gates"]] == [
        ("cost", None, "failed"),
        ("idle_share", None, "passed"),
        ("duration", "work", "failed"),
        ("duration_increase", "work", "passed"),
    ]
    assert check(cli, runs, "--format", "json", "--gate", "cost=1", "--gate", "duration@work=20")[0] == 0


def test_pyproject_holds_gates_too(cli, runs, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.gpucost.check.run]\ncost = 0.01\n")
    assert check(cli, runs)[0] == 1


def test_nothing_is_printed_under_the_threshold_when_asked(cli, runs):
    assert check(cli, runs, "--quiet-if-ok", "--gate", "cost=1") == (0, "", "")
    code, out, _ = check(cli, runs, "--quiet-if-ok", "--gate", "cost=0.01")
    assert code == 1
    assert out


def test_junit_goes_to_a_file_beside_what_is_printed(cli, runs, tmp_path):
    path = tmp_path / "gates.xml"
    code, out, _ = check(cli, runs, "--quiet-if-ok", "--gate", "cost=1", "--junit", str(path))
    assert (code, out) == (0, "")
    assert ET.parse(path).getroot().get("tests") == "1"
    code, _, err = check(cli, runs, "--gate", "cost=1", "--junit", str(tmp_path / "no" / "where.xml"))
    assert code == 2
    assert "cannot write" in err


def test_a_budget_without_a_price_fails_as_missing_unless_that_is_let_pass(cli, tmp_path):
    folder = tmp_path / "unpriced"
    make_run(folder, 5, gpu_name="NVIDIA Imaginary 9000")
    code, out, _ = cli("check", "--runs", str(folder), "--gate", "cost=100")
    assert code == 1
    assert "missing" in out
    assert "not known" in out
    code, out, _ = cli("check", "--runs", str(folder), "--gate", "cost=100", "--missing", "pass")
    assert code == 0
    assert "no gate failed of 1 (1 without a verdict)" in out
    assert cli("check", "--runs", str(folder), "--gate", "cost=100", "--price", "1")[0] == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "there is no gate to check"),
        (("--gate", "cots=1"), "did you mean 'cost'"),
        (("--gate", "cost"), "is not a gate"),
        (("--gate", "idle_share=0.3"), "with its sign"),
        (("--gate", "cost=1", "--missing", "maybe"), "--missing"),
        (("nothing-of-this-name", "--gate", "cost=1"), "no run"),
    ],
)
def test_a_check_that_cannot_be_made_ends_with_2(cli, runs, argv, words):
    code, out, err = check(cli, runs, *argv)
    assert (code, out) == (2, "")
    assert words in err


def test_a_mistake_in_the_gates_harms_no_report(cli, runs, tmp_path):
    (tmp_path / "gpucost.toml").write_text("[check.run]\ncots = 1\n")
    assert cli("report", "--runs", str(runs))[0] == 0
    assert check(cli, runs)[0] == 2


def test_a_recorded_run_of_simulated_gpus_can_be_checked(tmp_path):
    """Record, then check, as a job in CI does: two processes, no GPU."""
    environment = {**os.environ, "GPUCOST_RUNS": str(tmp_path / "runs")}
    command = [sys.executable, "-m", "gpucost"]
    for argv, expected in (
        (["record", "--quiet", "--gpus", "sim:h100:1", "--", sys.executable, "-c", "pass"], 0),
        (["check", "--gate", "cost=1", "--gate", "gpu_hours=1"], 0),
        (["check", "--gate", "duration=0"], 1),
    ):
        done = subprocess.run(
            [*command, *argv], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == expected, done.stdout + done.stderr
    assert "SIMULATED" in done.stdout.splitlines()[0]


def test_a_word_means_each_run_once(runs):
    assert len(choose.choose(str(runs), ["latest", "20260803", "name:slow"])) == 2


def test_several_label_conditions_must_all_hold(runs):
    assert choose.choose(str(runs), ["label:branch=none,suite=x"], patterns_may_fail=True) == []
    with pytest.raises(GpucostError):
        choose.choose(str(runs), ["label:branch=main,suite=x"])
