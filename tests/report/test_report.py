"""A report's figures, worked out by hand or added up from what is printed."""

import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpucost import carbon
from gpucost.analyzers.model import NO_STAGE, USES, WASTE
from gpucost.recording import Problem
from gpucost.report import summary_lines
from report_factory import STARTED_NS, Scenario, a_gpu, demo, report_of

S = 1_000_000_000


def usd(text: str) -> Fraction:
    return Fraction(text.removeprefix("≥ ").removeprefix("$").replace(",", ""))


def number(text: str) -> Fraction:
    return Fraction(re.sub(r"[^\d.]", "", text))


@pytest.fixture(scope="module")
def report():
    return report_of(demo())


def test_the_cost_is_price_times_held_time(report):
    # Two GPUs of 6.88 USD an hour for 151.4 s each.
    exact = Fraction("6.88") * 2 * Fraction("151.4") / 3600
    assert abs(Fraction(report.total.money.usd) - exact) < Fraction(1, 10**12)
    assert report.total.money.text == "$0.5787"
    assert report.total.gpu_hours.text == "0.08411 GPU-h"


def test_idle_waste_is_gap_and_idle_and_empty(report):
    parts = [use for use in report.uses if use.use in WASTE]
    assert usd(report.total.waste.text) == sum(usd(use.money.text) for use in parts)
    assert Decimal(report.total.waste.usd) == sum(Decimal(use.money.usd) for use in parts)
    assert number(report.total.waste_pct.text) == sum(number(use.share_pct.text) for use in parts)
    assert [use.use for use in parts if use.waste] == list(WASTE)


def check_that_columns_add_up(report):
    total = report.total
    for column in (
        [use.money for use in report.uses],
        [gpu.money for gpu in report.gpus],
        [row.self_money for row in report.stages],
    ):
        assert sum(usd(money.text) for money in column) == usd(total.money.text)
        assert sum(Decimal(money.usd) for money in column) == Decimal(total.money.usd)
    assert sum(Decimal(cell.usd) for cell in report.ledger) == Decimal(total.money.usd)
    if report.total.gpu_time_s.value < 600:
        for column in ([use.gpu_time_s for use in report.uses], [row.self_time_s for row in report.stages]):
            assert sum(number(figure.text) for figure in column) == number(total.gpu_time_s.text)
    assert sum(number(use.share_pct.text) for use in report.uses) == 100


def test_every_column_adds_up_to_the_total_as_printed_and_to_the_digit(report):
    check_that_columns_add_up(report)
    report = report_of(demo(energy_errors={}))
    energies = [number(row.self_energy_j.text) for row in report.stages]
    assert sum(energies) == number(report.total.energy_j.text) == sum(number(gpu.energy_j.text) for gpu in report.gpus)


cells = st.dictionaries(
    st.tuples(st.integers(0, 2), st.sampled_from(["a", "a > b", "c", NO_STAGE]), st.sampled_from(USES)),
    st.integers(1, 10**13),
    min_size=1,
    max_size=24,
)


@settings(max_examples=60, deadline=None)
@given(cells, st.decimals(min_value="0.001", max_value="99", places=6))
def test_columns_add_up_for_any_ledger_and_any_price(given_cells, price):
    gpus = [a_gpu(index) for index in sorted({key[0] for key in given_cells})]
    by_index = {gpu.index: gpu.uuid for gpu in gpus}
    cube = {(by_index[index], path, use): ns for (index, path, use), ns in given_cells.items()}
    spans = {path: [(0, S)] for path in ("a", "a > b", "c")}
    check_that_columns_add_up(report_of(Scenario(gpus=gpus, cube=cube, spans=spans), price=str(price)))


def test_a_stage_s_total_is_its_self_and_its_sub_stages_as_printed(report):
    rows = {row.path: row for row in report.stages}
    parts = [rows["plan"].self_money, rows["plan > tool:search"].self_money]
    assert usd(rows["plan"].total_money.text) == sum(usd(money.text) for money in parts)
    assert Decimal(rows["plan"].total_money.usd) == sum(Decimal(money.usd) for money in parts)
    assert rows["verify"].total_money == rows["verify"].self_money


