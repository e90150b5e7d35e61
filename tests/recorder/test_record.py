"""`gpucost record` from the outside: real processes, real run directories, read back through the store."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpucost import rundir
from gpucost.store.reader import load
from recording_tools import GPUCOST, journal_lines, manifest, only_run, record, started, wait_until

BURN = "import time; end = time.monotonic() + {0}\nwhile time.monotonic() < end: sum(range(1000))"


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def test_a_run_is_recorded_sealed_and_summarized_in_four_lines(runs):
    done = record(
        runs,
        sys.executable,
        "-c",
        BURN.format(1.5),
        options=["--gpus", "sim:h100:2", "--name", "one", "--price", "3.60"],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 4, done.stderr
    run = only_run(runs)
    assert Path(run).name in lines[0]
    assert "SIMULATED" in lines[0]
    said = manifest(run)
    assert (said["status"], said["exit_code"], said["name"], said["price_request"]) == ("complete", 0, "one", "3.60")
    assert [gpu["name"] for gpu in said["gpus"]] == ["NVIDIA H100 80GB HBM3"] * 2
    host = next(Path(run).glob("host=*"))
    assert not list(host.glob("journal/*.jsonl"))
    tables = {path.parent.name for path in host.glob("*/*.parquet")}
    assert {"gpu", "gpu_process", "process", "machine", "recorder"} <= tables
    assert Path(run).stat().st_mode & 0o777 == 0o700


def test_what_was_sampled_covers_the_command_and_nothing_else(runs):
    record(runs, "sleep", "1.5", options=["--gpus", "sim:h100", "--hz", "20"])
    recording = load(only_run(runs))
    gpu = recording.frames["gpu"]
    assert recording.end_basis == "exit"
    assert 1.4e9 < recording.end_ns < 5e9
    assert len(gpu) >= 10
    assert gpu["t_ns"].is_monotonic_increasing
    names = set(recording.frames["process"]["name"])
    assert "sleep" in names
    assert not any("python" in name for name in names), (
        "the recorder and its children are no part of the command's tree"
    )


def test_the_command_keeps_its_streams_and_its_exit_code(runs):
    done = record(
        runs,
        "sh",
        "-c",
        "cat; echo to-stderr >&2; exit 7",
        options=["--gpus", "sim:l4", "--quiet"],
        input="through and through",
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "through and through", "to-stderr\n")
    assert manifest(only_run(runs))["exit_code"] == 7


@pytest.mark.parametrize(("argv", "code"), [(["no-such-command"], 127), (["/"], 126)])
def test_a_command_that_cannot_start_leaves_no_run_behind(runs, argv, code):
    done = record(runs, *argv)
    assert done.returncode == code
    assert done.stderr.startswith("gpucost: cannot run")
    assert list(runs.iterdir()) == []


def test_the_other_end_of_a_pipe_sees_the_commands_output_close(runs):
    """The recorder holds neither stdin nor stdout open."""
    began = time.monotonic()
    line = '"$@" | { read first; cat; echo end; }'
    command = [*GPUCOST, "record", "--runs", str(runs), "-q", "--", "sh", "-c", "echo first; exec >&-; sleep 3"]
    process = subprocess.Popen(["bash", "-c", line, "bash", *command], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "end\n"
        closed_after = time.monotonic() - began
        process.wait(60)
    assert closed_after < time.monotonic() - began


def test_secrets_do_not_reach_the_run_directory(runs):
    record(
        runs,
        "true",
        "--api-key",
        "topsecretvalue",
        "--token=othersecretvalue",
        env={**os.environ, "SOME_SECRET": "envsecretvalue"},
    )
    everything = b"".join(path.read_bytes() for path in Path(only_run(runs)).rglob("*") if path.is_file())
    for secret in (b"topsecretvalue", b"othersecretvalue", b"envsecretvalue"):
        assert secret not in everything


def test_labels_given_and_found_are_kept(runs):
    record(runs, "true", options=["--label", "team=a=b", "--label", "x=1"], env={**os.environ, "SLURM_JOB_ID": "99"})
    labels = manifest(only_run(runs))["labels"]
    assert (labels["team"], labels["x"], labels["slurm.job_id"]) == ("a=b", "1", "99")


def test_nested_recordings_do_not_clash_and_know_their_parent(runs):
    inner = [*GPUCOST, "record", "--runs", str(runs), "-q", "--", "sh", "-c", "exit 5"]
    done = record(runs, *inner, options=["-q"])
    assert done.returncode == 5
    outer, child = sorted(
        (manifest(path) for path in runs.iterdir() if path.is_dir()), key=lambda one: one["start_time_ns"]
    )
    assert child["parent_run_id"] == outer["run_id"]
    assert (outer["status"], child["status"]) == ("complete", "complete")


def test_recordings_side_by_side_in_one_folder_do_not_clash(runs):
    command = [*GPUCOST, "record", "--runs", str(runs), "-q", "--gpus", "sim:t4", "--", "sleep", "0.5"]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(100) for process in processes] == [0] * 4
    found = [path for path in runs.iterdir() if path.is_dir()]
    assert len(found) == 4
    assert all(len(load(str(path)).frames["gpu"]) > 0 for path in found)


def test_a_recorder_killed_in_the_middle_loses_at_most_two_seconds_and_the_command_goes_on(runs, tmp_path):
    mark = tmp_path / "finished"
    process = started(runs, "sh", "-c", f"sleep 4; echo done > {mark}", options=["--gpus", "sim:h100", "--hz", "20"])
    with process:
        wait_until(lambda: journal_lines(runs) > 30)
        killed_mono_ns = time.monotonic_ns()
        process.kill()
        process.wait(60)
    run = only_run(runs)
    recording = load(run)
    assert manifest(run)["status"] == "recording"
    assert not recording.live
    last = int(recording.frames["gpu"]["mono_ns"].max())
    assert killed_mono_ns - last < 2_000_000_000
    assert recording.end_basis == "last_sample"
    wait_until(mark.exists)


def test_a_stage_without_a_time_keeps_its_start_when_the_recorder_is_killed(runs):
    line = 'sleep 0.7; echo \'{"event": "start", "id": "1", "name": "late"}\' >> $GPUCOST_STAGE_FILE; sleep 30'
    process = started(runs, "sh", "-c", line, options=["--gpus", "sim:t4"])
    with process:
        wait_until(
            lambda: any(b"stage_started" in path.read_bytes() for path in runs.glob("*/host=*/journal/event.*.jsonl"))
        )
        before = journal_lines(runs)
        wait_until(lambda: journal_lines(runs) > before + 8)
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        process.kill()
        process.wait(60)
    stage = load(only_run(runs)).frames["stage"].iloc[0]
    assert stage["name"] == "late"
    assert 0.6e9 < stage["start_t_ns"] < 2.5e9


def test_killing_the_command_ends_the_run_with_its_code(runs):
    process = started(runs, "sh", "-c", "echo $$; exec sleep 60", options=["-q", "--gpus", "sim:t4"])
    with process:
        pid = int(process.stdout.readline())
        wait_until(lambda: journal_lines(runs) > 3)
        os.kill(pid, signal.SIGKILL)
        assert process.wait(60) == 137
    assert manifest(only_run(runs))["exit_code"] == 137


def test_a_terminated_recorder_passes_it_on_and_closes_the_run(runs):
    process = started(runs, "sleep", "60", options=["--gpus", "sim:t4"])
    with process:
        wait_until(lambda: journal_lines(runs) > 3)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert manifest(only_run(runs))["status"] == "complete"


def test_a_stage_that_its_process_left_open_is_closed_and_marked(runs):
    code = "import gpucost, os\ns = gpucost.stage('crash'); s.__enter__(); os._exit(3)"
    assert record(runs, sys.executable, "-c", code, options=["-q"]).returncode == 3
    stages = load(only_run(runs)).frames["stage"]
    assert list(stages["name"]) == ["crash"]
    assert list(stages["truncated"]) == [True]


def test_stages_from_python_from_the_shell_and_from_a_file_end_in_one_table(runs):
    code = "import gpucost\nwith gpucost.stage('a'):\n  with gpucost.stage('b'): pass"
    line = (
        f'{sys.executable} -c "{code}"; {sys.executable} -m gpucost stage c -- true; '
        'echo \'{"event": "start", "id": "1", "name": "d"}\' >> $GPUCOST_STAGE_FILE; sleep 0.6; '
        'echo \'{"event": "end", "id": "1"}\' >> $GPUCOST_STAGE_FILE'
    )
    assert record(runs, "sh", "-c", line, options=["-q"]).returncode == 0
    stages = load(only_run(runs)).frames["stage"].set_index("name")
    assert set(stages.index) == {"a", "b", "c", "d"}
    assert stages.loc["b", "parent_id"] == stages.loc["a", "stage_id"]
    assert stages.loc["d", "source"] == "file"
    assert not stages["truncated"].any()


def test_without_a_driver_the_run_is_recorded_all_the_same(runs):
    done = record(
        runs, "sleep", "0.3", env={name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    )
    assert done.returncode == 0
    recording = load(only_run(runs))
    events = recording.frames["event"]
    assert "source_unavailable" in set(events["kind"])
    assert len(recording.frames["machine"]) > 0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--hz", "0"], "--hz"), (["--hz", "1000"], "0.1 to 50"), (["--hz", "abc"], "abc"), (["--price", "abc"], "abc"),
        (["--price", "-1"], "-1"), (["--label", "x"], "KEY=VALUE"), (["--bill", "all"], "visible or node"),
        (["--gpus", "sim:nosuch"], "nosuch"), (["--gpus", "sim:h100:0"], "sim"), (["--nonsense"], "--nonsense"),
    ],
)  # fmt: skip
def test_an_impossible_option_is_one_line_and_the_command_does_not_start(runs, tmp_path, options, word):
    mark = tmp_path / "started"
    done = record(runs, "touch", str(mark), options=options)
    assert done.returncode == 2
    assert word in done.stderr or word.removeprefix("--") in done.stderr
    assert "Traceback" not in done.stderr
    assert not mark.exists()


def test_a_price_in_the_environment_that_is_none_is_refused_as_one_on_the_command_line(runs):
    done = record(runs, "true", env={**os.environ, "GPUCOST_PRICE": "cheap"})
    assert done.returncode == 2
    assert "cheap" in done.stderr


def test_a_working_directory_that_is_gone_is_one_line(tmp_path):
    line = f'mkdir "{tmp_path}/gone"; cd "{tmp_path}/gone"; rmdir "{tmp_path}/gone"; "$@"'
    command = [sys.executable, "-P", "-m", "gpucost", "record", "--", "true"]
    done = subprocess.run(
        ["bash", "-c", line, "bash", *command], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, "working directory" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_no_command_is_one_line(runs):
    for argv in (["record"], ["record", "--"], ["record", "--", ""]):
        done = subprocess.run([*GPUCOST, *argv], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.strip()


def test_a_runs_folder_that_is_a_file_is_one_line(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("x")
    done = record(blocked / "runs", "true")
    assert done.returncode == 2
    assert done.stderr.startswith("gpucost: ")
    assert "--runs" in done.stderr
    assert blocked.read_text() == "x"


def test_the_short_way_and_the_full_parser_know_the_same_options():
    import typer
    from typer.main import get_command

    from gpucost.cli.record import record as full
    from gpucost.recorder.options import FLAGS, VALUES

    app = typer.Typer(add_completion=False)
    app.command()(full)
    options = [one for one in get_command(app).params if one.param_type_name == "option" and one.name != "help"]
    assert {name for one in options for name in one.opts} == set(VALUES) | set(FLAGS)
    assert {name for one in options if one.is_flag for name in one.opts} == set(FLAGS)


@pytest.mark.parametrize(
    "argv",
    [
        ["--hz", "2", "--call-budget=3", "--", "a", "--hz"],
        ["-q", "--label=a=b", "--label", "c=d", "x", "-q"],
        ["--live", "--", "--", "y"],
    ],
)
def test_the_short_way_and_the_full_parser_read_the_same(argv, monkeypatch):
    import typer
    from typer.main import get_command

    from gpucost.cli.app import COMMANDS
    from gpucost.cli.record import record as full
    from gpucost.recorder import options, session

    read = []
    monkeypatch.setattr(session, "record", lambda options: read.append(options) or 0)
    app = typer.Typer(add_completion=False)
    app.command(context_settings=dict(COMMANDS["record"].settings))(full)
    get_command(app).main(argv, standalone_mode=False)
    short = options.parse(argv)
    fields = options.RecordOptions.__slots__
    assert [getattr(read[0], name) for name in fields] == [getattr(short, name) for name in fields]


def test_paths_and_names_in_the_environment_let_a_command_find_its_run(runs):
    done = record(
        runs, "sh", "-c", "echo $GPUCOST_RUN_ID; echo $GPUCOST_RUN_DIR; echo $GPUCOST_STAGE_FILE", options=["-q"]
    )
    run_id, run_dir, stage_file = done.stdout.split()
    assert run_dir == only_run(runs)
    assert Path(run_dir).name == run_id
    assert stage_file == rundir.stage_file(run_dir, next(Path(run_dir).glob("host=*")).name.removeprefix("host="))
