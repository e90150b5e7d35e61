"""Comparisons: what is printed adds up, what is not known says so, and the verdicts are those of the statistics."""

import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from compare_factory import a_report, compared, history, renamed, slower
from gpucost.analyzers.model import NO_STAGE, USES
from gpucost.report.changes import ADDITIVE
from gpucost.report.compare import compare
from report_factory import S, Scenario, a_gpu, demo, report_of

PATHS = ("plan", "plan > search", "train", NO_STAGE)


def printed(text: str) -> Decimal:
    """The number that a reader sees; clock times in seconds."""
    if text == "–":
        return Decimal(0)
    clock = re.fullmatch(r"([+-]?)(?:([\d,]+)h )?(\d+)m (\d+)s", text)
    if clock:
        seconds = int((clock[2] or "0").replace(",", "")) * 3600 + int(clock[3]) * 60 + int(clock[4])
        return Decimal(-seconds if clock[1] == "-" else seconds)
    return Decimal(re.sub(r"[^\d.\-]", "", text))


def adds_up(comparison) -> None:
    """Every column of stages and of GPUs adds up to the run as printed, and every row's difference is that of its printed sides.

    A figure that is not known for a whole side is not known for any part of it.
    """
    unknown = {
        metric
        for metric in ADDITIVE
        if "unknown" in (comparison.run[metric].base.text, comparison.run[metric].head.text)
    }
    for rows in (comparison.stages, comparison.gpus):
        assert {row.changes[metric].delta.text for row in rows for metric in unknown} <= {"unknown"}
        for metric in set(ADDITIVE) - unknown:
            whole = comparison.run[metric]
            for side in ("base", "head", "delta"):
                parts = [printed(getattr(row.changes[metric], side).text) for row in rows]
                assert sum(parts) == printed(getattr(whole, side).text), (metric, side)
            for row in rows:
                one = row.changes[metric]
                assert printed(one.head.text) - printed(one.base.text) == printed(one.delta.text)
    shown = [row for row in comparison.stages if row.shown]
    if comparison.stages_folded:
        for metric in set(ADDITIVE) - unknown:
            parts = [printed(row.changes[metric].delta.text) for row in shown]
            rest = printed(comparison.stages_folded.changes[metric].delta.text)
            assert sum(parts) + rest == printed(comparison.run[metric].delta.text)


cells = st.dictionaries(
    st.tuples(st.integers(0, 1), st.sampled_from(PATHS), st.sampled_from(USES)), st.integers(1, 10**12), max_size=10
)


@st.composite
def scenarios(draw):
    cube = {(a_gpu(number).uuid, path, use): ns for (number, path, use), ns in draw(cells).items()}
    gpus = [a_gpu(number) for number in range(draw(st.integers(1, 2)))]
    held = {gpu.uuid for gpu in gpus}
    cube = {key: ns for key, ns in cube.items() if key[0] in held}
    spans = {path: [(0, S)] for path in PATHS if path != NO_STAGE}
    power = draw(st.floats(0.001, 900.0))
    return Scenario(gpus, cube, end_ns=10**12, spans=spans, power_w=power)


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(scenarios(), min_size=1, max_size=3), st.lists(scenarios(), min_size=1, max_size=3))
def test_the_differences_of_stages_and_gpus_add_up_to_the_runs_as_printed(base, head):
    adds_up(compare([report_of(one) for one in base], [report_of(one) for one in head]))


@pytest.mark.parametrize("make", [compared, lambda: renamed(energy_errors={})])
def test_the_differences_of_made_up_runs_add_up_too(make):
    adds_up(make())


def test_many_stages_are_folded_into_a_row_that_adds_up():
    gpu = a_gpu(0)

    def run(factor: int):
        cube = {(gpu.uuid, f"s{number:03d}", "busy"): factor * (number + 1) * S for number in range(80)}
        return report_of(Scenario([gpu], cube, end_ns=10**13, spans={path: [(0, S)] for _, path, _ in cube}))

    comparison = compare([run(1)], [run(2)])
    assert comparison.stages_folded.count == 80 + 1 - sum(row.shown for row in comparison.stages)
    assert "s079" in {row.path for row in comparison.stages if row.shown}
    adds_up(comparison)


def test_a_side_of_several_runs_is_their_mean():
    runs = [a_report(number, train_s=seconds) for number, seconds in enumerate((30.0, 60.0, 120.0))]
    comparison = compare(runs, [runs[1]])
    assert comparison.run["gpu_time_s"].base.value == pytest.approx(95.0)
    train = next(row for row in comparison.stages if row.path == "train")
    assert train.changes["cost_usd"].base.value == pytest.approx(float(Fraction(688, 100) * 70 / 3600))


def test_the_stage_that_took_longer_is_told_from_those_that_did_not():
    words = {row.path: row.changes["cost_usd"].word for row in compared().stages}
    assert words == {"plan": "same", "train": "worse", NO_STAGE: "same"}