def test_stages_are_a_tree_in_order_with_no_stage_last(report):
    assert [(row.name, row.depth) for row in report.stages] == [
        ("plan", 0),
        ("tool:search", 1),
        ("execute", 0),
        ("train", 1),
        ("verify", 0),
        (NO_STAGE, 0),
    ]


def test_a_child_that_starts_after_a_later_parent_still_stands_under_its_own():
    gpu = a_gpu()
    spans = {"a": [(0, 50 * S)], "b": [(5 * S, 60 * S)], "a > c": [(10 * S, 20 * S)]}
    cube = {(gpu.uuid, path, "busy"): S for path in spans}
    assert [row.path for row in report_of(Scenario([gpu], cube, spans=spans)).stages] == ["a", "a > c", "b", NO_STAGE]


def test_a_share_that_unknown_time_could_raise_reads_at_least():
    gpu = a_gpu()
    cube = {(gpu.uuid, "a", "idle"): 30 * S, (gpu.uuid, "a", "unknown"): 70 * S}
    report = report_of(Scenario([gpu], cube, spans={"a": [(0, 100 * S)]}))
    assert report.gpus[0].waste_pct.text == "≥ 30.0 %"
    assert report.stages[0].waste_pct.text == "≥ 30.0 %"
    assert report.total.unknown_time_s.value == 70


def test_unknown_time_too_short_to_move_a_printed_share_makes_no_fuss():
    gpu = a_gpu()
    cube = {(gpu.uuid, NO_STAGE, "idle"): 100 * S - 450_000, (gpu.uuid, NO_STAGE, "unknown"): 450_000}
    report = report_of(Scenario([gpu], cube))
    assert report.total.waste_pct.text == "100.0 %"
    assert (report.quality.uncertain, report.quality.unknown_time_s.text) == (False, "0.45 ms")


def test_where_all_is_unknown_shares_are_unknown_and_not_zero():
    gpu = a_gpu()
    report = report_of(Scenario([gpu], {(gpu.uuid, NO_STAGE, "unknown"): 100 * S}, power_w=None))
    for figure in (report.total.busy_pct, report.total.waste_pct, report.gpus[0].busy_pct, report.stages[0].waste_pct):
        assert (figure.value, figure.text) == (None, "unknown")
    assert report.total.energy_j.value is None
    assert report.gpus[0].energy_j.text == "unknown"


def test_without_a_price_money_is_unknown_and_time_is_not():
    gpu = a_gpu(name="NVIDIA Imaginary 9000")
    report = report_of(Scenario([gpu], {(gpu.uuid, NO_STAGE, "busy"): 100 * S}))
    amounts = [
        report.total.money,
        report.total.waste,
        report.uses[0].money,
        report.gpus[0].money,
        report.stages[0].total_money,
    ]
    assert {(money.usd, money.text) for money in amounts} == {(None, "unknown")}
    assert report.total.gpu_hours.text == "0.02778 GPU-h"
    assert "--price" in report.total.note
    assert report.quotes_json() == {}


def test_a_gpu_without_a_price_makes_the_sums_partial_and_says_so():
    first, second = a_gpu(0), a_gpu(1, name="NVIDIA Imaginary 9000")
    cube = {(gpu.uuid, NO_STAGE, "busy"): 360 * S for gpu in (first, second)}
    report = report_of(Scenario([first, second], cube, end_ns=360 * S))
    assert report.total.partial
    assert report.total.money.text == "≥ $0.6880"
    assert report.gpus[1].money.usd is None
    assert report.shares_of == "gpu_time"
    assert "gpu1" in report.total.note


