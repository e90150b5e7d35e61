"""How far the energy of a stage is known: by hand, on sensors whose resolution is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis_builders import gpu_rows, recording, stage, tenths
from gpucost.analyzers import Settings, analyze
from gpucost.analyzers.model import NO_STAGE

if TYPE_CHECKING:
    import pandas as pd

    from gpucost.analyzers import Analysis


def steady(seconds: float, stages: list[dict], **columns) -> Analysis:
    """100 W by a counter that is renewed ten times a second, unless told otherwise."""
    times = tenths(0, seconds)
    given_columns = columns or {"energy_j": [100 * t for t in times]}
    return analyze(recording(seconds, gpu_rows(times, 50.0, **given_columns), stage=stages), Settings())


def row(found: Analysis, path: str) -> pd.Series:
    return found.stages.set_index("stage_path").loc[path]


@pytest.mark.parametrize(("seconds", "error_pct"), [(1.0, 10.0), (0.5, 20.0), (4.0, 2.5)])
def test_a_span_of_n_updates_at_steady_power_is_known_to_one_part_in_n(seconds: float, error_pct: float) -> None:
    found = row(steady(20, [stage("plan", 5, 5 + seconds)]), "plan")
    assert found["energy_error_pct"] == pytest.approx(error_pct, rel=0.01)
    assert not found["energy_too_short"]


def test_a_span_of_less_than_two_updates_is_too_short_to_tell() -> None:
    found = steady(20, [stage("plan", 5, 5.15)])
    assert row(found, "plan")["energy_too_short"]
    assert found.notes == ["energy of stages too short for the sensor to tell: plan"]


def test_a_quiet_stage_beside_hard_work_is_known_badly() -> None:
    """A second at 70 W after which 700 W begin: a tenth of a second of those may be its own."""
    times = tenths(0, 20)
    energy = [70 * min(t, 6) + 700 * max(0.0, t - 6) for t in times]
    found = steady(20, [stage("plan", 5, 6), stage("execute", 6, 16)], energy_j=energy)
    assert row(found, "plan")["energy_error_pct"] == pytest.approx(100 * (3.5 + 35) / 70, rel=0.01)
    assert row(found, "plan")["energy_too_short"]
    assert row(found, "execute")["energy_error_pct"] == pytest.approx(1.0, rel=0.01)


def test_repeating_a_short_stage_does_not_make_it_known() -> None:
    """A loop can keep step with the sensor."""
    found = steady(40, [stage("step", i, i + 0.1, stage_id=f"step{i}") for i in range(1, 39)])
    assert row(found, "step")["energy_too_short"]


def test_only_an_average_of_power_is_known_no_finer_than_the_second_it_is_over() -> None:
    found = steady(20, [stage("plan", 5, 9), stage("verify", 10, 11.5)], power_average_w=100.0)
    assert row(found, "plan")["energy_error_pct"] == pytest.approx(25.0, rel=0.01)
    assert row(found, "verify")["energy_too_short"]


def test_the_hole_between_two_readings_of_the_counter_is_the_resolution_of_an_edge_in_it() -> None:
    """Nothing is read for four seconds, and the counter then has 400 J more: at half of them the stage began."""
    times = [*tenths(0, 5), *tenths(9, 20)]
    rows = gpu_rows(times, 50.0, energy_j=[100 * t for t in times])
    found = analyze(recording(20, rows, stage=[stage("plan", 7, 17)]), Settings())
    assert row(found, "plan")["energy_error_pct"] == pytest.approx(100 * (410 / 2 + 5) / 1000, rel=0.02)


def test_the_drivers_own_samples_make_a_slow_recording_finer() -> None:
    """Power is read once a second, and the driver kept it ten times a second."""
    rows = gpu_rows(range(1, 21), 50.0, power_w=100.0)
    kept = [{"t_ns": round(t * 1e9), "gpu_uuid": "GPU-0", "power_w": 100.0} for t in tenths(0, 20)]
    stages = [stage("plan", 5, 7)]
    coarse = analyze(recording(20, rows, hz=1.0, stage=stages), Settings())
    fine = analyze(recording(20, rows, hz=1.0, stage=stages, gpu_sample=kept), Settings())
    assert row(coarse, "plan")["energy_error_pct"] == pytest.approx(50.0, rel=0.01)
    assert row(fine, "plan")["energy_error_pct"] == pytest.approx(5.0, rel=0.01)


def test_the_own_energy_of_a_stage_is_in_doubt_at_its_childrens_edges_too() -> None:
    found = row(steady(20, [stage("plan", 5, 9), stage("tool", 6, 8, parent="plan")]), "plan")
    assert found["energy_error_pct"] == pytest.approx(2.5, rel=0.01)
    assert found["self_energy_error_pct"] == pytest.approx(10.0, rel=0.01)  # two more edges, and half the energy


def test_a_stage_that_is_covered_by_its_children_has_no_energy_of_its_own_to_doubt() -> None:
    found = row(steady(20, [stage("plan", 5, 9), stage("tool", 5, 9, parent="plan")]), "plan")
    assert not found["self_energy_too_short"]
    assert found["self_energy_error_pct"] == 0


def test_the_edges_of_the_run_itself_are_in_no_doubt() -> None:
    found = row(steady(20, []), NO_STAGE)
    assert found["energy_error_pct"] == 0
    assert not found["energy_too_short"]


def test_without_energy_nothing_is_said_of_its_error() -> None:
    found = row(steady(20, [stage("plan", 5, 5.1)], temperature_c=50), "plan")
    assert np.isnan(found["total_energy_j"])
    assert np.isnan(found["energy_error_pct"])
    assert not found["energy_too_short"]


@settings(deadline=None, max_examples=40)
@given(
    phase=st.floats(0, 0.0999),
    length=st.floats(0.2, 3.0),
    before=st.floats(20, 700),
    during=st.floats(20, 700),
    after=st.floats(20, 700),
)
def test_the_true_energy_lies_within_twice_the_error(phase, length, before, during, after) -> None:
    """Whatever the power did at the edges and wherever they lie between two updates: the bound of an edge is two halves."""
    start, end = 5 + phase, 5 + phase + length

    def counter(t: float) -> float:
        return before * min(t, start) + during * min(max(t - start, 0), length) + after * max(0.0, t - end)

    found = row(steady(20, [stage("plan", start, end)], energy_j=[counter(t) for t in tenths(0, 20)]), "plan")
    error_j = found["total_energy_j"] * found["energy_error_pct"] / 100
    assert abs(found["total_energy_j"] - during * length) <= 2 * error_j + 1e-3
