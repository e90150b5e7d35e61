"""The simulation of the gate: what the documentation says of it holds, with fewer trials."""

import importlib.util
import sys
from pathlib import Path

import pytest

from gpucost.analyzers.compare import Rule

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "simulate_gate.py"
TRIALS = 400


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("simulate_gate", SCRIPT)
    module = importlib.util.module_from_spec(spec)

    sys.modules["simulate_gate"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["simulate_gate"]


def rate(simulation, noise: float, history: int, new: int, change: float) -> float:
    return simulation.alarms(simulation.Setup(noise, history, new), change, Rule(), TRIALS)


def test_five_new_runs_raise_hardly_a_false_alarm_and_find_what_is_twice_the_limit(simulation):
    assert rate(simulation, 0.03, 20, 5, 0.0) < 0.02
    assert rate(simulation, 0.03, 20, 5, 0.10) > 0.95


def test_one_new_run_raises_a_false_alarm_as_often_as_there_are_outliers(simulation):
    assert 0.02 < rate(simulation, 0.03, 20, 1, 0.0) < 0.09


def test_one_new_run_can_only_see_big_changes(simulation):
    assert rate(simulation, 0.08, 20, 1, 0.15) < 0.35
    assert rate(simulation, 0.08, 20, 5, 0.15) > 0.70


def test_too_short_a_history_never_raises_an_alarm(simulation):
    assert rate(simulation, 0.03, 4, 5, 1.0) == 0.0


def test_the_same_trials_give_the_same_rates(simulation):
    assert rate(simulation, 0.03, 20, 5, 0.05) == rate(simulation, 0.03, 20, 5, 0.05)