def test_a_price_of_zero_is_a_cost_of_zero_and_said():
    gpu = a_gpu()
    report = report_of(
        Scenario([gpu], {(gpu.uuid, NO_STAGE, "busy"): 75 * S, (gpu.uuid, NO_STAGE, "idle"): 25 * S}), price="0"
    )
    assert (report.total.money.usd, report.total.money.text) == ("0", "$0.00")
    assert report.total.waste_pct.text == "25.0 %"
    assert "zero" in report.quality.prices[0].note


def test_shares_are_of_money_where_prices_differ():
    from gpucost._config_file import Config

    first, second = a_gpu(0), a_gpu(1)
    cube = {(first.uuid, NO_STAGE, "busy"): 100 * S, (second.uuid, NO_STAGE, "idle"): 100 * S}
    config = Config(prices={first.uuid: Decimal(3), second.uuid: Decimal(1)})
    report = report_of(Scenario([first, second], cube), config=config)
    assert (report.shares_of, report.total.busy_pct.text) == ("cost", "75.0 %")


def test_a_run_without_a_gpu_has_no_cost_rather_than_one_of_zero():
    report = report_of(Scenario(gpus=[]))
    assert report.total.money.usd is None
    assert report.total.note.startswith("no GPU was held")
    assert report.run.gpus == "no GPU"


@pytest.mark.parametrize(
    ("fields", "state", "exit_text"),
    [
        ({"manifest": {"exit_code": 0}}, "complete", "exit 0"),
        ({"manifest": {"exit_code": 143}}, "complete", "exit 143 (SIGTERM)"),
        ({"manifest": {"exit_code": 127}}, "complete", "exit 127 (not found)"),
        ({"manifest": {"exit_code": 255}}, "complete", "exit 255"),
        ({"manifest": {"status": "recording", "exit_code": None}}, "crashed", "exit code unknown"),
        ({"manifest": {"status": "recording", "exit_code": None}, "recording": {"live": True}}, "live", "running"),
        ({"manifest": {"status": "recovered", "exit_code": None}}, "recovered", "exit code unknown"),
    ],
)
def test_the_state_and_the_exit_are_said(fields, state, exit_text):
    run = report_of(Scenario(cube={(a_gpu().uuid, NO_STAGE, "busy"): S}, **fields)).run
    assert (run.state, run.exit_text) == (state, exit_text)


def test_the_price_s_age_is_measured_at_the_run():
    old = {"command": ["x"], "hosts": {}}
    scenario = Scenario(cube={(a_gpu().uuid, NO_STAGE, "busy"): S}, manifest=old)
    price = report_of(scenario).quality.prices[0]
    assert (price.as_of, price.stale, price.basis) == ("2026-07-20", False, "list price")
    assert STARTED_NS < 1_793_000_000 * S


def test_gpus_of_one_price_share_a_line(report):
    assert [price.gpus for price in report.quality.prices] == [["gpu0", "gpu1"]]


def test_the_recorder_s_own_cost_is_reported(report):
    overhead = report.quality.overhead
    assert overhead.cpu_pct.text == "1.9 %"  # 2.85 s of CPU in 150 s
    assert (overhead.ticks, overhead.ticks_late, overhead.ticks_missed) == (1650, 3, 1)
    assert (overhead.driver_calls, overhead.driver_s.text) == (21_000, "1.52 s")


def test_a_recorder_that_kept_no_account_of_itself_is_unknown():
    overhead = report_of(Scenario(cube={(a_gpu().uuid, NO_STAGE, "busy"): S})).quality.overhead
    assert (overhead.cpu_pct.value, overhead.ticks) == (None, None)


def test_events_are_folded_and_named_after_their_gpu(report):
    (event,) = report.quality.events
    assert (event.kind, event.count, event.about, event.first_s.value) == ("gpu_lost", 2, "gpu1", 125.0)


def test_the_recorder_s_bookkeeping_is_not_an_event_of_note():
    events = [("stage_started", "stages", "7f3a", "first seen", S)]
    assert report_of(Scenario(cube={(a_gpu().uuid, NO_STAGE, "busy"): S}, events=events)).quality.events == []