def test_less_is_better_and_more_busy_time_is_neither():
    comparison = compare(history(), slower(5, 30.0))
    assert comparison.run["cost_usd"].word == "better"
    assert comparison.run["busy_s"].word == "lower"
    assert comparison.run["busy_s"].worse is None


def test_a_history_of_four_is_reported_and_not_judged():
    comparison = compare(history(4), slower(1))
    assert comparison.method.name == "report-only"
    assert {change.direction for change in comparison.run.values()} == {"undecided"}
    assert "none is judged" in comparison.method.text
    assert comparison.run["cost_usd"].delta_pct.value > 30


def test_one_new_run_says_that_it_can_only_see_big_changes():
    comparison = compare(history(), slower(1))
    assert comparison.method.name == "median-mad"
    assert "one run can only see big changes" in comparison.method.text
    assert comparison.run["cost_usd"].word == "worse"
    assert compare(history(), slower(1, 61.0)).run["cost_usd"].word == "same"


def test_a_stage_that_went_came_or_was_renamed_is_named():
    found = {row.path: (row.presence, row.was) for row in renamed().stages}
    assert found["execute > fit"] == ("renamed", "execute > train")
    assert found["publish"] == ("added", None)
    assert found["verify"] == ("both", None)


def test_money_that_is_not_known_on_one_side_is_unknown_and_never_zero():
    unpriced = report_of(demo(gpus=[a_gpu(0, name="Imaginary"), a_gpu(1, name="Imaginary")]))
    comparison = compare([unpriced], [report_of(demo())])
    cost = comparison.run["cost_usd"]
    assert (cost.base.value, cost.base.text, cost.delta.text, cost.direction) == (None, "unknown", "unknown", "unknown")
    assert {row.changes["cost_usd"].delta.value for row in comparison.stages} == {None}
    assert comparison.run["gpu_time_s"].delta.value == 0.0
    assert any("without a price" in note for note in comparison.notes)


def test_one_run_without_a_price_makes_its_whole_side_unknown():
    unpriced = report_of(demo(gpus=[a_gpu(0, name="Imaginary"), a_gpu(1, name="Imaginary")]))
    assert compare([report_of(demo()), unpriced], [report_of(demo())]).run["cost_usd"].base.value is None


def test_a_price_that_changed_is_said():
    comparison = compare([report_of(demo(), price="2")], [report_of(demo(), price="3")])
    assert comparison.run["gpu_time_s"].delta.text.strip("0.s ") == ""
    assert any("$2.00" in note and "$3.00" in note for note in comparison.notes)


def test_gpus_are_matched_by_position_where_their_uuids_differ():
    one = report_of(demo())
    other_gpus = [a_gpu(0), a_gpu(7)]
    cube = {
        (other_gpus[1].uuid if uuid == a_gpu(1).uuid else uuid, path, use): ns
        for (uuid, path, use), ns in demo().cube.items()
    }
    other = report_of(demo(gpus=other_gpus, cube=cube, unknown=[], events=[]))
    comparison = compare([one], [other])
    assert [row.presence for row in comparison.gpus] == ["both", "both"]
    assert comparison.gpus[1].changes["gpu_time_s"].delta.value == 0.0


def test_each_side_needs_a_run():
    with pytest.raises(ValueError, match="at least one"):
        compare([], history(1))


def energy_of(comparison, path):
    return next(row for row in comparison.stages if row.path == path).total["energy_j"]


def test_a_difference_of_energies_within_the_sensors_error_is_no_change():
    """A third more, and each side may be off by a fifth; without the error it is more than the noise."""
    sure = compare(history(), slower(5, 80.0))
    assert energy_of(sure, "train").direction == "higher"
    unsure = compare(
        [a_report(number, train_s=60.0 + number % 3, energy_errors={"train": 20.0}) for number in range(6)],
        slower(5, 80.0, energy_errors={"train": 20.0}),
    )
    found = energy_of(unsure, "train")
    assert found.direction == "same"
    assert found.note == "within what the sensor leaves open"
    assert found.delta.text.endswith("(within error)")
    assert found.base.text.endswith("±20 %")
    assert next(row for row in unsure.stages if row.path == "train").total["cost_usd"].direction == "higher"


def test_the_energy_of_a_stage_too_short_on_one_side_is_not_compared():
    found = energy_of(compare(history(), slower(5, energy_errors={"train": 70.0})), "train")
    assert found.base.value is not None
    for figure in (found.head, found.delta, found.delta_pct):
        assert figure.value is None
        assert figure.text == "too short"
    assert (found.direction, found.note) == ("unknown", "too short for the sensor to tell")


def test_a_stage_too_short_for_the_sensor_leaves_its_parent_and_the_run_known():
    short = [report_of(demo(energy_errors={"plan > tool:search": 70.0}))]
    found = compare(short, short)
    assert (
        energy_of(found, "plan").base.value
        == energy_of(compare([report_of(demo(energy_errors={}))] * 1, short), "plan").base.value
    )
    assert found.run["energy_j"].base.value is not None
