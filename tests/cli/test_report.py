"""`gpucost report` and the long way in, on real run directories."""

import json
import os
import subprocess
import sys
from types import ModuleType

import pytest

from gpucost.cli import app
from run_maker import STARTED_NS, make_run

DAY_NS = 86_400_000_000_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder, name="first", started_ns=STARTED_NS)
    make_run(folder, name="second", started_ns=STARTED_NS + DAY_NS, price_request="3.60")
    make_run(folder, name="killed", started_ns=STARTED_NS + 2 * DAY_NS, closed=False)
    return folder


def report(cli, runs, *argv: str):
    code, out, err = cli("report", "--runs", str(runs), "--format", "json", *argv)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_the_latest_run_is_reported_by_default(cli, runs):
    code, out, err = cli("report", "--runs", str(runs))
    assert (code, err) == (0, "")
    assert "killed" in out.splitlines()[0]
    assert "CRASHED" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("word", "name"), [("latest", "killed"), ("latest~1", "second"), ("latest~2", "first"), ("20260725", "first")]
)
def test_a_run_is_found_by_a_word_or_the_beginning_of_its_id(cli, runs, word, name):
    assert report(cli, runs, word)["run"]["name"] == name


def test_a_run_is_found_by_its_path(cli, runs):
    path = next(path for path in runs.iterdir() if path.name.startswith("20260725"))
    assert report(cli, runs, str(path))["run"]["name"] == "first"


def test_the_figures_are_those_of_the_recording(cli, runs):
    document = report(cli, runs, "latest~2")
    uses = {use["use"]: use["gpu_time_s"]["value"] for use in document["uses"]}
    assert uses["busy"] == pytest.approx(24.0, abs=0.2)  # 80 % of the first half of a minute
    assert uses["idle"] == pytest.approx(30.0, abs=0.2)
    assert sum(uses.values()) == pytest.approx(60.0)
    assert document["total"]["money"]["usd"] == "0.114666666667"
    assert document["total"]["energy_j"]["value"] == pytest.approx(18_000, rel=0.02)


def test_the_price_of_the_command_line_goes_before_that_of_the_recording_before_that_of_now(
    cli, runs, monkeypatch, tmp_path
):
    def price(*argv: str) -> str:
        return report(cli, runs, *argv)["quality"]["prices"][0]["amount_usd"]

    assert price("latest~2") == "6.88"
    (tmp_path / "gpucost.toml").write_text("price = 1.25")
    assert price("latest~2") == "1.25"
    monkeypatch.setenv("GPUCOST_PRICE", "$1.50")
    assert price("latest~2") == "1.5"
    assert price("latest~1") == "3.6"
    assert price("latest~1", "--price", "2/h") == "2"


def test_idle_after_moves_time_between_gap_and_idle(cli, runs):
    uses = {
        use["use"]: use["gpu_time_s"]["value"] for use in report(cli, runs, "latest~2", "--idle-after", "45")["uses"]
    }
    assert uses["idle"] == 0
    assert uses["gap"] == pytest.approx(36.0, abs=0.2)


def test_idle_split_reaches_the_analysis(cli, runs):
    assert report(cli, runs, "--idle-split", "none")["settings"]["idle_split"] == "none"


def test_a_region_brings_carbon_with_its_source(cli, runs, tmp_path):
    assert report(cli, runs, "latest~2")["carbon"] is None
    found = report(cli, runs, "latest~2", "--region", "france")["carbon"]
    assert (found["region"], found["pue_assumed"]) == ("FRA", True)
    (tmp_path / "gpucost.toml").write_text('[carbon]\nregion = "SWE"\npue = 1.1')
    found = report(cli, runs, "latest~2")["carbon"]
    assert (found["region"], found["pue"], found["pue_assumed"]) == ("SWE", 1.1, False)


@pytest.mark.parametrize(
    ("output", "begins"), [("markdown", "## gpucost: `"), ("json", "{"), ("terminal", "gpucost  ")]
)
def test_every_format_is_printed(cli, runs, output, begins):
    code, out, _ = cli("report", "--runs", str(runs), "-f", output, "latest~2")
    assert code == 0
    assert out.startswith(begins)


def test_the_width_can_be_chosen(cli, runs):
    _, out, _ = cli("report", "--runs", str(runs), "--width", "150", "latest~2")
    assert "max temp" in out


