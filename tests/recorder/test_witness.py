"""The witness in the recorder's group: it has what the group got, and never holds a signal of the past against a new one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpucost.recorder.witness import Witness
from gpucost.store.reader import load
from recording_tools import of_session, only_run, record, wait_until

SENDER, OTHER = 101, 102


@pytest.fixture
def witness() -> Iterator[Witness]:
    one = Witness()
    if not one.start():
        pytest.skip("no /proc or no cat")
    yield one
    one.stop()


def sent(witness: Witness, number: int) -> None:
    os.kill(witness.pid, number)


def test_what_nobody_else_got_was_meant_for_the_recorder_alone(witness):
    assert not witness.got(signal.SIGTERM, SENDER)


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "CONT", "TSTP", "RTMIN"])
def test_what_the_group_got_is_known(witness, name):
    number = getattr(signal, f"SIG{name}")
    sent(witness, number)
    assert witness.got(number, SENDER)
    assert not witness.got(signal.SIGALRM, SENDER)


def test_a_signal_to_the_group_is_not_held_against_a_later_one_from_somebody_else(witness):
    sent(witness, signal.SIGTERM)
    assert witness.got(signal.SIGTERM, SENDER)
    assert not witness.got(signal.SIGTERM, OTHER)


def test_a_second_one_of_the_same_sender_at_once_is_the_same_wish(witness):
    """`timeout` sends to its child and to the group."""
    sent(witness, signal.SIGTERM)
    assert witness.got(signal.SIGTERM, SENDER)
    assert witness.got(signal.SIGTERM, SENDER)


def test_one_signal_answered_does_not_forget_another(witness):
    sent(witness, signal.SIGTERM)
    sent(witness, signal.SIGCONT)
    assert witness.got(signal.SIGTERM, SENDER)
    assert witness.got(signal.SIGCONT, SENDER)
    assert not witness.got(signal.SIGCONT, OTHER)


def test_a_signal_whose_aim_is_known_otherwise_is_forgotten(witness):
    sent(witness, signal.SIGINT)
    witness.settle(signal.SIGINT)
    assert not witness.got(signal.SIGINT, SENDER)


def test_a_signal_that_was_none_of_the_recorders_is_forgotten_after_a_while(witness, monkeypatch):
    monkeypatch.setattr("gpucost.recorder.witness._STALE_S", 0.0)
    sent(witness, signal.SIGTERM)
    witness.sweep()
    before = witness.pid
    witness.sweep()
    assert witness.pid != before
    assert not witness.got(signal.SIGTERM, SENDER)


def test_the_first_look_forgets_nothing(witness, monkeypatch):
    """The recorder may have the signal before it, and not have come to it."""
    monkeypatch.setattr("gpucost.recorder.witness._STALE_S", 0.0)
    sent(witness, signal.SIGTERM)
    witness.sweep()
    assert witness.got(signal.SIGTERM, SENDER)


def test_a_witness_that_was_killed_is_replaced(witness, monkeypatch):
    monkeypatch.setattr("gpucost.recorder.witness._STALE_S", 0.0)
    killed = witness.pid
    os.kill(killed, signal.SIGKILL)
    assert witness.ended(os.waitpid(killed, 0)[0])
    assert not witness.got(signal.SIGTERM, SENDER)
    witness.sweep()
    assert witness.pid not in (None, killed)
    assert witness.pids == {witness.pid}


def test_one_that_was_stopped_is_gone_and_stays_so(witness):
    pid = witness.pid
    witness.stop()
    witness.sweep()
    assert witness.pid is None
    assert not witness.pids
    assert not Path(f"/proc/{pid}").exists()


def test_without_a_program_to_be_it_there_is_none(monkeypatch):
    monkeypatch.setattr("gpucost.recorder.witness._PROGRAMS", ("/no/such/cat",))
    none = Witness()
    assert not none.start()
    assert not none.got(signal.SIGTERM, SENDER)


def test_it_ends_with_a_recorder_that_is_killed():
    code = "import time; from gpucost.recorder.witness import Witness; Witness().start(); print('ready', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as process:
        process.stdout.readline()
        process.kill()
    wait_until(lambda: not of_session(process.pid))


def test_it_is_no_part_of_what_is_recorded(tmp_path):
    assert record(tmp_path, "sleep", "1.5", options=["-q"]).returncode == 0
    names = set(load(only_run(tmp_path)).frames["process"]["name"].dropna())
    assert "sleep" in names
    assert "cat" not in names
