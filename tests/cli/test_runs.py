"""`gpucost runs`: the list, from manifests alone."""

import json

import pytest

from run_maker import STARTED_NS, make_run

S = 1_000_000_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder, 10, name="first", started_ns=STARTED_NS)
    make_run(folder, 20, started_ns=STARTED_NS + 60 * S, exit_code=143, command=["sh", "-c", "a\x1b[31m b"])
    make_run(folder, 30, name="killed", started_ns=STARTED_NS + 120 * S, closed=False)
    damaged = make_run(folder, 1, started_ns=STARTED_NS + 180 * S)
    (damaged / "run.json").write_text("{")
    return folder


def test_the_newest_run_comes_first_and_each_line_says_how_it_ended(cli, runs):
    code, out, err = cli("runs", "--runs", str(runs))
    assert (code, err) == (0, "")
    header, *lines = out.splitlines()
    assert header.split() == ["run", "what", "duration", "GPU-hours", "exit", "state"]
    assert [line.split()[-1] for line in lines] == ["damaged", "crashed", "complete", "complete"]
    assert [line[:15] for line in lines] == sorted((line[:15] for line in lines), reverse=True)
    assert "143" in lines[2]
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out


def test_a_wide_list_has_the_time_of_the_start(cli, runs):
    _, out, _ = cli("runs", "--runs", str(runs), "--width", "130")
    assert "started (UTC)" in out
    assert "2026-07-25 17:45" in out


def test_json_has_numbers_and_null_for_what_is_not_known(cli, runs):
    _, out, _ = cli("runs", "--runs", str(runs), "--format", "json")
    damaged, killed, stopped, first = json.loads(out)
    assert damaged["state"] == "damaged"
    assert "not JSON" in damaged["problem"]
    assert (killed["state"], killed["duration_s"]["value"], killed["gpu_hours"]["value"]) == ("crashed", None, None)
    assert (stopped["exit_code"], stopped["duration_s"]["value"]) == (143, 20.0)
    assert first["gpu_hours"]["value"] == pytest.approx(10 / 3600)
    assert first["name"] == "first"


def test_no_runs_is_said_and_is_no_failure(cli, tmp_path):
    code, out, err = cli("runs", "--runs", str(tmp_path / "none"))
    assert (code, out) == (0, "")
    assert "no runs" in err
    assert cli("runs", "--runs", str(tmp_path / "none"), "-f", "json")[1] == "[]\n"


def test_an_unknown_format_is_refused(cli, runs):
    code, _, err = cli("runs", "--runs", str(runs), "--format", "markdown")
    assert code == 2
    assert "terminal, json" in err


def test_the_list_opens_no_table(runs):
    import subprocess
    import sys

    code = f"import sys; from gpucost.cli.app import run; run(['runs', '--runs', {str(runs)!r}]); print({{'pandas', 'pyarrow'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
