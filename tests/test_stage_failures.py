"""What goes wrong with `gpucost.stage` stays with it: the program does not notice."""

import os
from functools import partial

import pytest

from gpucost import _stage
from stage_programs import ok, run_program


@pytest.fixture
def run(tmp_path):
    """Runs a program (see `run_program`) in a folder of the test's own."""
    return partial(run_program, tmp_path)


# --- failures of our own -----------------------------------------------------------------------------------------------------------


def test_a_stage_file_that_cannot_be_made_is_nothing_to_the_program(run, tmp_path):
    ok(
        run(
            'with stage("a") as s: s.set(x=1)\nprint("went on")',
            GPUCOST_STAGE_FILE=str(tmp_path / "no" / "such" / "file"),
        )
    )
    ok(run('with stage("a"): pass', GPUCOST_STAGE_FILE=str(tmp_path)))


def test_a_pipe_in_place_of_the_file_does_not_hang_the_program(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    ok(run('with stage("a"): pass', GPUCOST_STAGE_FILE=str(tmp_path / "pipe")))


def test_a_full_disk_loses_marks_and_nothing_else(run):
    marks = ok(run('with stage("a"):\n with stage("b"): pass\nprint("went on")', GPUCOST_STAGE_FILE="/dev/full"))
    assert marks.out == "went on\n"


def test_a_file_size_limit_of_the_program_is_survived(run):
    marks = ok(
        run("""
            import resource
            with stage("a"): pass
            size = os.path.getsize(os.environ["GPUCOST_STAGE_FILE"])
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            with stage("lost"): pass
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            with stage("b"): pass
        """)
    )
    assert [span.name for span in marks.spans] == ["a", "b"]


def test_a_program_that_closes_our_descriptor_gets_no_marks_into_its_own_files(run, tmp_path):
    marks = ok(
        run("""
        with stage("a"): pass
        os.closerange(3, 100)
        own = [os.open(f"own{n}", os.O_CREAT | os.O_WRONLY) for n in range(5)]
        with stage("b"): pass
        assert [os.fstat(fd).st_size for fd in own] == [0] * 5
    """)
    )
    assert [span.name for span in marks.spans] == ["a", "b"]


def test_when_the_file_is_gone_it_is_not_made_again(run, tmp_path):
    marks = ok(
        run("""
        with stage("a"): pass
        os.unlink(os.environ["GPUCOST_STAGE_FILE"])
        with stage("b"): pass
        os.closerange(3, 100)
        with stage("c"): pass
    """)
    )
    assert marks.lines == []
    assert not (tmp_path / "stages.jsonl").exists()


def test_a_torn_mark_does_not_take_the_next_one_with_it(tmp_path, monkeypatch):
    path = tmp_path / "stages.jsonl"
    file = _stage._MarkFile(str(path))
    file.append("whole\n")
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    file.append("torn\n")
    monkeypatch.undo()
    file.append("next\n")
    assert path.read_text(encoding="utf-8") == "whole\ntor\nnext\n"


def test_a_program_that_freezes_time_does_not_freeze_ours(run):
    marks = ok(
        run("""
        time.time_ns = time.monotonic_ns = lambda: 5
        with stage("a"): pass
    """)
    )
    (span,) = marks.spans
    assert span.start_mono_ns > 5
    assert span.start_time_ns > 10**18


def test_a_program_that_destroys_its_environment_goes_on(run):
    marks = ok(
        run("""
        os.environ = None
        with stage("a"): pass
        with stage("b"): pass
        print("went on")
    """)
    )
    assert marks.out == "went on\n"


def test_a_signal_handler_may_make_stages_at_any_moment(run):
    marks = ok(
        run("""
        import signal
        def handler(*_):
            with stage("handler"): pass
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            with stage("main"): pass
        signal.setitimer(signal.ITIMER_REAL, 0)
    """)
    )
    assert {span.name for span in marks.spans} == {"main", "handler"}
    assert marks.open == []