def test_problems_of_the_recording_are_handed_on():
    problems = [Problem("torn_line", "a line is not whole", 2)]
    report = report_of(Scenario(cube={(a_gpu().uuid, NO_STAGE, "busy"): S}, recording={"problems": problems}))
    assert [(p.code, p.count) for p in report.quality.problems] == [("torn_line", 2)]


def test_unknown_time_has_reasons_that_add_up(report):
    assert [(u.reason, u.gpu_time_s.text) for u in report.quality.unknown] == [("no_sample", "1.00 s")]
    assert report.quality.coverage_pct.text == "99.7 %"
    assert (report.quality.gaps, report.quality.longest_gap_s.value) == (1, 1.0)


def test_carbon_is_there_only_for_a_region_and_says_what_it_assumes():
    assert report_of(demo()).carbon is None
    found = report_of(demo(), intensity=carbon.lookup("FRA")).carbon
    assert found.co2e_g.value == pytest.approx(121_120 / 3.6e6 * 1.2 * 56)
    assert (found.pue, found.pue_assumed, found.year) == (1.2, True, 2023)
    assert report_of(demo(), intensity=carbon.lookup("FRA"), pue=1.1).carbon.pue_assumed is False


def test_many_stages_are_folded_into_a_row_that_keeps_the_column_adding_up():
    gpu = a_gpu()
    spans = {f"step{number:03}": [(number * S, (number + 1) * S)] for number in range(100)}
    spans["step050 > inner"] = [(50 * S, 51 * S)]
    cube = {(gpu.uuid, path, "busy"): (1 + number) * 1_000_003 for number, path in enumerate(spans)}
    report = report_of(Scenario([gpu], cube, spans=spans))
    shown = [row for row in report.stages if row.shown]
    assert len(shown) == 30
    assert report.stages_folded.count == len(report.stages) - 30
    assert sum(usd(row.self_money.text) for row in shown) + usd(report.stages_folded.money.text) == usd(
        report.total.money.text
    )
    assert NO_STAGE in {row.path for row in shown}
    assert {"step050", "step050 > inner"} <= {row.path for row in shown}, "what is shown is shown with what it lies in"


def test_many_gpus_are_folded_into_a_row_that_keeps_the_column_adding_up():
    gpus = [a_gpu(index) for index in range(40)]
    cube = {(gpu.uuid, NO_STAGE, "busy"): 100 * S + gpu.index for gpu in gpus}
    report = report_of(Scenario(gpus, cube))
    assert sum(row.shown for row in report.gpus) == 16
    printed = [usd(row.money.text) for row in report.gpus if row.shown]
    assert sum(printed) + usd(report.gpus_folded.money.text) == usd(report.total.money.text)
    assert (len(report.timeline.gpus), report.timeline.gpus_left_out) == (8, 32)


def test_gpus_of_several_hosts_and_mig_devices_have_labels_of_their_own():
    gpus = [
        a_gpu(0, host="a"),
        a_gpu(1, host="b", index=0),
        a_gpu(2, host="b", index=1, mig_profile="1g.10gb"),
        a_gpu(3, host="b", index=1, mig_profile="1g.10gb"),
    ]
    cube = {(gpu.uuid, NO_STAGE, "busy"): S for gpu in gpus}
    labels = [row.label for row in report_of(Scenario(gpus, cube)).gpus]
    assert labels == ["a/gpu0", "b/gpu0", "b/gpu1:1g.10gb GPU-00000002", "b/gpu1:1g.10gb GPU-00000003"]


def test_gpus_that_are_not_held_are_not_in_the_report():
    held, other = a_gpu(0), a_gpu(1, held=False)
    report = report_of(Scenario([held, other], {(held.uuid, NO_STAGE, "busy"): S}))
    assert [row.label for row in report.gpus] == ["gpu0"]
    assert report.run.gpus == "1 × NVIDIA H100 80GB HBM3"


