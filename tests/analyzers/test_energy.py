"""Energy, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from analysis_builders import GPU, MIB, S, gpu_process, gpu_rows, recording, stage, tenths
from gpucost.analyzers import Analysis, Settings, analyze
from gpucost.analyzers.model import NO_STAGE

NAN = float("nan")
BARE, TAKEN = 500 * MIB, 2500 * MIB


def gpu_energy(found: Analysis) -> dict[str, Any]:
    """The row of the one GPU."""
    return found.energy_gpus.loc[GPU].to_dict()


def stage_energy(found: Analysis, path: str) -> dict[str, float]:
    """The row of one stage."""
    row = found.energy[found.energy["stage_path"] == path].iloc[0]
    return {name: float(row[f"{name}_j"]) for name in ("energy", "active", "idle", "foreign")}


def test_the_counter_decides_where_there_is_one() -> None:
    """100 W by the counter, 110 W by the sensor: ten percent less, and both are kept."""
    times = tenths(0, 10)
    found = analyze(recording(10, gpu_rows(times, 50.0, energy_j=[5000 + 100 * t for t in times], power_w=110.0)))
    row = gpu_energy(found)
    assert row["basis"] == "counter"
    assert row["counter_j"] == pytest.approx(990)  # from the first reading to the last
    assert row["integral_j"] == pytest.approx(1100)
    assert row["energy_j"] == pytest.approx(990 + 11)  # power fills the tenth before the first reading
    assert row["difference_pct"] == pytest.approx(-100 / 11)
    assert row["covered_ns"] == 10 * S


def test_power_is_integrated_as_a_trapezoid_where_there_is_no_counter() -> None:
    """It rises from 100 W to 200 W within a second."""
    times = tenths(0, 1)
    found = analyze(recording(1, gpu_rows(times, 50.0, power_w=[100 + 100 * t for t in times])))
    row = gpu_energy(found)
    assert row["basis"] == "integrated"
    assert row["energy_j"] == pytest.approx(0.9 * 155 + 0.1 * 110)
    assert row["counter_j"] != row["counter_j"]


def test_power_that_is_asked_for_at_some_ticks_only_is_interpolated_over_a_second_at_most() -> None:
    """Known at 0.1 s, 1.1 s and 2.3 s: linear in between, nothing over the longer distance."""
    power = [100.0, *[None] * 9, 200.0, *[None] * 11, 300.0]
    row = gpu_energy(analyze(recording(2.3, gpu_rows(tenths(0, 2.3), 50.0, power_w=power))))
    assert row["energy_j"] == pytest.approx(0.1 * 100 + 1.0 * 150 + 0.1 * 300)
    assert row["covered_ns"] == 12 * S // 10


def test_average_power_stands_in_for_instantaneous_power() -> None:
    """Some GPUs have only one of them."""
    found = analyze(recording(1, gpu_rows(tenths(0, 1), 50.0, power_average_w=200.0)))
    assert gpu_energy(found)["energy_j"] == pytest.approx(200)


def test_without_counter_and_power_energy_is_unknown_and_not_zero() -> None:
    """NaN everywhere, and a basis that says so."""
    found = analyze(recording(1, gpu_rows(tenths(0, 1), 50.0)))
    row = gpu_energy(found)
    assert row["basis"] == "unknown"
    assert row["covered_ns"] == 0
    assert all(row[name] != row[name] for name in ("energy_j", "counter_j", "integral_j", "idle_power_w"))
    assert found.energy["energy_j"].isna().all()
    assert found.stages["self_energy_j"].isna().all()


def test_the_counter_knows_what_a_hole_used_and_power_is_not_integrated_over_it() -> None:
    """Ten seconds with a hole of eight."""
    times = [*tenths(0, 1), *tenths(9, 10)]
    counted = analyze(recording(10, gpu_rows(times, 50.0, energy_j=[100 * t for t in times])))
    assert gpu_energy(counted)["energy_j"] == pytest.approx(990)
    integrated = analyze(recording(10, gpu_rows(times, 50.0, power_w=100.0)))
    assert gpu_energy(integrated)["energy_j"] == pytest.approx(200)
    assert gpu_energy(integrated)["covered_ns"] == 2 * S


def test_a_hole_gives_its_energy_to_the_stages_by_time() -> None:
    """The hole is 1 s to 9 s; the stage has a quarter of it."""
    times = [*tenths(0, 1), *tenths(9, 10)]
    run = recording(10, gpu_rows(times, 50.0, energy_j=[100 * t for t in times]), stage=[stage("a", 3, 5)])
    assert stage_energy(analyze(run), "a")["energy"] == pytest.approx(200)


def test_a_counter_that_falls_is_a_reset_and_power_takes_its_place() -> None:
    """The driver was loaded again between 0.5 s and 0.6 s."""
    times = tenths(0, 1)
    energy = [5000 + 100 * t if t <= 0.5 else 100 * t for t in times]
    found = analyze(recording(1, gpu_rows(times, 50.0, energy_j=energy, power_w=300.0)))
    assert gpu_energy(found)["energy_j"] == pytest.approx(0.8 * 100 + 0.2 * 300)
    assert any("fell or leapt 1 times" in note for note in found.notes)


def test_a_counter_that_leaps_beyond_any_gpu_is_not_believed() -> None:
    """A megajoule in a tenth of a second."""
    times = tenths(0, 1)
    energy = [100 * t + (1e6 if t > 0.5 else 0) for t in times]
    found = analyze(recording(1, gpu_rows(times, 50.0, energy_j=energy, power_w=100.0)))
    assert gpu_energy(found)["energy_j"] == pytest.approx(100)


def test_a_counter_renewed_more_seldom_than_it_is_read_is_not_taken_for_bursts() -> None:
    """Read at 20 Hz, renewed at 10 Hz: a stage of half a step gets half of it."""
    times = [i / 20 for i in range(1, 41)]
    energy = [100 * (int(t * 10 + 1e-9) / 10) for t in times]
    run = recording(2, gpu_rows(times, 50.0, energy_j=energy), hz=20, stage=[stage("a", 1.0, 1.05)])
    assert stage_energy(analyze(run), "a")["energy"] == pytest.approx(5)


def test_a_counter_that_stands_still_for_long_used_nothing() -> None:
    """A second without a step is no matter of its rate, so what comes after is not spread over it."""
    times = tenths(0, 3)
    energy = [100 * (min(t, 1.0) + max(t - 2, 0.0)) for t in times]
    found = analyze(recording(3, gpu_rows(times, 0.0, energy_j=energy), stage=[stage("a", 1.3, 2), stage("b", 2, 3)]))
    assert stage_energy(found, "a")["energy"] == pytest.approx(0)
    assert stage_energy(found, "b")["energy"] == pytest.approx(100)


def test_power_is_not_drawn_across_a_hole_from_the_reading_before_it() -> None:
    """100 W before the hole, 300 W after it: the first tenth after it is at 300 W."""
    times = [*tenths(0, 1), *tenths(5, 6)]
    found = analyze(recording(6, gpu_rows(times, 50.0, power_w=[100.0] * 10 + [300.0] * 10)))
    assert gpu_energy(found)["energy_j"] == pytest.approx(400)


def test_the_active_energy_of_a_hole_is_whose_the_next_reading_says() -> None:
    """Nobody at first, then the run; then the counter rises by 300 W, 50 W of them idle; it starts at the first reading."""
    times = [*tenths(0, 1), *tenths(3, 4)]
    own = [0] * 10 + [1] * 10
    energy = [50 * min(t, 1) + 300 * max(t - 1, 0) for t in times]
    run = recording(4, gpu_rows(times, [0.0] * 10 + [100.0] * 10, processes=own, run_processes=own, energy_j=energy))
    whole = stage_energy(analyze(run), NO_STAGE)
    assert whole == pytest.approx({"energy": 945, "active": 750, "idle": 195, "foreign": 0})


def test_idle_power_is_measured_while_nobody_is_on_the_gpu() -> None:
    """60 W bare, 90 W with a context, 300 W at work."""
    power = [60.0] * 10 + [90.0] * 10 + [300.0] * 10
    util = [0.0] * 20 + [100.0] * 10
    own = [0] * 10 + [1] * 20
    found = analyze(recording(3, gpu_rows(tenths(0, 3), util, processes=own, run_processes=own, power_w=power)))
    row = gpu_energy(found)
    assert (row["idle_power_w"], row["idle_power_basis"]) == (60, "empty")
    whole = stage_energy(found, NO_STAGE)
    assert whole["idle"] == pytest.approx(180, abs=4)
    assert whole["active"] == pytest.approx(30 + 240, abs=15)


def test_idle_power_is_else_that_of_a_held_gpu_without_a_kernel_else_the_least_seen() -> None:
    """And the basis tells one from the other."""
    held = analyze(recording(2, gpu_rows(tenths(0, 2), [0.0] * 10 + [100.0] * 10, power_w=[90.0] * 10 + [300.0] * 10)))
    assert (gpu_energy(held)["idle_power_w"], gpu_energy(held)["idle_power_basis"]) == (90, "idle")
    busy = analyze(recording(2, gpu_rows(tenths(0, 2), 100.0, power_w=[280.0] * 10 + [300.0] * 10)))
    assert (gpu_energy(busy)["idle_power_w"], gpu_energy(busy)["idle_power_basis"]) == (280, "minimum")


def test_idle_power_is_a_low_quantile_so_that_clocks_still_high_after_work_do_not_decide() -> None:
    """Ten readings fall from 200 W; most of the time it is 60 W, with one dip to 10 W."""
    power = [200.0, 150.0, 120.0, 100.0, 80.0, *[60.0] * 34, 10.0]
    found = analyze(recording(4, gpu_rows(tenths(0, 4), 0.0, processes=0, run_processes=0, power_w=power)))
    assert gpu_energy(found)["idle_power_w"] == 60


def test_idle_power_comes_from_the_counter_where_there_is_no_sensor() -> None:
    """70 W while empty, 400 W at work."""
    times = tenths(0, 4)
    energy = [70 * min(t, 2) + 400 * max(t - 2, 0) for t in times]
    own = [0] * 20 + [1] * 20
    rows = gpu_rows(times, [0.0] * 20 + [100.0] * 20, processes=own, run_processes=own, energy_j=energy)
    assert gpu_energy(analyze(recording(4, rows)))["idle_power_w"] == pytest.approx(70)


SHARED = [gpu_process(t, pid, in_run=pid == 7, sm=sm) for t in tenths(0, 4) for pid, sm in ((7, 60.0), (8, 20.0))]


def shared(split: str) -> Analysis:
    """Two seconds bare at 50 W, then two with the run (three quarters of the activity) and a neighbour at 250 W; a stage in the second half."""
    times = tenths(0, 4)
    rows = gpu_rows(
        times,
        [0.0] * 20 + [80.0] * 20,
        processes=[0] * 20 + [2] * 20,
        run_processes=[0] * 20 + [1] * 20,
        energy_j=[50 * min(t, 2) + 250 * max(t - 2, 0) for t in times],
        power_w=[50.0] * 20 + [250.0] * 20,
    )
    run = recording(4, rows, gpu_process=SHARED, stage=[stage("a", 2, 4)])
    return analyze(run, Settings(idle_split=split))


def test_active_energy_is_split_by_sm_activity_and_the_owner_is_charged_for_idling() -> None:
    """200 W above idle for two seconds: 300 J the run's, 100 J the neighbour's."""
    found = shared("owner")
    assert stage_energy(found, "a") == pytest.approx({"energy": 500, "active": 300, "idle": 100, "foreign": 100})
    assert stage_energy(found, NO_STAGE) == pytest.approx({"energy": 100, "active": 0, "idle": 100, "foreign": 0})


def test_idle_energy_can_be_shared_with_the_neighbours_by_heads() -> None:
    """Half of the idle energy of the two shared seconds; the bare ones stay with the run."""
    found = shared("equal")
    assert stage_energy(found, "a") == pytest.approx({"energy": 500, "active": 300, "idle": 50, "foreign": 150})
    assert stage_energy(found, NO_STAGE)["idle"] == pytest.approx(100)


def test_idle_energy_can_stay_apart() -> None:
    """No stage is charged for it, and nothing is lost."""
    found = shared("none")
    assert stage_energy(found, "a") == pytest.approx({"energy": 400, "active": 300, "idle": 0, "foreign": 100})
    assert stage_energy(found, NO_STAGE) == pytest.approx({"energy": 200, "active": 0, "idle": 200, "foreign": 0})
    assert gpu_energy(found)["energy_j"] == pytest.approx(600)


def test_what_only_a_neighbour_used_is_foreign() -> None:
    """The run is not on the GPU."""
    times = tenths(0, 4)
    rows = gpu_rows(
        times,
        [0.0] * 20 + [80.0] * 20,
        processes=[0] * 20 + [1] * 20,
        run_processes=0,
        power_w=[50.0] * 20 + [250.0] * 20,
    )
    whole = stage_energy(analyze(recording(4, rows)), NO_STAGE)
    assert whole["active"] == 0
    assert whole["foreign"] == pytest.approx(400, abs=15)


def test_readings_that_scatter_about_the_idle_power_make_no_active_energy() -> None:
    """Up and down cancel within a stage."""
    power = [60.0, 70.0, 50.0] * 10
    found = analyze(recording(3, gpu_rows(tenths(0, 3), [0.0] * 29 + [1.0], power_w=power)))
    whole = stage_energy(found, NO_STAGE)
    assert gpu_energy(found)["idle_power_w"] == 50
    assert whole["active"] == pytest.approx(30, abs=2)


def test_a_stage_without_a_measurement_has_unknown_energy_beside_one_that_has() -> None:
    """The recorder died at 1 s."""
    run = recording(3, gpu_rows(tenths(0, 1), 50.0, power_w=100.0), stage=[stage("a", 0, 1), stage("b", 1, 3)])
    found = analyze(run)
    assert stage_energy(found, "a")["energy"] == pytest.approx(100)
    assert stage_energy(found, "b")["energy"] != stage_energy(found, "b")["energy"]
    stages = found.stages.set_index("stage_path")
    assert stages["self_energy_j"]["a"] == pytest.approx(100)


def test_a_parents_total_energy_has_its_childrens() -> None:
    """Self and total, as with time."""
    run = recording(
        3, gpu_rows(tenths(0, 3), 50.0, power_w=100.0), stage=[stage("a", 0, 3), stage("b", 1, 2, parent="a")]
    )
    stages = analyze(run).stages.set_index("stage_path")
    assert stages["self_energy_j"]["a"] == pytest.approx(200)
    assert stages["total_energy_j"]["a"] == pytest.approx(300)


@pytest.mark.parametrize("power", [-5.0, NAN, float("inf"), 1e6])
def test_a_power_that_cannot_be_is_unknown(power: float) -> None:
    """It is neither zero nor believed."""
    found = analyze(recording(0.3, gpu_rows(tenths(0, 0.3), 50.0, power_w=[100.0, 100.0, power])))
    assert gpu_energy(found)["energy_j"] == pytest.approx(20)
    assert gpu_energy(found)["covered_ns"] == 2 * S // 10


def test_an_idle_split_that_does_not_exist_is_refused() -> None:
    """With the names that do."""
    with pytest.raises(ValueError, match="owner, equal, none"):
        analyze(recording(1), Settings(idle_split="half"))