def test_colour_is_for_who_asks_for_it(cli, runs, monkeypatch):
    assert "\x1b" not in cli("report", "--runs", str(runs))[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in cli("report", "--runs", str(runs))[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in cli("report", "--runs", str(runs))[1]


def test_the_folder_of_runs_comes_from_the_environment_or_the_configuration(cli, runs, monkeypatch, tmp_path):
    (tmp_path / "gpucost.toml").write_text(f"runs = {str(runs)!r}")
    assert cli("report", "-f", "json")[0] == 0
    monkeypatch.setenv("GPUCOST_RUNS", str(tmp_path / "nothing"))
    assert cli("report")[0] == 2


@pytest.mark.parametrize(
    ("argv", "says", "hints"),
    [
        (["report", "nosuchrun"], "no run nosuchrun", "near it"),
        (["report", "2026"], "fits 3 runs", "type more"),
        (["report", "latest~9"], "only 3 runs", "gpucost runs"),
        (["report", "--format", "yaml"], "--format is 'yaml'", ""),
        (["report", "--price", "abc"], "'abc' is not a price", "2.49"),
        (["report", "--price", "EUR 2"], "not in US dollars", "2.49"),
        (["report", "--idle-after", "0"], "--idle-after is 0", ""),
        (["report", "--idle-after", "nan"], "--idle-after is nan", ""),
        (["report", "--idle-after", "soon"], "'--idle-after'", "gpucost report --help"),
        (["report", "--idle-split", "all"], "--idle-split is 'all'", ""),
        (["report", "--region", "Atlantis"], "'Atlantis'", ""),
        (["report", "--width", "5"], "--width is 5", ""),
        (["report", "--nonsense"], "--nonsense", "gpucost report --help"),
        (["report", "a", "b"], "unexpected extra argument", "gpucost report --help"),
        (["repor"], "there is no command 'repor'", "did you mean 'report'?"),
        (["xyzzy"], "there is no command 'xyzzy'", "the commands are record, report"),
        (["--nonsense"], "--nonsense", "gpucost --help"),
    ],
)
def test_a_mistake_is_one_clear_line_and_what_to_do(cli, runs, monkeypatch, argv, says, hints):
    monkeypatch.setenv("GPUCOST_RUNS", str(runs))
    code, out, err = cli(*argv)
    assert (code, out) == (2, "")
    first, *rest = err.splitlines()
    assert first.startswith("gpucost: ")
    assert says in first
    assert hints in "".join(rest)
    assert len(rest) <= 1


def test_a_broken_configuration_is_one_line(cli, runs, tmp_path):
    (tmp_path / "gpucost.toml").write_text("prise = 1")
    code, _, err = cli("report", "--runs", str(runs))
    assert code == 2
    assert "unknown key 'prise'" in err


def test_no_arguments_show_the_help_and_fail(cli):
    code, out, err = cli()
    assert (code, out) == (2, "")
    assert "Usage: gpucost" in err


def test_the_overview_and_every_command_have_help(cli):
    code, out, err = cli("--help")
    assert (code, err) == (0, "")
    for name, command in app.COMMANDS.items():
        assert command.summary in out
        code, text, err = cli(name, "--help")
        assert (code, err) == (0, ""), name
        assert f"gpucost {name}" in text


def test_the_version_is_said(cli):
    from gpucost import __version__

    assert cli("--version")[:2] == (0, f"gpucost {__version__}\n")


def test_help_imports_neither_the_commands_nor_anything_heavy():
    code = (
        "import sys; from gpucost.cli.app import run; run(sys.argv[1:]); "
        "bad = {'pandas', 'pyarrow', 'rich.table', 'numpy', 'psutil', 'pynvml'} | {m for m in sys.modules if m.startswith('gpucost.cli.r')}; "
        "print('LOADED', sorted(bad & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"
    done = subprocess.run([sys.executable, "-c", code, "report", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED ['gpucost.cli.report']"


def fail_with(monkeypatch, error: BaseException) -> None:
    module = ModuleType("faulty_command")

    def boom() -> None:
        raise error

    module.boom = boom
    monkeypatch.setitem(sys.modules, "faulty_command", module)
    monkeypatch.setitem(app.COMMANDS, "boom", app.Command("faulty_command", "Fails."))


def test_a_fault_of_ours_is_one_line_and_a_file_with_the_traceback(cli, monkeypatch, tmp_path):
    fail_with(monkeypatch, ZeroDivisionError("one\x1b[31m by nothing"))
    code, out, err = cli("boom")
    assert (code, out) == (2, "")
    assert err.startswith("gpucost: this is a fault of gpucost (ZeroDivisionError: one�[31m by nothing)")
    (kept,) = (tmp_path / "state" / "gpucost").iterdir()
    assert str(kept) in err
    assert "Traceback" in kept.read_text()
    assert "Traceback" not in err


def test_a_fault_is_shown_whole_to_who_asks_for_it(cli, monkeypatch):
    fail_with(monkeypatch, ZeroDivisionError("x"))
    monkeypatch.setenv("GPUCOST_DEBUG", "1")
    code, _, err = cli("boom")
    assert code == 2
    assert "Traceback" in err


def test_an_interrupt_ends_quietly(cli, monkeypatch):
    fail_with(monkeypatch, KeyboardInterrupt())
    assert cli("boom") == (130, "", "")


def test_a_reader_that_leaves_is_not_an_error(runs):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed_pipe:
        done = subprocess.run(
            [sys.executable, "-m", "gpucost", "report", "--runs", str(runs), "-f", "json"],
            stdout=closed_pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_same_recording_and_configuration_give_the_same_bytes(cli, runs):
    outputs = {cli("report", "--runs", str(runs), "-f", "json", "latest~2")[1] for _ in range(2)}
    assert len(outputs) == 1


def test_a_foreign_directory_and_a_damaged_manifest_are_one_line(cli, runs, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "run.json").write_text("[1, 2")
    code, _, err = cli("report", str(foreign))
    assert code == 2
    assert "is not JSON" in err
    (foreign / "run.json").write_text('{"schema_version": 99}')
    code, _, err = cli("report", str(foreign))
    assert code == 2
    assert "upgrade gpucost" in err