def test_energy_that_is_not_known_for_all_reads_at_least(monkeypatch):
    import report_factory

    whole = report_factory._energy_gpus

    def half(scenario):
        frame = whole(scenario)
        frame.loc[frame.index[0], "covered_ns"] = 1
        return frame

    monkeypatch.setattr(report_factory, "_energy_gpus", half)
    report = report_of(demo())
    assert report.gpus[0].energy_j.text.startswith("≥ ")
    assert report.total.energy_j.text.startswith("≥ ")


def test_what_was_not_measured_is_a_hole_in_the_timeline_and_not_zero():
    gpu = a_gpu()
    scenario = Scenario([gpu], {(gpu.uuid, NO_STAGE, "unknown"): 100 * S}, unknown=[(gpu.uuid, 0, 50 * S, "gpu_lost")])
    track = report_of(scenario).timeline.gpus[0]
    assert track.util_pct[:60] == [None] * 60
    assert None not in track.util_pct[60:]


def test_a_timeline_is_drawn_in_fewer_columns_by_the_mean_of_what_is_known(report):
    timeline = report.timeline
    assert timeline.columns([1.0, 3.0, None, 5.0, None, None], 3) == [2.0, 5.0, None]
    assert timeline.columns([1.0, 2.0], 5) == [1.0, 2.0]


def test_the_four_closing_lines(report):
    assert summary_lines(report) == [
        "gpucost: run 20260725-174501-a1b2c3, 151.4 s, exit 0",
        "gpucost: cost $0.5787, 0.08411 GPU-h",
        "gpucost: busy ≥ 38.8 %, idle waste $0.3293 (≥ 56.9 %)",
        "gpucost: report: gpucost report 20260725-174501-a1b2c3",
    ]


def test_the_closing_lines_of_simulated_unpriced_and_gpuless_runs():
    gpu = a_gpu(name="X", simulated=True)
    lines = summary_lines(report_of(Scenario([gpu], {(gpu.uuid, NO_STAGE, "busy"): 100 * S})))
    assert lines[0].startswith("gpucost: SIMULATED, run ")
    assert lines[1:3] == ["gpucost: cost unknown, 0.02778 GPU-h", "gpucost: busy 100.0 %, idle waste 0.0 s (0.0 %)"]
    assert summary_lines(report_of(Scenario(gpus=[])))[1] == "gpucost: no GPU was held, so there is no GPU cost"


def test_the_same_recording_gives_the_same_report():
    assert report_of(demo()).to_json() == report_of(demo()).to_json()


def test_a_ledger_of_nothing_has_a_report():
    report = report_of(Scenario([a_gpu()], {}, end_ns=0))
    assert report.total.gpu_time_s.value == 0
    assert isinstance(report.to_json(), dict)


def test_every_reason_for_unknown_time_has_a_sentence():
    from gpucost.analyzers.uses import KNOWN, REASONS
    from gpucost.report.quality import _REASONS

    assert set(REASONS) - {KNOWN} == set(_REASONS)


def stage_of(report, path):
    return next(row for row in report.stages if row.path == path)


def test_the_energy_of_a_stage_comes_with_its_error():
    row = stage_of(report_of(demo(energy_errors={"plan": 8.3})), "plan")
    assert row.total_energy_j.text.endswith("Wh ±8 %")
    assert row.energy_error_pct.value == 8.3


def test_an_error_smaller_than_the_sensors_own_is_in_the_json_only():
    row = stage_of(report_of(demo(energy_errors={"plan": 4.9})), "plan")
    assert "±" not in row.total_energy_j.text
    assert row.energy_error_pct.value == 4.9


def test_the_energy_of_a_stage_too_short_for_the_sensor_is_no_figure_anywhere():
    row = stage_of(report_of(demo(energy_errors={"plan": 60.0})), "plan")
    for energy in (row.self_energy_j, row.total_energy_j):
        assert energy.value is None
        assert energy.text == "too short"
    assert row.energy_error_pct.value is None


def test_a_stage_too_short_for_the_sensor_does_not_touch_the_energy_of_the_run(report):
    assert report_of(demo(energy_errors={"plan": 60.0})).total.energy_j == report.total.energy_j
