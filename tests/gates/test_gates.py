"""Gates: what passes, what fails, and that nothing unknown passes in silence."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare_factory import ALL_GATES, a_report, checked, every_gate, history, settings_for, slower
from gpucost._config_file import Config
from gpucost.analyzers.model import NO_STAGE
from gpucost.errors import UsageError
from gpucost.gates import limits
from gpucost.gates.run import judge
from gpucost.gates.settings import read_gate, settings_of
from gpucost.report.model import Figure
from gpucost.report.rounding import PICO
from report_factory import S, Scenario, a_gpu, report_of


def status(check) -> list[tuple[str, bool]]:
    return [(gate.status, gate.fails) for gate in check.gates]


@pytest.mark.parametrize(
    ("gate", "passing", "failing"),
    [
        # 115 s of an H100 at 6.88 $/h are 0.2198 $; 24 s of them are idle.
        ("cost", "0.2198", "0.2197"),
        ("gpu_hours", "0.03195", "0.03194"),
        ("idle_share", "20.87%", "20.86%"),
        ("idle_cost", "0.04587", "0.04586"),
        ("energy", "46 kJ", "45.9 kJ"),
        ("duration", "1m 55s", "114.9"),
        ("cost@train", "0.172", "0.1719"),
        ("idle_share@plan", "50%", "49.9%"),
        ("duration@plan", "20s", "19.9s"),
        ("gpu_hours@(no stage)", "0.0014", "0.00138"),
    ],
)
def test_a_budget_is_held_to_the_digit(gate, passing, failing):
    run = [a_report(train_s=90.0)]
    assert status(checked(run, [], **{gate: passing})) == [("passed", False)]
    assert status(checked(run, [], **{gate: failing})) == [("failed", True)]


def test_several_repeats_are_judged_by_their_mean():
    runs = [a_report(0, train_s=30.0), a_report(1, train_s=90.0)]
    assert status(checked(runs, [], duration="85.0")) == [("passed", False)]
    assert "on average of 2 runs" in checked(runs, [], duration="80").gates[0].message


@pytest.mark.parametrize(
    "gate", [name for name in ALL_GATES if name.endswith("_increase") and "idle_share" not in name]
)
def test_a_regression_fails_by_percent_and_is_no_regression_below(gate):
    assert status(checked(slower(5, 90.0), None, **{gate: "10%"})) == [("failed", True)]
    assert status(checked(slower(5, 90.0), None, **{gate: "40%"})) == [("passed", False)]
    assert status(checked(history(5), None, **{gate: "0%"})) == [("passed", False)]


def test_an_idle_share_regresses_by_points():
    idle = [a_report(30 + number, train_s=5.0 + number / 10) for number in range(5)]
    assert status(checked(idle, None, idle_share_increase="5 pp")) == [("failed", True)]
    assert status(checked(idle, None, idle_share_increase="60 pp")) == [("passed", False)]


@pytest.mark.parametrize(("limit", "expected"), [("29 s", "failed"), ("31 s", "passed")])
def test_a_regression_may_be_limited_in_its_unit(limit, expected):
    assert checked(slower(1), None, duration_increase=limit).gates[0].status == expected


def test_a_stage_is_held_against_the_same_stage_of_the_baseline():
    check = checked(slower(5), None, **{"cost_increase@train": "10%", "cost_increase@plan": "10%"})
    assert [gate.status for gate in check.gates] == ["failed", "passed"]


def test_too_small_a_history_reports_and_never_fails():
    check = checked(slower(1, 500.0), history(4), cost_increase="1%")
    assert status(check) == [("undecided", False)]
    assert "fewer than 5" in check.gates[0].message
    assert check.exit_code == 0


def test_no_baseline_at_all_is_undecided_and_said():
    assert "no run in the baseline" in checked(slower(1), [], cost_increase="1%").gates[0].message


@pytest.mark.parametrize("gate", ["cost=1", "idle_cost=1", "cost@plan=1"])
def test_money_that_is_not_known_fails_a_budget_as_missing(gate):
    unpriced = a_report(gpus=[a_gpu(0, name="Imaginary")])
    check = judge([unpriced], [], settings_for(**dict([gate.split("=")])))
    assert status(check) == [("missing", True)]
    assert check.exit_code == 1
    assert "not known" in check.gates[0].message
    assert "price" in check.gates[0].message


def test_missing_figures_may_be_let_pass_and_are_still_not_called_passed():
    from dataclasses import replace

    unpriced = a_report(gpus=[a_gpu(0, name="Imaginary")])
    check = judge([unpriced], [], replace(settings_for(cost="1"), missing_fails=False))
    assert status(check) == [("missing", False)]
    assert check.exit_code == 0


def test_a_baseline_without_money_cannot_be_compared_with():
    unpriced = [a_report(number, gpus=[a_gpu(0, name="Imaginary")]) for number in range(6)]
    assert status(checked(slower(5), unpriced, cost_increase="10%")) == [("missing", True)]
    assert status(checked(slower(5), unpriced, duration_increase="10%")) == [("failed", True)]


def unmeasured(unknown_s: int):
    gpu = a_gpu(0)
    cube = {(gpu.uuid, NO_STAGE, "busy"): 70 * S, (gpu.uuid, NO_STAGE, "idle"): 20 * S}
    return report_of(
        Scenario([gpu], {**cube, (gpu.uuid, NO_STAGE, "unknown"): unknown_s * S}, end_ns=(90 + unknown_s) * S)
    )


def test_unmeasured_time_that_could_break_a_budget_is_not_a_pass():
    # 20 of 100 s are idle and 10 are not known: it is between 20 % and 30 %.
    run = [unmeasured(10)]
    assert status(checked(run, [], idle_share="30%")) == [("passed", False)]
    assert status(checked(run, [], idle_share="25%")) == [("missing", True)]
    assert status(checked(run, [], idle_share="19%")) == [("failed", True)]


def test_energy_that_was_not_measured_throughout_counts_at_the_highest_power_seen():
    from dataclasses import replace

    run = a_report()  # 85 s at 400 W, 34 kJ
    rows = [
        replace(row, energy_j=replace(row.energy_j, value=20_000.0), power_max_w=Figure(500.0, "500 W"))
        for row in run.gpus
    ]
    total = replace(run.total, energy_j=Figure(20_000.0, "≥ 20.0 kJ"))
    partial = replace(run, total=total, gpus=rows)
    assert status(checked([partial], [], energy="42.5 kJ")) == [("passed", False)]
    assert status(checked([partial], [], energy="42.4 kJ")) == [("missing", True)]
    assert status(checked([partial], [], energy="19 kJ")) == [("failed", True)]
    unseen = replace(partial, gpus=[replace(row, power_max_w=Figure(None, "unknown")) for row in rows])
    assert status(checked([unseen], [], energy="1 MWh")) == [("missing", True)]


def test_a_run_that_was_cut_off_can_fail_a_budget_and_not_pass_it():
    cut = a_report(recording={"end_basis": "last_sample"})
    assert status(checked([cut], [], cost="0.01")) == [("failed", True)]
    assert status(checked([cut], [], cost="10")) == [("missing", True)]
    assert "did not end in order" in checked([cut], [], cost="10").gates[0].message


def test_no_gpu_held_has_no_cost_to_pass_with():
    check = checked([report_of(Scenario(gpus=[]))], [], cost="1", duration="200")
    assert status(check) == [("missing", True), ("passed", False)]


def test_a_glob_means_every_stage_it_fits_and_an_unknown_stage_is_missing():
    check = checked([a_report()], [], **{"cost@*": "10", "cost@trian": "10"})
    assert [gate.stage for gate in check.gates] == ["plan", "train", "trian"]
    assert [gate.status for gate in check.gates] == ["passed", "passed", "missing"]


def test_every_kind_of_verdict_has_its_place_in_the_result():
    check = every_gate()
    assert {gate.status for gate in check.gates} == {"passed", "failed", "missing"}
    assert (check.passed, check.exit_code, len(check.failing)) == (False, 1, 3)


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (limits.money, "$2.50", 2.5 * PICO),
        (limits.money, Decimal("2.5"), 2.5 * PICO),
        (limits.money, 3, 3 * PICO),
        (limits.duration, "1h 30m", 5400 * S),
        (limits.duration, "90", 90 * S),
        (limits.duration, Decimal("0.5"), S // 2),
        (limits.gpu_hours, "1.5 GPU-h", 5400 * S),
        (limits.energy, "1.5 kWh", 5_400_000),
        (limits.share, "30%", 0.3),
        (limits.points, "5 pp", 0.05),
    ],
)
def test_limits_are_read_in_the_units_people_write(read, value, expected):
    limit = read(value)
    assert (limit.value, limit.relative) == (pytest.approx(expected), False)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (limits.money, "-1"),
        (limits.money, "1e5"),
        (limits.money, "nan"),
        (limits.money, "2,50"),
        (limits.money, True),
        (limits.money, [1]),
        (limits.duration, "10 parsecs"),
        (limits.duration, ""),
        (limits.energy, "5"),
        (limits.share, "0.3"),
        (limits.share, "130%"),
        (limits.points, "5"),
        (limits.ratio, "10"),
    ],
)
def test_a_limit_that_could_be_misread_is_refused(read, value):
    with pytest.raises(ValueError, match="takes"):
        read(value)


@given(st.text(max_size=20))
def test_no_text_breaks_the_reading_of_a_gate(text):
    for word in (text, f"cost={text}", f"duration={text}", f"{text}=1", f"cost@{text}=1"):
        try:
            read_gate(word)
        except UsageError:
            pass


def test_a_stage_name_may_hold_signs_of_its_own():
    request = read_gate("cost@plan > a=b@c=1.5")
    assert (request.gate, request.stage, request.limit.text) == ("cost", "plan > a=b@c", "$1.50")


def config(**check) -> Config:
    return Config(path="gpucost.toml", check=check)


def test_the_configuration_names_gates_of_the_run_and_of_stages():
    settings = settings_of(
        config(run={"cost": Decimal("2.5")}, stages={"plan > x": {"idle_share": "30%"}}, baseline="label:a=b", last=7)
    )
    assert [(gate.gate, gate.stage) for gate in settings.gates] == [("cost", None), ("idle_share", "plan > x")]
    assert (settings.baseline, settings.last) == (("label:a=b",), 7)


def test_a_gate_of_the_command_line_goes_before_the_configurations():
    settings = settings_of(config(run={"cost": 1, "duration": 5})).with_gates(["cost=2", "cost@plan=3"])
    assert [(gate.gate, gate.stage, gate.limit.text) for gate in settings.gates] == [
        ("duration", None, "5 s"),
        ("cost", None, "$2.00"),
        ("cost", "plan", "$3.00"),
    ]


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({"rnu": {}}, "check.rnu"),
        ({"run": {"cots": 1}}, "cots"),
        ({"run": {"cost": "dear"}}, "US dollars"),
        ({"run": 5}, "check.run"),
        ({"stages": {"plan": 5}}, "plan"),
        ({"last": 0}, "check.last"),
        ({"alpha": Decimal(2)}, "check.alpha"),
        ({"missing": "ignore"}, "check.missing"),
        ({"match": ["planet"]}, "planet"),
        ({"baseline": [1]}, "check.baseline"),
    ],
)
def test_a_mistake_in_the_configuration_names_the_file_and_the_key(check, words):
    with pytest.raises(UsageError, match=words) as caught:
        settings_of(config(**check))
    assert "gpucost.toml" in str(caught.value) or "matched" in str(caught.value)


def test_the_energy_of_a_stage_too_short_for_the_sensor_passes_no_budget():
    check = checked([a_report(9, energy_errors={"train": 70.0})], [], **{"energy@train": "100 MJ", "energy": "100 MJ"})
    assert status(check) == [("missing", True), ("passed", False)]
    assert "too short for the sensor to tell" in check.gates[0].message


def test_an_increase_of_energy_within_the_sensors_error_does_not_fail():
    unsure = {"energy_errors": {"train": 20.0}}
    base = [a_report(number, train_s=60.0 + number % 3, **unsure) for number in range(6)]
    gates = {"energy_increase@train": "10%", "cost_increase@train": "10%"}
    check = checked(slower(5, 80.0, **unsure), base, **gates)
    assert status(check) == [("passed", False), ("failed", True)]
    assert "within what the sensor leaves open" in check.gates[0].message
